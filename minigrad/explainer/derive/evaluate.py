"""Read the text of an explanation back, and compute what it says."""

import re
import types
from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from ... import ops
from ...engine.tensor import Tensor, TensorLike
from ...errors import ArgumentError, DtypeError
from ...functional import array_functions
from ...ops.primitive import FORMULA_WORDS, Forward, Operand
from ...types import Array

# name = expression, or name += expression, and a remark after three spaces
LINE = re.compile(r"\s*(?P<target>\S+) (?P<sign>=|\+=) (?P<expression>.+?)(?:   .*)?")
CONTINUED = re.compile(r",\n {8}(?=\S)")  # where `text` has broken a line that was too long

Values: TypeAlias = dict[str, Operand]  # arrays and functions, by their names in expressions


def _one_hot(labels: ArrayLike, n: int) -> Array:
    """Return an array (len(labels), n) with a one in each row, at the label if it is a class."""
    hot: Array = np.asarray(labels)[:, None] == np.arange(n)
    return hot.astype(np.int8)  # no float is widened by int8


def function_of(primitive: ops.Primitive) -> Forward:
    """Return the primitive as expressions call it: a function that returns no residuals."""
    if not primitive.has_residuals:
        return primitive
    return lambda *inputs, **attributes: primitive(*inputs, **attributes)[0]


def _functions() -> Values:
    """Return the names that expressions may use: functions, `s_` for an index, `inf` and `nan`.

    The functions are primitives, and functions of ops under the names of primitives and of public
    functions.
    """
    found: Values = {name: function_of(p) for name, p in ops.BUILTIN.items()}
    names = [*ops.BUILTIN, *(name for name in vars(array_functions) if name[0] != "_")]
    functions = {name: getattr(ops, name) for name in names if hasattr(ops, name)}
    found |= {name: f for name, f in functions.items() if isinstance(f, types.FunctionType)}
    found["reshape"] = np.reshape  # it takes numbers, too
    found["astype"] = lambda a, dtype: np.asarray(a).astype(dtype)
    words = (np.ones_like, _one_hot, np.s_, np.inf, np.nan)
    return found | dict(zip(FORMULA_WORDS, words, strict=True))


FUNCTIONS = _functions()
_SCOPE: Values = {**FUNCTIONS, "__builtins__": {}}


def evaluate(text: str, values: Mapping[str, TensorLike | ops.Primitive]) -> Values:
    """Compute what the lines of an explanation say, in their order.

    text: `str()` of an explanation, or some of its lines; lines without ` = ` or ` += ` are
    skipped. values: arrays or Tensors for the names that no line computes, and primitives of your
    own, such as the explanation's `given`. Returns the values of all names; their dtypes follow
    from the operations. Errors: DtypeError unless text is a str and values are a dict;
    ArgumentError for a name without a value, and for a line that cannot be computed.

    The expressions are Python and are evaluated as such: read back only text that you trust.

    >>> from minigrad.explainer import evaluate
    >>> evaluate("y = sum(x * x)   said of it", {"x": [1.0, 2.0]})["y"]
    array(5.)
    """
    if not isinstance(text, str):
        raise DtypeError(
            f"evaluate: expected the text of an explanation, got {type(text).__name__}; give str() "
            "of it"
        )
    if not isinstance(values, Mapping):
        raise DtypeError(
            f"evaluate: expected a dict of values by name, got {type(values).__name__}; give the "
            "explanation's `given`"
        )
    found = {name: _plain(value) for name, value in values.items()}
    with np.errstate(all="ignore"):
        for line in CONTINUED.sub(", ", text).splitlines():
            match = LINE.fullmatch(line)
            if match is None or not match["target"].isidentifier():  # \w lacks vowel signs
                continue
            value = value_of(match["expression"], found)
            target = match["target"]
            if match["sign"] == "+=" and target in found:
                value = found[target] + value
            # NumPy adds arrays of shape () to a scalar, which primitives take for a weak number.
            found[target] = np.asarray(value) if isinstance(value, np.generic) else value
    return found


def _plain(value: TensorLike | ops.Primitive) -> Operand:
    if isinstance(value, ops.Primitive):
        return function_of(value)
    return value._data if isinstance(value, Tensor) else np.asarray(value)


def value_of(expression: str, values: Values) -> Operand:
    """Return the value of one expression. Errors: ArgumentError."""
    try:
        return eval(compile(expression, "<explanation>", "eval"), _SCOPE, values)
    except NameError as error:
        raise ArgumentError(
            f"evaluate: {error} in {expression!r}; give it a value, or the line that computes it, "
            "which stands in unfold() if it is a folded module's"
        ) from error
    except Exception as error:
        raise ArgumentError(f"evaluate: {expression!r} cannot be computed: {error}") from error
