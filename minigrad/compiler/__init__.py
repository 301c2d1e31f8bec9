"""The compiler: from an eager step to one compiled function, by the tape's own operations.

trace.py writes down what a step applies, program.py is the list, passes.py and sums.py make it do
less (views.py says what is the memory of what), expansions.py and indices.py bring it to forms that
there is code for (written.py helps), schedule.py forms nests of loops, emit.py, functions.py,
loops.py, calls.py and moves.py write Python (rolled.py that of long programs, names.py has unique
names, aliases.py says what is in the memory of what), layout.py lays memory out, build.py lets
Numba compile it, plan.py runs it, step.py is mg.compile, arguments.py what a step is
given, results.py what it returns, epoch.py runs it on many batches, report.py tells what became of
it, kept.py keeps plans, methods.py those of methods. watch.py finds what a step names outside, by
looking.py, which runs none of the user's code; guards.py tells whether that is as it was, leaks.py
what the step has left there. May import all of minigrad but explainer.
"""

from .step import Compiled, compile

__all__ = ["Compiled", "compile"]
