"""`mg.explain` shows how a result was computed and how its gradients follow."""

import os
import sys
from collections.abc import Mapping

from ..engine.backward import initial_cotangent
from ..engine.tape import Record, tape
from ..engine.tensor import Tensor, TensorLike
from ..engine.tracer import refuse_in_trace
from ..errors import ArgumentError, DtypeError, GradError
from ..types import Array
from .analysis.paths import MAX_PATHS, Path, count_paths, paths_to
from .analysis.wording import counted
from .derive.derivation import Derivation
from .derive.evaluate import Values
from .derive.scopes import Scope
from .derive.steps import Variable
from .derive.user_names import Named, UserNames
from .graph.dot import dot
from .graph.graph import Graph, graph_of
from .graph.svg import draw
from .render.files import write_text
from .render.markdown import markdown
from .render.notebook import notebook
from .render.page import page
from .render.text import text


class Explanation:
    """How a result was computed and how its gradients follow; `mg.explain` makes it.

    `str()` gives plain text of at most 100 columns, which `evaluate` reads back; a notebook shows
    tables and a graph. It holds copies, so it stays valid after `backward()` and optimizer steps.
    """

    def __init__(self, derivation: Derivation, folded: frozenset[str] = frozenset()) -> None:
        self.derivation = derivation
        self._folded = folded

    # --- text ----------------------------------------------------------------------------------

    def __str__(self) -> str:
        return text(self.derivation, self._folds)

    def __repr__(self) -> str:
        steps, name = len(self.derivation.steps), self.derivation.loss.name
        return f"<explanation of {name}: {steps} records; print it>"

    def _repr_html_(self) -> str:
        return notebook(self.derivation, self._folds)

    def _repr_markdown_(self) -> str:
        return markdown(self.derivation, self._folds)

    # --- drawings ------------------------------------------------------------------------------

    def to_dot(self) -> str:
        """Return the graph in Graphviz's language, with modules as clusters."""
        return dot(self._graph())

    def to_svg(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return the graph as SVG, for light and dark pages; it does not need Graphviz.

        path: a file to write it to as well, whole or not at all. Errors: FileError.
        """
        svg = draw(self._graph(), repr(self)).svg
        if path is not None:
            write_text(path, svg, "to_svg")
        return svg

    def save_html(self, path: str | os.PathLike[str]) -> None:
        """Write a page to step through the derivation in a browser; it needs no network.

        path: the file, which is written whole or not at all. Errors: FileError.
        """
        write_text(path, page(self.derivation, self._folds), "save_html")

    def _graph(self) -> Graph:
        return graph_of(self.derivation, self._folds)

    # --- folding -------------------------------------------------------------------------------

    def modules(self) -> list[str]:
        """Return the names of the modules whose calls are on the tape, each once, in order."""
        scopes = [scope for step in self.derivation.steps for scope in step.scopes]
        return list(dict.fromkeys(scope.label for scope in scopes))

    def fold(self, *modules: str) -> "Explanation":
        """Return the same explanation, with each call of these modules folded to one line.

        modules: names that `modules()` returns, or names of classes; without any, every layer. A
        folded call shows what goes in and comes out, and `evaluate` cannot compute it.
        Errors: ArgumentError for a module that is not on the tape; DtypeError unless it is text.
        """
        inner = {step.scopes[-1].label for step in self.derivation.steps if step.scopes}
        return Explanation(self.derivation, self._folded | (self._meant(modules) or inner))

    def unfold(self, *modules: str) -> "Explanation":
        """Return the same explanation with the records of these modules, or of all, unfolded."""
        left = self._folded - self._meant(modules) if modules else frozenset()
        return Explanation(self.derivation, left)

    def _folds(self, scope: Scope) -> bool:
        return scope.label in self._folded

    def _meant(self, modules: tuple[str, ...]) -> frozenset[str]:
        """Return the names of the modules that are given by their own names or their classes'."""
        scopes = {scope for step in self.derivation.steps for scope in step.scopes}
        for name in modules:
            if not isinstance(name, str):
                raise DtypeError(
                    f"explain: a module's name is text, got {name!r:.60}; write fold('model.0'), "
                    "or fold(*names) for a list of names"
                )
            if not any(name in (scope.label, scope.kind) for scope in scopes):
                raise ArgumentError(
                    f"explain: no module {name!r} on this tape; there are "
                    f"{', '.join(self.modules()) or 'none'}"
                )
        return frozenset(s.label for s in scopes if s.label in modules or s.kind in modules)

    # --- values --------------------------------------------------------------------------------

    @property
    def given(self) -> Values:
        """Return what `evaluate` needs besides the text: the values that no line computes.

        They are copies of arrays, and the primitives that minigrad does not declare itself.
        """
        arrays = {v.name: v.value.copy() for v in self.derivation.variables if v.kind != "result"}
        return arrays | self.derivation.functions

    @property
    def gradients(self) -> dict[str, Array]:
        """Return copies of the gradients of parameters and inputs, by the name of the variable."""
        values = self.derivation.values
        return {
            v.name: values[v.cotangent].copy()
            for v in self.derivation.variables
            if v.kind in ("parameter", "input") and v.cotangent in values
        }

    def paths(self, name: str) -> list[Path]:
        """Return all paths from the loss back to a variable, the largest contribution first.

        name: the variable's name in the lines, or the user's. A Path has its `variables`, from the
        loss on; its `operands`, which say where each variable is used; and its `contribution`, in
        the shape of the variable. The contributions sum to the gradient.
        Errors: ArgumentError for an unknown name, or more than 64 paths; DtypeError unless name is
        text.
        """
        variable = self._variable(name)
        n = count_paths(self.derivation).get(variable.name, 0)
        if n > MAX_PATHS:
            raise ArgumentError(
                f"explain: {counted(n, 'path')} lead to {name!r}, more than {MAX_PATHS}; ask for "
                "those to a later variable"
            )
        return paths_to(self.derivation, variable)

    def _variable(self, name: str) -> Variable:
        if not isinstance(name, str):
            raise DtypeError(
                f"explain: a variable's name is text, got {type(name).__name__}; write "
                "paths('x'), with a name from the lines"
            )
        for variable in self.derivation.variables:
            if name in (variable.name, variable.label):
                return variable
        names = ", ".join(v.name for v in self.derivation.variables)
        raise ArgumentError(f"explain: no variable {name!r}; there are {names:.200}")


def explain(
    result: Tensor, gradient: TensorLike | None = None, *, names: Mapping[str, Named] | None = None
) -> Explanation:
    """Explain how `result` was computed and how its gradients follow, rule by rule; print it.

    result: a Tensor that an operation made and whose tape is whole: call this before
        `backward()`, or pass retain_graph=True to it. Neither `.grad` nor the tape changes.
    gradient: the cotangent to begin with, of the result's shape; 1 for a single element.
    names: a dict from names to Tensors, arrays and modules. By default these are named after the
        caller's variables and the items and attributes in them ("xs[0]", "self.model"); variables
        that begin with an underscore are skipped.
    Errors: DtypeError unless result is a Tensor; GradError for a leaf, a result of no_grad, a freed
    tape, a missing gradient, or a Tensor that was changed in place; ShapeError.

    >>> import minigrad as mg
    >>> x = mg.tensor([1.0, 2.0], requires_grad=True)
    >>> y = (x * x).sum()
    >>> print(mg.explain(y))
    inputs
      x   (2,) float32   input
    <BLANKLINE>
    forward: 2 records
      v1 = x * x                                               (2,)
      y = sum(v1, axis=0)                                      ()
    <BLANKLINE>
    backward: cotangents, g of each v, from y
      g_y = ones_like(y)                                       ()
      g1 += broadcast_to(reshape(g_y, (1,)), (2,))             (2,)   from sum, w.r.t. a
      g_x += g1 * x                                            (2,)   from mul, w.r.t. a
      g_x += g1 * x                                            (2,)   from mul, w.r.t. b
    <BLANKLINE>
    gradients: totals, each the sum over its paths
      g_x: 2 paths                                             (2,)   largest element 4
        directly, as mul's a                                   2
        directly, as mul's b                                   2
    """
    refuse_in_trace("mg.explain")
    if not isinstance(result, Tensor):
        raise DtypeError(
            f"explain: expected a Tensor, got {type(result).__name__}; pass the loss, before "
            "backward()"
        )
    if not result._requires_grad:
        raise GradError(
            "explain: this result depends on no Tensor with requires_grad=True (or was computed in "
            "no_grad, or from detached values); compute it outside no_grad, from one that has it"
        )
    if result._record is None:
        raise GradError(
            "explain: this Tensor is a leaf, which no operation made; explain a result made of it"
        )
    start = initial_cotangent(result, gradient, "explain")
    records = tape([result])
    _check_tape(records)
    frame = sys._getframe(1)
    seen = (frame.f_locals, frame.f_globals) if names is None else ()
    derivation = Derivation(
        result,
        start,
        gradient is not None,
        records,
        UserNames({} if names is None else names, seen),
    )
    return Explanation(derivation)


def _check_tape(records: list[Record]) -> None:
    """Raise a GradError unless the tape is whole and nothing on it was changed in place.

    This is stricter than backward, which checks only what rules read, as the lines show all values.
    """
    for record in records:
        name = record.primitive.name
        if record.inputs is None:
            raise GradError(
                f"explain: the tape was freed by backward (at '{name}'); explain first, or pass "
                "retain_graph=True to backward, or compute the result again"
            )
        if record.changed:
            raise GradError(
                f"explain: the result of '{name}' was changed in place; explain before that, or "
                "compute the result again"
            )
        for i, x in enumerate(record.inputs):
            if (
                isinstance(x, Tensor)
                and (x if x._base is None else x._base)._changed > record.number
            ):
                raise GradError(
                    f"explain: input {i} of '{name}', shape {x.shape}, was changed in place after "
                    "it was used; explain before that, or compute the result again"
                )
