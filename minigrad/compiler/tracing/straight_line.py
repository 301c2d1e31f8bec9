"""Straight-line code does for known objects, line by line, what a loop would do for any objects."""

import builtins
import functools
import types
from collections.abc import Callable, Sequence
from typing import Any


class StraightLine:
    """A StraightLine is a Python function that is written line by line, for code that runs often.

    The objects that lines name are default values of further parameters.

    parameters: the names of the function's own parameters.
    """

    def __init__(self, *parameters: str) -> None:
        self._parameters = parameters
        self._lines: list[str] = []
        self._names: dict[int, str] = {}
        self._objects: list[object] = []
        self._fresh = 0
        self._shared: dict[str, str] = {}

    def name(self, x: object) -> str:
        """Return an expression for an object: its name, or a literal."""
        if type(x) is str or type(x) is int or type(x) is bool or x is None:
            return repr(x)
        if id(x) not in self._names:
            self._names[id(x)] = f"o{len(self._objects)}"
            self._objects.append(x)
        return self._names[id(x)]

    def fresh(self, count: int) -> list[str]:
        """Return names of new local variables."""
        self._fresh += count
        return [f"v{i}" for i in range(self._fresh - count, self._fresh)]

    def add(self, line: str, indent: int = 1) -> None:
        """Add a line."""
        self._lines.append("    " * indent + line)

    def shared(self, expression: str, indent: int = 1) -> str:
        """Return a local variable with the value of an expression, which is evaluated once."""
        if expression not in self._shared:
            (self._shared[expression],) = self.fresh(1)
            self.add(f"{self._shared[expression]} = {expression}", indent)
        return self._shared[expression]

    def unpack(self, sequence: str, names: Sequence[str], indent: int = 1) -> None:
        """Add a line that unpacks a sequence into local variables, unless there are none."""
        if names:
            self.add(f"{', '.join(names)}, = {sequence}", indent=indent)

    def function(self) -> Callable[..., Any]:
        """Return the function."""
        head = ", ".join([*self._parameters, *(f"{name}=None" for name in self._names.values())])
        code = _code("\n".join([f"def straight({head}):", *self._lines, "    pass"]))
        return types.FunctionType(code, _GLOBALS, argdefs=tuple(self._objects))


_GLOBALS = {"__builtins__": vars(builtins)}


@functools.lru_cache(maxsize=256)
def _code(source: str) -> types.CodeType:
    space: dict[str, Any] = {}
    exec(source, space)
    code: types.CodeType = space["straight"].__code__
    return code
