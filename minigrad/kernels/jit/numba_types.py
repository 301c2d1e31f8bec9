"""These aliases name the objects of Numba and LLVM that extensions of Numba's compiler handle.

Most aliases are Any, since Numba declares no types for the methods of its classes, and importing
the classes would import its whole compiler.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

NumbaType: TypeAlias = Any  # numba.core.types.Type: the type of an argument or a result
Signature: TypeAlias = Any  # numba.core.typing.Signature: the types of arguments and result
TypingContext: TypeAlias = Any  # numba.core.typing.BaseContext, which infers types
Context: TypeAlias = Any  # numba.core.base.BaseContext, which lowers types to LLVM's
Builder: TypeAlias = Any  # llvmlite.ir.IRBuilder, which appends instructions
Value: TypeAlias = Any  # llvmlite.ir.Value: an argument or result in LLVM's language
Values: TypeAlias = Sequence[Value]
Library: TypeAlias = Any  # numba.core.codegen.CodeLibrary: a module of machine code
Codegen: TypeAlias = Any  # numba.core.codegen.Codegen, which makes libraries
CompileResult: TypeAlias = Any  # numba.core.compiler.CompileResult: code for one signature
Dispatcher: TypeAlias = Any  # numba.core.dispatcher.Dispatcher: a compiled function, for Python
Untyped: TypeAlias = Any  # a module, class or function of Numba, whose own functions have no types

# What an intrinsic returns: its signature, and a function that writes the code of a call.
Intrinsic: TypeAlias = tuple[Signature, Callable[[Context, Builder, Signature, Values], Value]]
