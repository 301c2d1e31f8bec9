"""External calls go from generated code to kernels that are compiled separately.

Numba would compile a kernel again into each function that calls it, which takes longer than the
rest of a generated training step. Here, the machine code of the caller refers to the kernel by a
symbol. The symbol must exist before the caller is loaded, so an entry of the disk cache lists the
kernels that its code calls.
"""

from collections.abc import Iterable

import numba.core.cgutils
import numba.core.codegen
from numba.extending import intrinsic

from .numba_types import (
    Builder,
    Context,
    Dispatcher,
    Intrinsic,
    Library,
    NumbaType,
    Signature,
    TypingContext,
    Untyped,
    Value,
    Values,
)

types: Untyped = numba.types
cgutils: Untyped = numba.core.cgutils
llvm: Untyped = vars(numba.core.codegen)["ll"]  # llvmlite's, which comes with Numba

Call = tuple[str, tuple[NumbaType, ...]]  # the name of a kernel and the types of its arguments

_kernels: dict[str, Dispatcher] = {}
_symbols: dict[str, tuple[Call, Library]] = {}  # each with its machine code, to keep that alive


def external(kernel: Dispatcher) -> Dispatcher:
    """Return a version of the kernel that compiled callers call by its symbol.

    An exception in the kernel, such as MemoryError, is raised in the caller, too.
    """
    name = f"{kernel.py_func.__module__}.{kernel.py_func.__qualname__}"
    _kernels[name] = kernel

    def call(_typing: TypingContext, *arguments: NumbaType) -> Intrinsic:
        kinds = tuple(types.unliteral(argument) for argument in arguments)
        symbol = _symbol((name, kinds))
        result = kernel.overloads[kinds].signature.return_type

        def generate(context: Context, builder: Builder, _: Signature, packed: Values) -> Value:
            values = cgutils.unpack_tuple(builder, packed[0])
            convention = context.call_conv
            function_type = convention.get_function_type(result, kinds)
            address = cgutils.get_or_insert_function(builder.module, function_type, symbol)
            status, value = convention.call_function(builder, address, result, kinds, values)
            with cgutils.if_unlikely(builder, status.is_error):
                convention.return_status_propagate(builder, status)
            return value

        return result(types.StarArgTuple.from_types(kinds)), generate

    called: Dispatcher = intrinsic(call)
    called.in_python = kernel
    return called


def called_by(library: Library) -> list[Call]:
    """Return the external calls in a library that was just compiled."""
    names = (function.name for function in library._final_module.functions)
    return [_symbols[name][0] for name in names if name in _symbols]


def load_called(calls: Iterable[Call]) -> None:
    """Load or compile the kernels in `calls`, before the machine code that calls them is loaded.

    Errors: those of compiling, and KeyError for an unknown kernel.
    """
    for call in calls:
        _symbol(call)


def free_module(module: str) -> None:
    """Free the kernels of an unused module, and their machine code."""
    for name in [name for name in _kernels if name.rpartition(".")[0] == module]:
        del _kernels[name]
        for symbol in [s for s, (call, _) in _symbols.items() if call[0] == name]:
            del _symbols[symbol]


def _symbol(call: Call) -> str:
    """Return the symbol of a call's kernel; load or compile the kernel if necessary."""
    name, kinds = call
    symbol = f"{name}{kinds}"
    if symbol not in _symbols:
        kernel = _kernels[name]
        llvm.add_symbol(symbol, code_address(kernel, kinds))
        _symbols[symbol] = call, kernel.overloads[kinds].library
    return symbol


def code_address(kernel: Dispatcher, kinds: tuple[NumbaType, ...]) -> int:
    """Return the address of a kernel's machine code; load or compile it if necessary."""
    kernel.compile(kinds)
    compiled = kernel.overloads[kinds]
    address: int = compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)
    return address
