"""The compiler turns an eager step into one compiled function: mg.compile.

In: a function of Tensors. Out: a `CompiledFunction`, which traces it, compiles it and runs it. Read
api.py, then the stages in order: tracing/ (operations and guards), ir/ (programs of operations),
passes/ (shorter programs), codegen/ (Python for Numba), runtime/ (memory and calls).
"""

from .api import CompiledFunction, compile

__all__ = ["CompiledFunction", "compile"]
