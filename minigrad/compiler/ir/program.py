"""The intermediate representation is a flat list of operations; each Value is made once (SSA form).

    %12: float32 (64, 128) = linear(%x, %model.0.weight, %model.0.bias)

A Value stands for an array; numbers, None and attributes stand in the operations themselves. An
update in place changes Values that are the user's memory; an operation that reads the changed
elements comes after the update in the list. Tensors stand only in annotations here, so passes and
printers need none.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from ...engine.tracer import Fetch, users_line
from ...errors import TraceError
from ...ops import Primitive
from ...ops.inplace import Update
from ...ops.primitive import Attributes, Forward, Reduction, Scalar
from ...types import Array, DType, Shape
from .live_numbers import plain, shown

if TYPE_CHECKING:
    from ...engine.tensor import Tensor

# An input of an operation: a Value, a number or None. The type is Any, since the primitive
# determines which one it is.
Input: TypeAlias = Any


class Value:
    """A Value stands for an array of a program; it has a name, a shape, a dtype and an origin.

    A Value has no elements. While a step is traced, each Tensor has a Value in place of its array,
    and code that asks the Value for elements gets a TraceError.

    origin: "argument"; "state", an array of the user's that `fetch` looks up in each call;
        "constant", an array of NumPy that each call reads; "result", made by an operation; or
        "saved", in a backward program, a result that the forward program has saved.
    array: the user's array or the constant that the Value stands for, or None.
    base: while a step is traced, the Value that this one is a view of, or None.
    label: the name without the number that makes it unique.
    """

    __slots__ = ("array", "base", "dtype", "fetch", "label", "name", "origin", "shape")

    def __init__(
        self, name: str, array: Array, origin: str, fetch: Fetch | None = None, keep: bool = True
    ) -> None:
        self.name = self.label = name
        self.shape: Shape = array.shape
        dtype = array.dtype
        self.dtype: DType = dtype if dtype.isnative else dtype.newbyteorder("=")
        self.origin = origin
        self.fetch = fetch
        self.array: Any = array if keep else None  # Any, since the origin tells which it is
        self.base: Value | None = None

    @classmethod
    def like(cls, name: str, shape: Shape, dtype: DTypeLike) -> "Value":
        """Return a new Value for the result of an operation that a pass writes."""
        return cls(name, np.broadcast_to(np.empty((), dtype), shape), "result", keep=False)

    @property
    def ndim(self) -> int:
        """Return the number of dimensions."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Return the number of elements."""
        return math.prod(self.shape)

    @property
    def flags(self) -> Any:
        """Return the flags of the user's array, or those of a writable array in C order."""
        return _IN_C_ORDER.flags if self.array is None else self.array.flags

    def __repr__(self) -> str:
        return f"%{self.name}"

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        file, line = users_line()
        raise TraceError(
            f"compile: {file}, line {line}, asks for the elements of {self!r}, {self.dtype} of "
            f"shape {self.shape}, which a step has only while it runs; return the Tensor from the "
            "step instead of keeping it (inside a step this is a fault of minigrad)"
        )

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):  # Python's own protocols look for these
            raise AttributeError(name)
        self._refuse()

    __array__ = __array_ufunc__ = __array_function__ = __getitem__ = __iter__ = _refuse
    __float__ = __int__ = __index__ = _refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _refuse
    __truediv__ = __rtruediv__ = __pow__ = __rpow__ = __matmul__ = __rmatmul__ = _refuse
    __neg__ = __abs__ = __lt__ = __le__ = __gt__ = __ge__ = _refuse


_IN_C_ORDER = np.empty(1)


class Operation:
    """An Operation applies a primitive or makes an update in place.

    what: the primitive, with outputs = what(*inputs, **attributes), or the update, which has no
        outputs.
    inputs: Values, numbers and None; outputs: Values, and None for an output that is absent.
    rule: in a backward pass, the primitive whose rule the operation comes from, and the position of
        the input that the rule is for (None: for all inputs); elsewhere None.
    """

    __slots__ = ("attributes", "inputs", "outputs", "rule", "what")

    def __init__(
        self,
        what: Primitive | Update,
        inputs: Sequence[Input],
        attributes: Attributes,
        outputs: Sequence[Value | None],
        rule: tuple[Primitive, int | None] | None = None,
    ) -> None:
        self.what = what
        self.inputs = tuple(inputs)
        self.attributes = attributes
        self.outputs = tuple(outputs)
        self.rule = rule

    @property
    def name(self) -> str:
        """Return the name of the primitive or update."""
        return self.what.name

    @property
    def plain_attributes(self) -> Attributes:
        """Return the attributes with the present numbers in place of live ones."""
        return {k: plain(v) for k, v in self.attributes.items()}

    @property
    def forward(self) -> Forward:
        """Return the forward of the primitive; an update has none."""
        assert isinstance(self.what, Primitive)
        return self.what.forward

    @property
    def scalar(self) -> Scalar | None:
        """Return how a loop computes one element of the result, or None if no loop can."""
        return self.what.scalar if isinstance(self.what, Primitive) else None

    @property
    def reduction(self) -> Reduction | None:
        """Return how a loop computes the reduction, or None if the operation is not one."""
        return self.what.reduction if isinstance(self.what, Primitive) else None

    @property
    def reads(self) -> list[Value]:
        """Return the Values among the inputs."""
        return [x for x in self.inputs if isinstance(x, Value)]

    @property
    def makes(self) -> list[Value]:
        """Return the outputs that are not absent."""
        return [x for x in self.outputs if x is not None]

    @property
    def changes(self) -> list[Value]:
        """Return the inputs that an update overwrites."""
        if isinstance(self.what, Update):
            return [self.inputs[i] for i in self.what.changes]
        return []

    def __str__(self) -> str:
        given = [shown(x) for x in self.inputs]
        given += [f"{k}={_short(v)}" for k, v in self.attributes.items()]
        left = ", ".join("_" if v is None else f"{v!r}: {v.dtype} {v.shape}" for v in self.outputs)
        text = f"{left} = " if left else ""
        return f"{text}{self.name}({', '.join(given)}){origin(self)}"


def printable(text: str) -> str:
    """Return the text with all characters escaped that cannot stand in one line of source."""
    return text if text.isprintable() else ascii(text)[1:-1]


def origin(operation: Operation) -> str:
    """Return a remark that names the rule behind an operation of a backward pass, or ''."""
    if operation.rule is None:
        return ""
    primitive, i = operation.rule
    wrt = "" if i is None else f", w.r.t. {primitive.operands(len(primitive.rules))[i]}"
    return f"   from {primitive.name}{wrt}"


def _short(value: object) -> str:
    text = shown(value)
    return text if len(text) < 40 else f"{text[:36]} ..."


class Program:
    """A Program holds the operations of one call, in order, and the Values that the caller gets.

    results: the Values that the function returns; grads: the leaves, each with the Value that its
        `.grad` is after the call, or None; lent: the Values whose arrays may be others in each
        call: what a forward program saves for its backward program, and the latter's gradients.
    """

    def __init__(
        self,
        arguments: Sequence[Value],
        operations: Sequence[Operation],
        results: Iterable[Value],
        grads: Sequence[tuple["Tensor", Value | None]],
        lent: Sequence[Value] = (),
    ) -> None:
        self.arguments = list(arguments)
        self.operations = list(operations)
        self.results = list(results)
        self.grads = list(grads)
        self.lent = list(lent)

    @property
    def wanted(self) -> list[Value]:
        """Return the results, the gradients and what is lent."""
        return [*self.results, *(g for _, g in self.grads if g is not None), *self.lent]

    def values(self) -> Iterator[Value]:
        """Yield each Value once: first the arguments, then the others in the order of first use."""
        seen = dict.fromkeys(self.arguments)
        for operation in self.operations:
            seen |= dict.fromkeys((*operation.reads, *operation.makes))
        seen |= dict.fromkeys(self.wanted)
        yield from seen

    def check(self) -> None:
        """Raise a ValueError unless each result is made once, before any read, and names differ."""
        made = set(self.arguments)
        for operation in self.operations:
            for v in operation.reads:
                if v.origin == "result" and v not in made:
                    raise ValueError(f"{operation}: {v!r} is read before it is made")
            for v in operation.makes:
                if v in made or v.origin != "result":
                    raise ValueError(f"{operation}: {v!r} is made twice")
                made.add(v)
        for v in self.wanted:
            if v.origin == "result" and v not in made:
                raise ValueError(f"{v!r} is wanted but never made")
        names = [v.name for v in self.values()]
        if len(set(names)) < len(names):
            raise ValueError(f"two values have one name: {sorted(names)}")

    def __str__(self) -> str:
        lines = [f"{v!r}: {v.dtype} {v.shape}   {v.origin}" for v in self.values()
                 if v.origin != "result"]  # fmt: skip
        lines += [str(operation) for operation in self.operations]
        lines.append(f"return {', '.join(map(repr, self.results))}")
        return "\n".join(lines)
