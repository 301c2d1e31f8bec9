"""The choices of a generated program, and the writer that its blocks and steps use.

The parts of the model are stored in one of the ways in which users store them.
"""

import contextlib
import random
from collections.abc import Callable, Iterator
from typing import Any

Shape = tuple[int, ...]  # without the batch


class Choices:
    """Choices are made one by one, each with a name.

    With a seed, choices are random. Without one, a choice is the option in `given`, or else the
    first and simplest.
    """

    def __init__(self, seed: int | None, given: dict[str, Any] | None = None) -> None:
        self.seed, self.given = seed, given or {}
        self.made: dict[str, Any] = {}
        self.options: dict[str, list[Any]] = {}

    def pick(self, name: str, options: list[Any]) -> Any:
        self.options[name] = options
        if self.seed is not None:
            chosen = random.Random(f"{self.seed} {name}").choice(options)
        else:
            chosen = self.given.get(name, options[0])
            chosen = chosen if chosen in options else options[0]
        self.made[name] = chosen
        return chosen

    def simpler(self, name: str, chosen: Any) -> list[Any]:
        """Return at most three simpler options, which stand before the chosen one."""
        options = list(dict.fromkeys(self.options.get(name, [])))
        return options[: min(options.index(chosen), 3)] if chosen in options else []


STYLES = {  # how the model's functions refer to a part of it
    "globals": "{}",
    "closure": "{}",
    "module": "self.{}",
    "object": "self.{}",
    "dict": 'P["{}"]',
    "namespace": "P.{}",
    "dataclass": "P.{}",
    "list": "P[{i}]",
    "nested": 'P["net"]["{}"]',
}


class Writer:
    """A Writer writes one program; blocks and steps use it."""

    def __init__(self, choices: Choices) -> None:
        self.choices = choices
        self._scope: list[str] = []
        self.style = self.pick("style", *STYLES)
        self.dtype = self.pick("dtype", *["float64"] * 8, "float32", "mixed")
        self.items: list[tuple[str, str]] = []  # names and what they are made with
        self.tensors: list[tuple[str, str]] = []  # names, and an expression of a dict of Tensors
        self.trained: list[str] = []  # expressions of lists of parameters
        self.reusable: list[tuple[str, Shape]] = []
        self.settings: list[tuple[str, str]] = []  # names, and what they are set to later
        self.rebound: list[str] = []  # names that the loop binds
        self.changes: list[str] = []  # other lines that change something later
        self.layers: list[str] = []
        self.helpers: dict[str, list[str]] = {}
        self.outside = False  # whether the text is outside the methods of a module
        self.lines: list[str] = []
        self.count = 0

    # --- choices -------------------------------------------------------------------------------

    @contextlib.contextmanager
    def scope(self, name: str) -> Iterator[None]:
        self._scope.append(name)
        try:
            yield
        finally:
            self._scope.pop()

    def scoped(self, name: str, function: Callable[..., Any], *args: Any) -> Any:
        with self.scope(name):
            return function(self, *args)

    def pick(self, name: str, *options: Any) -> Any:
        """Return one of the options; the first is the simplest."""
        return self.choices.pick("/".join([*self._scope, name]), list(options))

    def chance(self, name: str, percent: int) -> bool:
        """Return whether to do something that can be left out."""
        return bool(self.pick(name, *[False] * (20 - percent // 5), *[True] * (percent // 5)))

    # --- parts ---------------------------------------------------------------------------------

    def fresh(self, stem: str) -> str:
        self.count += 1
        return f"{stem}{self.count}"

    def line(self, text: str) -> None:
        self.lines.append(text)

    def at(self, name: str) -> str:
        """Return the expression that refers to a part."""
        i = [item for item, _ in self.items].index(name)
        found = STYLES[self.style].format(name, i=i)
        return found.replace("self.", "model.") if self.outside else found

    def outer(self, name: str) -> str:
        before, self.outside = self.outside, True
        try:
            return self.at(name)
        finally:
            self.outside = before

    def item(self, stem: str, made: str) -> str:
        name = self.fresh(stem)
        self.items.append((name, made))
        return name

    def array(self, shape: Shape) -> str:
        size = ", ".join(map(str, shape))
        return f"new({size})"

    def parameter(self, shape: Shape, stem: str = "W", frozen: bool = False) -> str:
        same = [name for name, of in self.reusable if of == shape and stem == "W"]
        if same and not frozen and self.chance(f"shared {shape} {self.count}", 15):
            return self.at(same[0])
        made = {"gamma": "1 + 0.1 * ", "beta": "0.1 * "}.get(stem, "") + self.array(shape)
        if frozen:
            made = f"nn.Parameter({made}, requires_grad=False)"
        elif (
            self.pick(f"kind {self.count}", "Parameter", "Parameter", "Parameter", "tensor")
            == "tensor"
        ):
            made = f"mg.tensor({made}, requires_grad=True)"
        else:
            made = f"nn.Parameter({made})"
        name = self.item(stem, made)
        self.tensors.append((name, f'{{"{name}": {self.outer(name)}}}'))
        if not frozen:
            self.trained.append(f"[{self.outer(name)}]")
            self.reusable.append((name, shape))
        return self.at(name)

    def buffer(self, made: str, stem: str = "buffer") -> str:
        single = ", dtype=np.float32" if self.dtype == "float32" else ""
        name = self.item(stem, f"mg.tensor({made}{single})")
        self.tensors.append((name, f'{{"{name}": {self.outer(name)}}}'))
        return self.at(name)

    def layer(self, made: str) -> str:
        name = self.item("layer", made + (".double()" if self.dtype != "float32" else ""))
        if "Dropout(" not in made:
            self.tensors.append((name, f'named("{name}", {self.outer(name)})'))
            if "affine=False" not in made:  # which has no parameters
                self.trained.append(f"list({self.outer(name)}.parameters())")
        self.layers.append(name)
        return self.at(name)

    def layers_of(self, made: str) -> str:
        """Make a list of layers, and return its expression."""
        double = "" if self.dtype == "float32" else ".double()"
        name = self.item("layers", made.replace("(a, b)", f"(a, b){double}"))
        self.tensors.append((name, f'named("{name}", nn.Sequential(*{self.outer(name)}))'))
        self.trained.append(f"[q for layer in {self.outer(name)} for q in layer.parameters()]")
        return self.at(name)

    def value(self, made: str, stem: str) -> str:
        return self.at(self.item(stem, made))

    def constant(self, shape: Shape, stem: str = "C", mask: bool = False) -> str:
        made = self.array(shape) + (" > -0.3" if mask else "")
        return self.value(f"({made}).astype({self.float_type()})" if mask else made, stem)

    def setting(self, first: str, later: str) -> str:
        """Add a value that may be changed between two calls of the step."""
        name = self.item("setting", first)
        self.settings.append((name, later))
        return self.at(name)

    def outer_of(self, inner: str) -> str:
        return inner.replace("self.", "model.")

    def helper(self, *lines: str) -> str:
        name = lines[0].split("(")[0].removeprefix("def ")
        self.helpers[name] = list(lines)
        return name

    def frozen_teacher(self, n: int) -> str:
        w = self.parameter((n, n), frozen=True)
        self.line("with mg.no_grad():")
        self.line(f"    teacher = (h @ {w}).tanh()")
        return "teacher"

    def axes(self, ndim: int) -> str:
        return "0" if ndim == 1 else str(tuple(range(ndim)))

    def float_type(self) -> str:
        return "np.float32" if self.dtype == "float32" else "np.float64"


def indented(lines: list[str], by: int = 1) -> list[str]:
    return ["    " * by + line if line else line for line in lines]


def definitions(p: Writer, functions: list[str]) -> list[str]:
    """Return lines that define the parts of the model and its functions."""
    lines: list[str] = []
    for helper in p.helpers.values():
        lines += [*helper, ""]
    items = p.items
    match p.style:
        case "module" | "object":
            base = "(nn.Module)" if p.style == "module" else ""
            own = [f"self.{name} = {made}" for name, made in items] or ["pass"]
            lines += [f"class Net{base}:", "    def __init__(self):", *indented(own, 2), ""]
            return [*lines, *indented(functions), "", "model = Net()"]
        case "dict":
            lines += ["P = {", *indented([f'"{n}": {m},' for n, m in items]), "}"]
        case "nested":
            lines += ['P = {"net": {', *indented([f'"{n}": {m},' for n, m in items]), "}}"]
        case "list":
            lines += ["P = [", *indented([f"{m},  # {n}" for n, m in items]), "]"]
        case "namespace":
            lines += ["P = types.SimpleNamespace("]
            lines += [*indented([f"{n}={m}," for n, m in items]), ")"]
        case "dataclass":
            lines += ["@dataclass", "class Parts:"]
            lines += indented([f"{n}: object" for n, _ in items] or ["pass"])
            lines += ["", "P = Parts(", *indented([f"{m},  # {n}" for n, m in items]), ")"]
        case _:
            lines += [f"{name} = {made}" for name, made in items]
    return [*lines, "", *functions]
