"""Every exception type of minigrad; the lowest layer, so that all others may import it.

Each type also derives from the built-in exception that NumPy or PyTorch would raise in its
place, so that `except ValueError` keeps working. A message says what came, what was expected
and what to do about it.
"""


class MinigradError(Exception):
    """Base of all errors that minigrad raises on purpose."""


class ShapeError(MinigradError, ValueError):
    """Shapes that do not fit the operation or each other."""


class DtypeError(MinigradError, TypeError):
    """A dtype, or a type of object, that the operation does not take."""


class ArgumentError(MinigradError, ValueError):
    """A value out of its domain (for numbers: or none), or arguments that contradict each other."""


class OutOfRangeError(MinigradError, IndexError):
    """An index or a label beyond what it points into."""


class GradError(MinigradError, RuntimeError):
    """Differentiation asked for where there is none: a freed tape, a changed input, a constant."""


class StateDictError(MinigradError, RuntimeError):
    """A state that does not fit the object that is to load it; nothing of it has been loaded."""


class TraceError(MinigradError, RuntimeError):
    """A step that mg.compile cannot follow, since it looks at the value of what it computes."""


class FileError(MinigradError, OSError):
    """A file that cannot be written; one that was there is as it was."""
