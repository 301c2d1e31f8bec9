"""A primitive declares a forward on arrays, its derivative and everything else about it.

Everything that differentiates, explains or compiles reads the one table that is built here.
This layer lies below the Tensor: rules are written with operators and with other primitives,
and never name the class Tensor.
"""

import inspect
from collections.abc import Callable, Sequence
from string import ascii_lowercase
from types import CodeType
from typing import Any, NamedTuple, ParamSpec, TypeAlias, TypeVar, overload

# What forwards and rules compute with: an array, a number, None for an absent operand, or a Tensor
# where a rule is recorded. The type is Any, since no common type of arrays and Tensors has their
# operators.
Operand: TypeAlias = Any
# The value of a keyword argument of a primitive; each argument has its own type.
Attribute: TypeAlias = Any
Attributes: TypeAlias = dict[str, Attribute]
# forward(*arrays, **attributes), and a rule(g, y, *inputs, **attributes): see Primitive.
Forward: TypeAlias = Callable[..., Operand]
Rule: TypeAlias = Callable[..., Operand]
# The formula of a Primitive, or a function of its inputs and attributes that returns the formula.
Formula: TypeAlias = str | Callable[..., str | None] | None
# A function of a primitive, its inputs and its attributes, which returns the result of the call.
Dispatcher: TypeAlias = Callable[["Primitive", tuple[Operand, ...], Attributes], Operand]
P = ParamSpec("P")
X = TypeVar("X")

TABLE: dict[str, "Primitive"] = {}
# What lines of explanations may name besides primitives and functions of ops.
FORMULA_WORDS = ("ones_like", "one_hot", "s_", "inf", "nan")
MAX_OUTPUTS = 4  # records are numbered in steps of this, so that each output has a number


class Scalar(NamedTuple):
    """A Scalar says how compiled loops compute one element of the result.

    expression: a Python expression. {0}, {1}, ... stand for elements of the inputs, {name} for an
        attribute, {zero} and {one} for these numbers, and {dtype} for the dtype of the result, as
        in {dtype}(0.5); all operands are converted to this dtype. The expression may call the
        scalar functions that kernels/codegen_runtime.py defines or imports, such as those of
        Python's math. Lines before it, `part = ...`, define values that it uses as {part}. Instead
        of a text, this may be a function that gets the inputs and attributes and returns the text;
        the function may look at numbers, but not at the elements of arrays.
    cheap: whether to recompute an element costs less than to store it and read it back.
    integers: whether integers are computed as integers, not converted to the result's floats.
    compares: whether the operands are compared in their common dtype to give a boolean.
    raw: the positions of operands that keep their own dtype.
    """

    expression: str | Callable[..., str]
    cheap: bool = False
    integers: bool = False
    compares: bool = False
    raw: tuple[int, ...] = ()


class Reduction(NamedTuple):
    """A Reduction says how compiled loops reduce an input along the attribute `axis`.

    term: the expression that is reduced, in which {0} stands for an element of the input.
    extreme: the name of a function that combines two elements in the dtype of the result, and the
        float to start from; None: terms are summed in float64.
    mean: whether the sum is divided by the number of terms.
    """

    term: str = "{0}"
    extreme: tuple[str, str] | None = None
    mean: bool = False


class Primitive:
    """A Primitive is an operation that the tape can record.

    name: a unique name, which errors, the tape and generated code use.
    doc: a short description of the result; the default is the formula.
    forward: `forward(*arrays, **attributes) -> array`, a pure function of NumPy arrays (scalars
        arrive as Python numbers, absent operands as None). An underscore at the beginning of a
        parameter's name promises that it does not read that input, which may be None.
    vjp: the vector-Jacobian products, written with operators and primitives: they run on arrays,
        and on Tensors where the backward pass is to be recorded. Either a tuple with one rule for
        each input (None where there is no gradient), `rule(g, y, *inputs, **attributes)`, which
        returns the cotangent of that input, or one rule for all inputs, which returns a tuple with
        their cotangents; its keyword `wrt` holds the positions of the inputs whose cotangents are
        wanted. g is the cotangent of the output y. If an input was broadcast, its cotangent may
        have the shape of y, and the backward pass sums it to the input's shape. A cotangent with
        unit dimensions is broadcast to that shape. A rule returns None if there is no derivative.
        It reads elements only with primitives and operators, also those of residuals, since arrays
        have no elements while a step is traced. None: not differentiable; the output is a constant.
        An underscore at the beginning of a rule's parameter name promises that the rule reads only
        the shape and dtype of that input, or of y, so its elements may change before backward.
    promotes: whether integers and booleans become floats if the result needs floats.
    is_view: whether the result may share memory with the first input.
    outputs: the number of outputs, at most 4. If there are several, forward and calls return a
        tuple, and g and y are tuples, too; g holds None for an output that has no cotangent.
    residuals: the names of the residuals, arrays that the rules need; no gradient flows to them. If
        there are some, forward and calls return (y, residuals), the pair that rules get as their y.
    formula: the forward as mathematics, which explanations print and evaluate. It is an expression
        in the names of the operands and attributes, with Python's operators, the functions of
        minigrad, one_hot(labels, n) and s_[...], which writes an index as a value. Assignments may
        come before it, and commas separate several outputs. Instead of a text, this may be a
        function that returns the text for the inputs and attributes. None: explanations print a
        call of the primitive. Derivatives have no formula: explanations write out their rules.
    add_cotangent: `add_cotangent(total, g, y, *inputs, **attributes)`, for one rule for all inputs
        whose only cotangent, that of the first input, is zero except for a few elements. It adds
        these to total, an array of that input's shape and dtype, so no array of zeros is needed.
        The backward pass calls it instead of the rule if it owns the sum so far, so the rule, given
        arrays, must return newly allocated memory. None: the backward pass adds whole cotangents.
    scalar, reduction: how compiled loops compute it, or None if they cannot.
    decompose: `decompose(write, *inputs, **attributes) -> bool`, which writes other primitives in
        its place for mg.compile, and returns whether it did; write: the Builder of builder.py.
    random: whether each call draws random numbers, so that calls with equal inputs differ.
    kept: whether compiled steps run it even if nothing reads its results, since it may raise an
        error.
    """

    def __init__(
        self,
        name: str,
        forward: Forward,
        vjp: tuple[Rule | None, ...] | Rule | None,
        doc: str = "",
        *,
        promotes: bool = False,
        is_view: bool = False,
        outputs: int = 1,
        residuals: Sequence[str] = (),
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
        self.vjp = vjp if callable(vjp) else None  # one rule for all inputs,
        self.rules = vjp if isinstance(vjp, tuple) else ()  # or one for each input
        self.differentiable = vjp is not None
        self.partial = None in self.rules  # some inputs have no rule
        self.promotes = promotes
        self.is_view = is_view
        self.outputs = outputs
        self.residuals = tuple(residuals)
        self.has_residuals = bool(residuals)
        self.single = outputs == 1 and not residuals  # a result is an array, not a tuple
        self.formula = formula
        self.add_cotangent = add_cotangent
        self.scalar = scalar
        self.reduction = reduction
        self.decompose = decompose
        self.random = random
        self.kept = kept or random  # so that the generator advances as without mg.compile
        self.__doc__ = doc or (formula if isinstance(formula, str) else name)

    def reads(self, i: int, wrt: Sequence[int]) -> bool:
        """Return whether the rules for the inputs at positions `wrt` read elements of input i."""
        return any(_reads(rule, i) for rule in self._rules_for(wrt))

    def reads_result(self, y: Operand, wrt: Sequence[int]) -> bool:
        """Return whether the rules for the inputs at `wrt` read elements of y."""
        if self.has_residuals:
            result, residuals = y
            parts = residuals if type(residuals) is tuple else (residuals,)
            return any(part is result for part in parts)
        names = [_code(rule).co_varnames[1] for rule in self._rules_for(wrt)]
        return any(not name.startswith("_") for name in names)

    def forward_reads(self, i: int) -> bool:
        """Return whether the forward reads input i; only a Python function can promise not to."""
        is_python = hasattr(inspect.unwrap(self.forward), "__code__")
        return not is_python or _reads(self.forward, i, first=0)

    def _rules_for(self, wrt: Sequence[int]) -> list[Rule]:
        rules = [self.vjp] if self.vjp is not None else [self.rules[j] for j in wrt]
        return [rule for rule in rules if rule is not None]

    def operands(self, n: int) -> list[str]:
        """Return names for n inputs: those of the rules' parameters, or else a, b, ..."""
        names: list[str] = []
        for rule in (self.vjp, *self.rules):
            if rule is not None:
                code = _code(rule)
                names = [v.lstrip("_") for v in code.co_varnames[2 : code.co_argcount]]
        return names[:n] if len(names) >= n else letters(n)

    def defaults(self, n: int) -> Attributes:
        """Return the attributes that the forward has defaults for, in a call with n inputs."""
        try:
            parameters = list(inspect.signature(self.forward).parameters.values())[n:]
        except ValueError:  # a function of NumPy that does not tell
            return {}
        return {p.name: p.default for p in parameters if p.default is not p.empty}

    def unpack(self, result: Operand) -> tuple[Sequence[Operand], Operand]:
        """Split the result of the forward, or of a call, into the outputs and the residuals.

        The residuals are a tuple, a single array, or () if the primitive has none.
        """
        if self.has_residuals:
            y, residuals = result
            return (y,), residuals
        return (result if self.outputs > 1 else (result,)), ()

    def pack(self, outputs: Sequence[Operand], residuals: Operand) -> Operand:
        """Return outputs and residuals in the form in which the forward returns them."""
        if self.has_residuals:
            return outputs[0], residuals
        return tuple(outputs) if self.outputs > 1 else outputs[0]

    @overload
    def __call__(self, first: X, /, *others: Operand, **attributes: Attribute) -> X: ...
    @overload
    def __call__(self, **attributes: Attribute) -> Any: ...
    def __call__(self, *inputs: Operand, **attributes: Attribute) -> Operand:
        """Apply the primitive: the result is a Tensor if an input is one, else an array.

        The overloads declare the result to have the type of the first input, which is true for a
        primitive with a single output.
        """
        return _dispatch(self, inputs, attributes)

    def __repr__(self) -> str:
        return f"<primitive {self.name}>"


def _run_forward(
    primitive: Primitive, inputs: tuple[Operand, ...], attributes: Attributes
) -> Operand:
    """Run the forward on arrays; this is the dispatcher until the engine sets another."""
    return primitive.forward(*inputs, **attributes)


_dispatch: Dispatcher = _run_forward


def set_dispatcher(dispatcher: Dispatcher) -> None:
    """Let `dispatcher` handle every call of a primitive; the engine registers its own here."""
    global _dispatch
    _dispatch = dispatcher


def letters(n: int) -> list[str]:
    """Return names for n operands: a to z, a1 to z1, and so on."""
    return [f"{ascii_lowercase[i % 26]}{i // 26 or ''}" for i in range(n)]


def _declaring(make: Callable[P, Primitive]) -> Callable[P, Primitive]:
    def primitive(*given: P.args, **options: P.kwargs) -> Primitive:
        """Declare a primitive and enter it into the table; the arguments are Primitive's."""
        made = make(*given, **options)
        if made.name in TABLE:
            raise ValueError(f"primitive {made.name!r} is declared twice")
        TABLE[made.name] = made
        return made

    return primitive


primitive = _declaring(Primitive)  # a decorated class, so that type checkers know the arguments


def _code(function: Callable[..., Any]) -> CodeType:
    """Return the code object of a function, without its decorators."""
    code: CodeType = inspect.unwrap(function).__code__
    return code


def _reads(function: Callable[..., Any], i: int, first: int = 2) -> bool:
    """Return whether a function reads elements of input i, by the underscore convention.

    first: the position of the first input among the parameters; in a rule, it follows g and y.
    """
    code = _code(function)
    names = code.co_varnames[first : code.co_argcount]
    if i < len(names):
        return not names[i].startswith("_")
    rest = code.co_varnames[code.co_argcount + code.co_kwonlyargcount]  # *inputs
    return not rest.startswith("_")
