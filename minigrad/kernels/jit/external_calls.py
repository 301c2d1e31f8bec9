"""Calls of kernels that stay where they are. Numba would have LLVM compile a kernel anew into each
function that calls it, which takes longer than all the rest of a generated training step.

The machine code of such a caller knows the kernel by a symbol, which must be there before the
caller is loaded: an entry of the disk cache therefore lists what it calls.
"""

from collections.abc import Iterable
from typing import Any

import numba.core.cgutils
import numba.core.codegen
from numba.extending import intrinsic

types: Any = numba.types  # without types of their own
cgutils: Any = numba.core.cgutils
llvm: Any = vars(numba.core.codegen)["ll"]  # llvmlite's, which comes with Numba

Called = tuple[str, tuple[Any, ...]]  # a kernel's name, and the types of its arguments

_kernels: dict[str, Any] = {}
_symbols: dict[str, tuple[Called, Any]] = {}  # with the machine code, so that it stays


def outside(kernel: Any) -> Any:
    """The kernel for compiled callers, who will call it by its address. An exception in it, as of
    memory that cannot be had, is one of its caller."""
    name = f"{kernel.py_func.__module__}.{kernel.py_func.__qualname__}"
    _kernels[name] = kernel

    def call(_typing: Any, *arguments: Any) -> Any:
        given = tuple(types.unliteral(argument) for argument in arguments)
        symbol = _symbol((name, given))
        result = kernel.overloads[given].signature.return_type

        def generate(context: Any, builder: Any, _signature: Any, packed: Any) -> Any:
            values = cgutils.unpack_tuple(builder, packed[0])
            convention = context.call_conv
            kind = convention.get_function_type(result, given)
            address = cgutils.get_or_insert_function(builder.module, kind, symbol)
            status, value = convention.call_function(builder, address, result, given, values)
            with cgutils.if_unlikely(builder, status.is_error):
                convention.return_status_propagate(builder, status)
            return value

        return result(types.StarArgTuple.from_types(given)), generate

    called: Any = intrinsic(call)
    called.in_python = kernel
    return called


def called_by(library: Any) -> list[Called]:
    """What machine code that was just compiled calls outside."""
    names = (function.name for function in library._final_module.functions)
    return [_symbols[name][0] for name in names if name in _symbols]


def bring(called: Iterable[Called]) -> None:
    """Load or compile what machine code calls that will be loaded. Errors: those of compiling, and
    KeyError for a kernel that is not here."""
    for each in called:
        _symbol(each)


def forget(module: str) -> None:
    """Forget the kernels of a module that nothing uses any more, and their machine code."""
    for name in [name for name in _kernels if name.rpartition(".")[0] == module]:
        del _kernels[name]
        for symbol in [s for s, (called, _) in _symbols.items() if called[0] == name]:
            del _symbols[symbol]


def _symbol(called: Called) -> str:
    name, given = called
    symbol = f"{name}{given}"
    if symbol not in _symbols:
        kernel = _kernels[name]
        kernel.compile(given)
        made = kernel.overloads[given]
        address = made.library.get_pointer_to_function(made.fndesc.llvm_func_name)
        llvm.add_symbol(symbol, address)
        _symbols[symbol] = called, made.library
    return symbol
