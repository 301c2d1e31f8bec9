"""Primitives: each has a forward on arrays and, beside it, its derivative and all else to know.

Everything that differentiates, explains or compiles reads the one table that is built here.
This layer lies below the Tensor: rules are written with operators and with other primitives,
and never name its class.
"""

import inspect
from collections.abc import Callable, Sequence
from string import ascii_lowercase
from typing import Any, NamedTuple, ParamSpec, TypeVar, overload

Given = ParamSpec("Given")
Rule = Callable[..., Any]
Formula = str | Callable[..., str | None] | None
# It gets a primitive, its inputs and its attributes, and returns what the primitive's call returns.
Dispatcher = Callable[["Primitive", tuple[Any, ...], dict[str, Any]], Any]
X = TypeVar("X")

TABLE: dict[str, "Primitive"] = {}
MAX_OUTPUTS = 4  # the tape numbers records in steps of it, for each output to have a number


class Scalar(NamedTuple):
    """How compiled loops compute one element of the result.

    expression: Python, in which {0}, {1}, ... stand for elements of the inputs, {name} for an
        attribute, {zero} and {one} for these numbers, and {dtype} for the dtype that it is computed
        in, as in {dtype}(0.5). All operands have this dtype, which is that of the result. It may
        call the functions of one element that kernels/codegen_runtime.py has, such as those of
        Python's math. Lines before it, `part = ...`, define what it names as {part}. Or a function
        of the inputs and attributes that returns the expression; it can only look at numbers.
    cheap: computing an element again costs less than storing it and reading it back.
    integers: integers are computed as such; elsewhere they are converted to the result's floats.
    compares: the operands are compared in their common dtype, and the result is a boolean.
    raw: the positions of operands that keep their own dtype.
    """

    expression: str | Callable[..., str]
    cheap: bool = False
    integers: bool = False
    compares: bool = False
    raw: tuple[int, ...] = ()


class Reduction(NamedTuple):
    """How compiled loops reduce an input along the attribute `axis`.

    term: what is combined for each element {0}.
    extreme: a function of two elements that combines them, in the dtype of the result, and the
        float that it starts from; None: terms are summed in float64.
    mean: the sum is divided by the number of terms.
    """

    term: str = "{0}"
    extreme: tuple[str, str] | None = None
    mean: bool = False


class Primitive:
    """An operation that the tape can record.

    name: unique; errors, the tape and generated code call it so.
    doc: what it computes, in a few words; without it, the formula.
    forward: `forward(*arrays, **attributes) -> array`, a pure function of NumPy arrays (scalars
        arrive as Python numbers, absent operands as None).
    vjp: the vector-Jacobian products, written with operators and primitives: they run on arrays,
        and on Tensors where the backward pass is to be recorded. Either a tuple with one rule for
        each input (None where there is no gradient), `rule(g, y, *inputs, **attributes)`, which
        returns the cotangent of that input, or one joint rule, which returns them all; its keyword
        `needs` has the positions of the inputs whose cotangents are asked for. g is the cotangent
        of the output y. Where an input was broadcast, its cotangent has the shape of y, and the
        backward pass sums it to the input's shape; it also broadcasts a cotangent that has unit
        dimensions. A rule returns None where there is no derivative. It reads elements only by
        primitives and operators, also those of saved arrays, since a step that is being compiled
        has no elements. None: not differentiable; the output is a constant.
        A rule does not read the elements of a parameter whose name begins with an underscore, only
        its shape and dtype: such an input, or y, may change between forward and backward.
    promotes: integers and booleans become floats where the result needs them to.
    is_view: the result may share memory with the first input.
    outputs: the number of outputs, at most 4. If there are several, forward and calls return a
        tuple, and g and y are tuples, too; g has None for each output that nothing was made of.
    saves: forward and calls return (y, saved), and rules get this pair as their y. saved: the
        residuals, which are arrays that the rules need, and constants to everyone else. A rule that
        needs y itself reads it there.
    formula: the forward as mathematics, which explanations print and read back: an expression in
        the names of the operands and attributes, with Python's operators, the functions of
        minigrad, one_hot(labels, n) and s_[...], an index by itself, after assignments if that
        reads better; several outputs are separated by commas. Or a function that returns it for
        the inputs and attributes. None: a call of the primitive. Derivatives have no formula of
        their own: explanations write out their rules.
    add_cotangent: `add_cotangent(total, g, y, *inputs, **attributes)`, for a joint rule whose only
        cotangent, that of the first input, is zero except for a few elements. It adds these to
        total, an array of that input's shape and dtype, so no array of zeros is needed. The
        backward pass calls it instead of the rule if it owns the sum so far; the rule, on arrays,
        must return memory of its own. None: cotangents are added as a whole.
    scalar, reduction: how compiled loops compute it, if they can.
    decompose: `decompose(write, *inputs, **attributes) -> bool`, which writes other primitives in
        its place for mg.compile, and returns whether it did; write: the Builder of builder.py.
    random: each call draws anew, so two calls with the same inputs differ.
    kept: compiled steps run it though nothing reads its results, as it may raise an error.
    """

    def __init__(
        self,
        name: str,
        forward: Callable[..., Any],
        vjp: tuple[Rule | None, ...] | Rule | None,
        doc: str = "",
        *,
        promotes: bool = False,
        is_view: bool = False,
        outputs: int = 1,
        saves: bool = False,
        formula: Formula = None,
        add_cotangent: Callable[..., None] | None = None,
        scalar: Scalar | None = None,
        reduction: Reduction | None = None,
        decompose: Callable[..., bool] | None = None,
        random: bool = False,
        kept: bool = False,
    ) -> None:
        if not 1 <= outputs <= MAX_OUTPUTS:
            raise ValueError(f"primitive {name!r}: 1 to {MAX_OUTPUTS} outputs, got {outputs}")
        self.name = name
        self.forward = forward
        self.joint = vjp if callable(vjp) else None
        self.rules = vjp if isinstance(vjp, tuple) else ()
        self.differentiable = vjp is not None
        self.partial = None in self.rules  # not with respect to each input
        self.promotes = promotes
        self.is_view = is_view
        self.outputs = outputs
        self.saves = saves
        self.single = outputs == 1 and not saves  # a result is one array, and no tuple
        self.formula = formula
        self.add_cotangent = add_cotangent
        self.scalar = scalar
        self.reduction = reduction
        self.decompose = decompose
        self.random = random
        self.kept = kept or random  # so that the generator advances as eagerly
        self.__doc__ = doc or (formula if isinstance(formula, str) else name)

    def reads(self, i: int, needs: Sequence[int]) -> bool:
        """Whether the rules for the inputs at positions `needs` read the elements of input i."""
        return any(_reads(rule, i) for rule in self._rules_for(needs))

    def reads_result(self, y: Any, needs: Sequence[int]) -> bool:
        """Whether those rules read the elements of what the forward returned, y."""
        if self.saves:
            (result,), saved = self.unpack(y)
            return any(part is result for part in (saved if type(saved) is tuple else (saved,)))
        names = [_code(rule).co_varnames[1] for rule in self._rules_for(needs)]
        return any(not name.startswith("_") for name in names)

    def _rules_for(self, needs: Sequence[int]) -> list[Rule]:
        rules = [self.joint] if self.joint is not None else [self.rules[j] for j in needs]
        return [rule for rule in rules if rule is not None]

    def operands(self, n: int) -> list[str]:
        """The names of n inputs, as the rules have them; a, b, ... where these have none."""
        names: list[str] = []
        for rule in (self.joint, *self.rules):
            if rule is not None:
                code = _code(rule)
                names = [v.lstrip("_") for v in code.co_varnames[2 : code.co_argcount]]
        return names[:n] if len(names) >= n else letters(n)

    def unpack(self, result: Any) -> tuple[Sequence[Any], Any]:
        """Split what the forward, or a call, has returned into its outputs and the residuals.

        The residuals are a tuple, a single array, or () where the primitive saves nothing.
        """
        if self.saves:
            y, residuals = result
            return (y,), residuals
        return (result if self.outputs > 1 else (result,)), ()

    def pack(self, outputs: Sequence[Any], residuals: Any) -> Any:
        """Return outputs and residuals in the form in which the forward returns them."""
        if self.saves:
            return outputs[0], residuals
        return tuple(outputs) if self.outputs > 1 else outputs[0]

    @overload
    def __call__(self, first: X, /, *others: Any, **attributes: Any) -> X: ...
    @overload
    def __call__(self, **attributes: Any) -> Any: ...
    def __call__(self, *inputs: Any, **attributes: Any) -> Any:
        """Apply the primitive: Tensors among the inputs give Tensors, and arrays alone give arrays.

        The type that is declared is that of a single output, whose first input is of its kind.
        """
        return _dispatch(self, inputs, attributes)

    def __repr__(self) -> str:
        return f"<primitive {self.name}>"


def _run_forward(primitive: Primitive, inputs: tuple[Any, ...], attributes: dict[str, Any]) -> Any:
    """Run the forward on arrays: all that can be done without the engine."""
    return primitive.forward(*inputs, **attributes)


_dispatch: Dispatcher = _run_forward


def set_dispatcher(dispatcher: Dispatcher) -> None:
    """Let `dispatcher` handle every call of a primitive; the engine registers its own here."""
    global _dispatch
    _dispatch = dispatcher


def letters(n: int) -> list[str]:
    """Names for n operands: a to z, a1 to z1, and so on."""
    return [f"{ascii_lowercase[i % 26]}{i // 26 or ''}" for i in range(n)]


def _declaring(make: Callable[Given, Primitive]) -> Callable[Given, Primitive]:
    def primitive(*given: Given.args, **known: Given.kwargs) -> Primitive:
        """Declare a primitive and enter it into the table; the arguments are Primitive's."""
        made = make(*given, **known)
        if made.name in TABLE:
            raise ValueError(f"primitive {made.name!r} is declared twice")
        TABLE[made.name] = made
        return made

    return primitive


primitive = _declaring(Primitive)  # so that type checkers know its arguments


def _code(rule: Rule) -> Any:
    """Return the code of a rule as it was written, whatever wraps it."""
    return inspect.unwrap(rule).__code__


def _reads(rule: Rule, i: int) -> bool:
    """Whether a rule reads the elements of input i: the underscore convention."""
    code = _code(rule)
    names = code.co_varnames[2 : code.co_argcount]  # behind g and y
    if i < len(names):
        return not names[i].startswith("_")
    rest = code.co_varnames[code.co_argcount + code.co_kwonlyargcount]  # *inputs
    return not rest.startswith("_")
