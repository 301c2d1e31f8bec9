"""States are the arrays and numbers outside a traced function that each call of it reads again."""

from abc import ABC, abstractmethod

import numpy as np

from ...engine.tape import bindings
from ...engine.tensor import Tensor
from ...engine.tracer import Fetch
from ...optim.live_state import LiveNumbers, LiveState
from ...optim.optimizer import Optimizer
from ...types import Array
from ..codegen.module import Emitted
from ..ir.live_numbers import plain
from ..ir.program import Program, Value
from ..tracing.captures import Captures
from ..tracing.derivative import Derivative
from ..tracing.guards import ITEM, Guards
from ..tracing.trace import Trace
from .buffers import Memory, Workspace


class States(ABC):
    """States has the states of a program, and tells whether its trace is still valid.

    captures: what the function reads outside itself, as it is at the end of the trace.
    """

    def __init__(
        self,
        trace: Trace | Derivative,
        captures: Captures,
        program: Program,
        emitted: Emitted,
        workspace: Workspace,
    ) -> None:
        self.program, self.emitted = program, emitted
        self.memory = Memory(program, emitted, workspace)
        self._guards, self._bound = captures.guards, captures.bound
        self.captured = [x for _, x in captures.tensors]
        self._owners = trace.owners
        self._changed = list(dict.fromkeys(v for op in program.operations for v in op.changes))
        self._numbers = np.array(list(map(plain, emitted.numbers)), np.float64)
        self._tensors: list[tuple[Tensor, Array, bool, Value]] = []
        self._fetches: list[tuple[Fetch, Array, Value]] = []
        self._pending: list[LiveState] = []  # state that the next call creates
        self._note_states()
        self._live = Guards()  # the readings that decide which arrays the states have
        self._hyper = Guards()  # the readings that decide which numbers there are
        self._live.read(ITEM, bindings, 0)
        for fetch, _, _ in self._fetches:
            numbers = isinstance(fetch, LiveNumbers)
            (self._hyper if numbers else self._live).depend(fetch)
        self.live_numbers = trace.numbers
        for code, given in trace.reads_numbers:
            self._hyper.read(code, *given)

    @abstractmethod
    def _rewrite(self) -> None:
        """Let the next call write its code again, for other memory or other work to do."""

    def guards_hold(self) -> bool:
        """Return whether all that the trace has read outside the function is unchanged.

        If an array of a state has been replaced by another that fits, later calls use the new one.
        """
        return (
            (self._guards.unchanged() or self._guards())
            and (self._live.unchanged() or self._renew_states())
            and (self._hyper.unchanged() or self._renew_numbers())
        )

    def _renew_states(self) -> bool:
        """Use the arrays that the states have now, and return whether they fit."""
        now = self._live.now()
        if not self._bound():
            return False
        try:
            found = [(v, fetch()) for fetch, _, v in self._fetches]
        except Exception:  # the state is gone
            return False
        if not self._same_leaves():
            return False
        if not self.memory.replace([(v, x._data) for x, _, _, v in self._tensors] + found):
            return False
        self._note_states()
        self._live.accept(now)
        return True

    def _same_leaves(self) -> bool:
        """Return whether the states that require grad are those of the trace."""
        return all(x._requires_grad is wanted for x, _, wanted, _ in self._tensors)

    def _renew_numbers(self) -> bool:
        """Use the numbers that the step's places and the optimizers have now, if they fit.

        Return whether they do.
        """
        now = self._hyper.now()
        if not self.live_numbers.renew():
            return False
        numbers = [fetch for fetch, _, _ in self._fetches if isinstance(fetch, LiveNumbers)]
        try:
            fits = all(fetch() is not None for fetch in numbers)
        except Exception:  # a value that cannot be used: a new trace raises the error
            fits = False
        if not fits:  # some of the numbers are the new ones already
            self._hyper.forget()
            return False
        if self.live_numbers.numbers:
            self._numbers[:] = list(map(plain, self.emitted.numbers))
        self._hyper.accept(now)
        return True

    def states(self) -> list[tuple[Value, Array]]:
        """Return the states, with the current array of each."""
        return [(v, array) for _, array, _, v in self._tensors] + [
            (v, array) for _, array, v in self._fetches
        ]

    def tensors(self) -> list[Tensor]:
        """Return the user's Tensors: those of states, and others that the captures have found."""
        return list(dict.fromkeys((*self._owners.values(), *self.captured)))

    def changed_constants(self) -> list[Array]:
        """Return the NumPy arrays from outside that a call changes in place."""
        return [self.memory.outer(v) for v in self._changed if v.origin == "constant"]

    def owner(self, v: Value) -> Tensor | None:
        """Return the user's Tensor that has the array of a state, or None."""
        return self._owners.get(v)

    def optimizers(self) -> list[Optimizer]:
        """Return the optimizers whose state a call changes."""
        live = [fetch for fetch, _, _ in self._fetches if isinstance(fetch, LiveState)]
        return list(dict.fromkeys(each.optimizer for each in live))

    def _note_states(self) -> None:
        """Note the current arrays of states, and the optimizer state that the next call creates."""
        self._rewrite()
        self._tensors, self._fetches, self._pending = [], [], []
        for v in self.program.values():
            if v in self._owners:
                x = self._owners[v]
                self._tensors.append((x, self.memory.outer(v), x._requires_grad, v))
            elif v.fetch is not None:
                self._fetches.append((v.fetch, self.memory.outer(v), v))
                if isinstance(v.fetch, LiveState) and v.fetch.pending is not None:
                    self._pending.append(v.fetch)
