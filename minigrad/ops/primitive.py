"""What a primitive is: a forward on arrays and, beside it, its derivative on Tensors.

Everything that differentiates, prints or compiles reads the one table that is built here.
This layer lies below the Tensor: rules are written with operators and with other primitives,
and never name its class.
"""

from collections.abc import Callable
from typing import Any

Rule = Callable[..., Any]

TABLE: dict[str, "Primitive"] = {}


class Primitive:
    """An operation that the tape can record.

    name: unique; what errors, the tape and generated code call it.
    forward: `forward(*arrays, **attributes) -> array`, a pure function of NumPy arrays (scalars
        arrive as Python numbers, absent operands as None).
    vjp: the vector-Jacobian products, written with operators and primitives: they run on arrays,
        and on Tensors where the backward pass is to be recorded. Either a tuple with one rule for
        each input (None where there is no gradient), `rule(g, y, *inputs, **attributes)`, which
        returns the cotangent of that input, or, for any number of inputs, one joint rule that
        returns them all. g is the cotangent of the output y. Where an input was broadcast, its
        cotangent comes in the shape of y; the walk sums it.
        None: not differentiable; the output is a constant.
        The elements of a parameter whose name begins with an underscore are not read, only its
        shape and dtype: such an input may change between forward and backward.
    promotes: integers and booleans become floats where the result needs them to.
    is_view: the result may share memory with the first input.
    """

    def __init__(
        self,
        name: str,
        forward: Callable[..., Any],
        vjp: tuple[Rule | None, ...] | Rule | None,
        doc: str,
        promotes: bool,
        is_view: bool,
    ) -> None:
        self.name = name
        self.forward = forward
        self.joint = vjp if callable(vjp) else None
        self.rules = vjp if isinstance(vjp, tuple) else ()
        self.differentiable = vjp is not None
        self.promotes = promotes
        self.is_view = is_view
        self.__doc__ = doc
        # For each rule the positions of the inputs that it reads; a joint rule reads all or none.
        self.reads = tuple(_inputs_read(rule) for rule in self.rules)
        self.joint_reads = callable(vjp) and not _inputs_name(vjp).startswith("_")

    def __call__(self, *inputs: Any, **attributes: Any) -> Any:
        """Apply to Tensors (or what can become one) and record; the engine supplies this."""
        raise NotImplementedError("importing minigrad.tensor installs the engine")

    def __repr__(self) -> str:
        return f"<primitive {self.name}>"


def primitive(
    name: str,
    forward: Callable[..., Any],
    vjp: tuple[Rule | None, ...] | Rule | None,
    doc: str,
    *,
    promotes: bool = False,
    is_view: bool = False,
) -> Primitive:
    """Declare a primitive and enter it into the table; the arguments are Primitive's."""
    if name in TABLE:
        raise ValueError(f"primitive {name!r} is declared twice")
    TABLE[name] = Primitive(name, forward, vjp, doc, promotes, is_view)
    return TABLE[name]


def _inputs_name(joint: Rule) -> str:
    """What a joint rule calls its *inputs, which come after its named arguments."""
    code = joint.__code__
    return code.co_varnames[code.co_argcount + code.co_kwonlyargcount]


def _inputs_read(rule: Rule | None) -> tuple[int, ...]:
    """Positions of the inputs (after g and y) that a rule reads, by the underscore convention."""
    if rule is None:
        return ()
    code = rule.__code__
    names = code.co_varnames[2 : code.co_argcount]
    return tuple(i for i, name in enumerate(names) if not name.startswith("_"))
