"""This module has every exception type of minigrad; all other files may import it.

Each type also derives from the built-in exception that NumPy or PyTorch would raise instead, so
that `except ValueError` keeps working. A message says what came, what was expected and what to do.
"""


class MinigradError(Exception):
    """Base of all errors that minigrad raises on purpose."""


class ShapeError(MinigradError, ValueError):
    """Raised for shapes that do not fit the operation or each other."""


class DtypeError(MinigradError, TypeError):
    """Raised for a dtype, or a type of object, that the operation does not take."""


class ArgumentError(MinigradError, ValueError):
    """Raised for a value outside its domain, or for arguments that contradict each other."""


class OutOfRangeError(MinigradError, IndexError):
    """Raised for an index or a label that is out of range."""


class GradError(MinigradError, RuntimeError):
    """Raised where nothing can be differentiated: a freed tape, a changed input, a constant."""


class StateDictError(MinigradError, RuntimeError):
    """Raised for a state that does not fit the object; nothing of it has been loaded."""


class TraceError(MinigradError, RuntimeError):
    """Raised for a step that mg.compile cannot follow, for instance one that reads a value."""


class FileError(MinigradError, OSError):
    """Raised for a file that cannot be written; an older file there is unchanged."""
