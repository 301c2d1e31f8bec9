"""How parts of kernels are compiled: to be inlined, and no further.

Numba takes each function that it meets through all of LLVM, to machine code that can be called, and
then compiles it again within its caller, and that within the next. A part is only ever inlined: it
is left as it was lowered, and optimised once, in the kernel. BatchNorm's kernels, whose
parts have parts in turn, compile in 0.6 of the time, to code of the same speed.

Undocumented, and checked with Numba 0.61 and 0.68: what is overridden here. Where it is missing,
the import fails, and jit.py compiles parts as Numba does.
"""

from typing import Any

import numba.core.codegen
import numba.core.compiler

# Numba does not type them.
_Library: Any = numba.core.codegen.JITCodeLibrary
_Compiler: Any = numba.core.compiler.Compiler


class _Codegen:
    """Numba's, but for the environment, which is for code that Python calls."""

    def __init__(self, codegen: Any) -> None:
        self._codegen = codegen

    def __getattr__(self, name: str) -> Any:
        return getattr(self._codegen, name)

    def set_env(self, _name: str, _environment: Any) -> None:
        """There is no machine code that could read it."""


class _Lowered(_Library):  # type: ignore[misc]
    """A function in LLVM's language, for others to link in."""

    @property
    def codegen(self) -> Any:
        return _Codegen(self._codegen)

    def _optimize_final_module(self) -> None:
        """Left to the kernel."""

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._verify_declare_only_symbols()
        self._finalized = True

    def get_pointer_to_function(self, _name: str) -> int:
        self._ensure_finalized()
        return 0


class Inlined(_Compiler):  # type: ignore[misc]
    """Numba's compiler, as `pipeline_class`, for what only compiled code calls."""

    def compile_extra(self, function: Any) -> Any:
        """Compile, into a library of the kind above."""
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
