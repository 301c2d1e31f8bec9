"""The compiler turns an eager step into one compiled function, made of the tape's own operations.

Read the files in the order in which a step passes through them:

1. step.py is mg.compile. arguments.py tells the calls of a function apart, methods.py keeps the
   compiled methods of objects, and kept.py keeps the plans of a function.
2. trace.py runs the step once with arrays that have no elements, and notes its operations as a
   program (program.py). results.py takes apart what the step returns.
3. watch.py finds what the step names outside itself, with the help of looking.py. guards.py tells
   whether that is still as it was. leaks.py refuses Tensors that the step leaves there.
4. passes.py and sums.py shorten the program. decompose.py rewrites operations as others that
   there is code for, with builder.py. views.py tells what may share memory.
5. schedule.py groups operations into nests of loops. emit.py writes Python with functions.py,
   loops.py, calls.py and moves.py, and rolled.py for long
   programs. aliases.py tells which results are views in that code.
6. build.py lets Numba compile the Python, layout.py and memory.py place the arrays, and plan.py
   runs the whole. epoch.py runs it on many batches, and report.py describes it.
7. interpreter.py runs a program in NumPy, and check.py compares compiled calls with eager ones.

names.py makes unique names. The package may import all of minigrad but explainer.
"""

from .api import Compiled, compile

__all__ = ["Compiled", "compile"]
