"""The compiler turns an eager step into one compiled function: mg.compile.

A function of Tensors goes in. A `CompiledFunction` comes out, which traces, compiles and runs it.
A Module goes in, and a `CompiledModule` comes out, whose calls are those of such a function.
Read api.py (methods.py: compiled methods), ir/ (programs of operations), then the stages in order:
tracing/ (operations and guards), passes/ (shorter programs), codegen/ (Python for Numba), runtime/
(memory and calls).
"""

from .api import CompiledFunction, compile
from .module import CompiledModule

__all__ = ["CompiledFunction", "CompiledModule", "compile"]
