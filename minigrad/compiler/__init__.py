"""The compiler: from an eager step to one compiled function, by the tape's own operations.

trace.py writes down what a step applies, program.py is the list, passes.py makes it do less,
schedule.py forms nests of loops, emit.py, loops.py and calls.py write Python, build.py lets Numba
compile it, plan.py runs it, and step.py is mg.compile. May import all of minigrad but explain.
"""

from .step import Compiled, compile

__all__ = ["Compiled", "compile"]
