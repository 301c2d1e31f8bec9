"""How device functions are compiled: only as far as inlining them needs.

Numba takes each function through all of LLVM to machine code, and then compiles it again as a part
of its caller. A device function is left as Numba lowered it, and is optimised once, in the kernel.

The module overrides undocumented methods of Numba, checked with 0.61 and 0.68. Where one of them is
missing, importing the module fails, and decorators.py compiles device functions as Numba does.
"""

from typing import Any

import numba.core.codegen
import numba.core.compiler

# Not typed by Numba.
_Library: Any = numba.core.codegen.JITCodeLibrary
_Compiler: Any = numba.core.compiler.Compiler


class _Codegen:
    """Numba's code generator without environments, which only code called by Python has."""

    def __init__(self, codegen: Any) -> None:
        self._codegen = codegen

    def __getattr__(self, name: str) -> Any:
        return getattr(self._codegen, name)

    def set_env(self, _name: str, _environment: Any) -> None:
        """Do nothing, since no machine code could read the environment."""


class _Lowered(_Library):  # type: ignore[misc]
    """A library that holds a function in LLVM's language, for kernels to link in."""

    @property
    def codegen(self) -> Any:
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
    """Numba's compiler for device functions, given to it as `pipeline_class`."""

    def compile_extra(self, function: Any) -> Any:
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
