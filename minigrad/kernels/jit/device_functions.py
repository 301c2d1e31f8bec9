"""Device functions are compiled only as far as inlining requires.

Numba would compile each function to machine code that nothing calls, and then again as a part of
each caller. Here, a device function stays in LLVM's language, and is optimised in the kernel only.

The module overrides undocumented methods of Numba, checked with 0.61 and 0.68. If one of them is
missing, importing the module fails, and decorators.py compiles device functions as Numba does.
"""

from types import FunctionType

import numba.core.codegen
import numba.core.compiler

from .numba_types import Codegen, CompileResult, Untyped

_Library: Untyped = numba.core.codegen.JITCodeLibrary
_Compiler: Untyped = numba.core.compiler.Compiler


class _Codegen:
    """Numba's code generator without environments, which only code that Python calls needs."""

    def __init__(self, codegen: Codegen) -> None:
        self._codegen = codegen

    def __getattr__(self, name: str) -> object:
        return getattr(self._codegen, name)

    def set_env(self, _name: str, _environment: object) -> None:
        """Do nothing, since there is no machine code that could read the environment."""


class _Lowered(_Library):  # type: ignore[misc]
    """A library that holds a function in LLVM's language; kernels link it in."""

    @property
    def codegen(self) -> _Codegen:
        return _Codegen(self._codegen)

    def _optimize_final_module(self) -> None:
        """Do nothing, since the kernel is optimised as a whole."""

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._verify_declare_only_symbols()
        self._finalized = True

    def get_pointer_to_function(self, _name: str) -> int:
        self._ensure_finalized()
        return 0


class Inlined(_Compiler):  # type: ignore[misc]
    """Numba's compiler for device functions, for the option `pipeline_class`."""

    def compile_extra(self, function: FunctionType) -> CompileResult:
        """Compile the function into a library that has no machine code."""
        codegen = self.state.targetctx.codegen()
        self.state.library = _Lowered(codegen, function.__qualname__)
        self.state.library.enable_object_caching()
        return super().compile_extra(function)


for _name in (
    *("_optimize_final_module", "_finalize_final_module", "get_pointer_to_function"),
    *("_finalize_dynamic_globals", "_verify_declare_only_symbols", "_ensure_finalized"),
):
    if not hasattr(_Library, _name):
        raise ImportError(f"Numba {numba.__version__} has no {_name}")
