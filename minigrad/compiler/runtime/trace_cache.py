"""The trace cache keeps a limited number of executables, and warns of what makes calls slow."""

import warnings

from ...engine.tracer import users_line
from ..tracing.signature import Signature, shapes_of
from .executable import Executable
from .report import by_numpy

MOST_ALIKE = 16  # executables for arrays of the same shapes, with other guarded values
MOST_EXECUTABLES = 128  # executables in all, enough for sequences of many lengths


class TraceCache(dict[Signature, list[Executable]]):
    """A TraceCache has a list of executables for each signature; the most recent is last."""

    def __init__(self, title: str) -> None:
        super().__init__()
        self._title = title
        self._complained = False
        self._said: set[str] = set()  # operations that a warning has named

    def keep(self, signature: Signature, executable: Executable) -> None:
        """Add an executable, and drop the oldest one if there are too many."""
        self._tell(executable)
        self[signature] = [*self.pop(signature, []), executable]
        shapes = shapes_of(signature)
        same_shapes = [other for other in self if shapes_of(other) == shapes]
        if sum(len(self[other]) for other in same_shapes) > MOST_ALIKE:
            self._drop(same_shapes[0])
            self._complain()
        if sum(map(len, self.values())) > MOST_EXECUTABLES:
            self._drop(next(iter(self)))

    def knows_shapes(self, signature: Signature) -> bool:
        """Return whether there is an executable for arrays of the same shapes."""
        shapes = shapes_of(signature)
        return any(shapes_of(other) == shapes for other in self)

    def warn(self, messages: list[str]) -> None:
        """Give these warnings, and clear the list."""
        while messages:
            self._complained = True  # a warning that names no cause would add nothing
            _warn(messages.pop(0))

    def _drop(self, signature: Signature) -> None:
        """Drop the oldest executable of a signature."""
        del self[signature][0]
        if not self[signature]:
            del self[signature]

    def _tell(self, executable: Executable) -> None:
        left = set(by_numpy(executable)) - self._said
        self._said |= left
        if left:
            _warn(
                f"compile: {', '.join(sorted(left))} cannot be compiled, and runs by NumPy between "
                "compiled functions"
            )

    def _complain(self) -> None:
        if not self._complained:
            self._complained = True
            _warn(
                f"compile: {self._title} was traced more than {MOST_ALIKE} times for arrays of the "
                "same shapes, since something that it reads is another in each call: an argument "
                "that is no array, a number outside, or an attribute (does the step count?); "
                "make it an array"
            )


def _warn(message: str) -> None:
    warnings.warn_explicit(message, RuntimeWarning, *users_line())
