"""Write the text of a training program from its choices.

A program defines `train()`, which after each step yields the step's result, all the user's Tensors
by name, and the optimizer or None.
"""

from collections.abc import Iterator
from typing import Any

from program_blocks import BLOCKS, weight_matrix
from program_steps import LOSSES, Step, changed
from program_writer import Choices, Shape, Writer, definitions, indented

HEAD = """\
import functools
import types
from dataclasses import dataclass
import numpy as np
import minigrad as mg
from minigrad import functional as F, nn, optim
compile = mg.compile
mg.manual_seed(0)
rng = np.random.default_rng(0)
def new(*shape):
    return 0.5 * rng.standard_normal(shape)
def named(name, layer):
    found = [*layer.named_parameters(), *layer.named_buffers()]
    return {f"{name}.{key}": x for key, x in found}""".splitlines()


def trimmed(text: str, p: Writer) -> str:
    """Return the text without the parts that the program does not use."""
    if p.dtype == "float32":
        text = text.replace(
            "return 0.5 * rng.standard_normal(shape)",
            "return (0.5 * rng.standard_normal(shape)).astype(np.float32)",
        )
    for word, line in {
        "functools.": "import functools\n",
        "types.": "import types\n",
        "@dataclass": "from dataclasses import dataclass\n",
    }.items():
        if word not in text:
            text = text.replace(line, "", 1)
    if "named(" not in text.split("def named(")[1][5:]:
        start = text.index("def named(")
        end = text.index("\n\n", start)
        text = text[:start].rstrip("\n") + text[end:]
    return text


def write(choices: Choices) -> str:
    """Return the text of the program."""
    p = Writer(choices)
    kind = p.pick("input", "rows", "rows", "rows", "sequence", "sequence", "image", "tokens")
    d, t = p.pick("features", 3, 4, 5), p.pick("length", 3, 4)
    shape = {"rows": (d,), "sequence": (t, d), "image": (2, t, 4), "tokens": (t, d)}[kind]
    inputs = {
        "rows": f"rng.standard_normal((n, {d}))",
        "sequence": f"rng.standard_normal((n, {t}, {d}))",
        "image": f"rng.standard_normal((n, 2, {t}, 4))",
        "tokens": f"rng.integers(0, 6, (n, {t}))",
    }[kind]
    functions, (classes,) = forward(p, embedded(p, d) if kind == "tokens" else "x", shape)
    p.outside = True
    loss, targets = (text.format(k=classes) for text in LOSSES[p.pick("loss", *LOSSES)])
    if kind != "tokens" and p.dtype != "float64":
        inputs += ".astype(np.float32)"
    if "normal" in targets and p.dtype == "float32":
        targets += ".astype(np.float32)"
    step = p.scoped("step", Step, loss, "x" if kind == "tokens" else "h")
    changes = p.scoped("changes", changed)
    tensors = ", ".join(f"**{x}" if x.startswith("named") else x[1:-1] for _, x in p.tensors)
    if step.has_slots:
        tensors += ", **slots"
    sizes = p.pick("batches", "4", "6", "[4, 4, 6][i % 3]", "[5, 4][i > 4]")
    bound = f"{'nonlocal' if p.style == 'closure' else 'global'} {', '.join(p.rebound)}"
    lines = [
        *definitions(p, functions),
        "",
        *step.setup,
        "",
        *step.lines,
        "",
        "def batch(i):",
        "    rng = np.random.default_rng(i)",
        f"    n = {sizes}",
        f"    return {inputs}, {targets}",
        "",
        "def train():",
        *([f"    {bound}"] if p.rebound and p.style in ("globals", "closure") else []),
        f"    for i in range({p.pick('steps', 2, 3, 5, *[10] * 97)}):",
        *indented([*changes, *step.before], 2),
        f"        yield result, {{{tensors}}}, opt",
    ]
    if p.style == "closure":
        lines = ["def build():", *indented(lines), "    return train", "", "train = build()"]
    return trimmed("\n".join([*HEAD, "", *lines]) + "\n", p)


def alone() -> Iterator[tuple[str, str]]:
    """Yield each option with the text of a program in which all other choices are the simplest.

    Every block comes with all of its options.
    """
    met: set[str] = set()
    inputs = {2: "rows", 3: "sequence", 4: "image"}
    starts: list[dict[str, Any]] = [{"steps": 3}, {"steps": 3, "input": "tokens"}]
    starts += [
        {"steps": 3, "input": inputs[ndim], "block 0/kind": name}
        for name, (_, dimensions, _) in BLOCKS.items()
        for ndim in dimensions
    ]
    starts.append({"steps": 10, "step/update": "by hand"})
    for start in starts:
        choices = Choices(None, start)
        text = write(choices)
        if text not in met:
            met.add(text)
            yield str(start), text
        for name, options in choices.options.items():
            for option in dict.fromkeys(options):
                if name in start or (name.startswith("block") and name.endswith("kind")):
                    continue
                if name.endswith("/form") and name not in ("head/form", "block 0/dense/form"):
                    continue  # the same function writes all weights
                text = write(Choices(None, {**start, name: option}))
                if text not in met and ("block 0" in name) == ("block 0/kind" in start):
                    met.add(text)
                    yield f"{start}, {name}: {option}", text


def embedded(p: Writer, d: int) -> str:
    match p.pick("embedding", "index", "module", "function", "one hot"):
        case "module":
            return f"{p.layer(f'nn.Embedding(6, {d})')}(x)"
        case "function":
            return f"F.embedding(x, {p.parameter((6, d), 'E')})"
        case "one hot":
            hot = f"mg.equal(x.unsqueeze(-1), np.arange(6)).astype({p.float_type()})"
            return f"{hot} @ {p.parameter((6, d), 'E')}"
    return f"{p.parameter((6, d), 'E')}[x]"


def forward(p: Writer, start: str, shape: Shape) -> tuple[list[str], Shape]:
    """Write the functions of the model, and return the shape of what the last returns."""
    method = p.style in ("module", "object")
    first, call = ("self, ", "self.") if method else ("", "")
    functions: list[list[str]] = []
    body = [f"h = {start}"]
    for i in range(5):
        with p.scope(f"block {i}"):
            kinds = [name for name, (_, ndims, _) in BLOCKS.items() if len(shape) + 1 in ndims]
            kinds = [name for name in kinds for _ in range(BLOCKS[name][2])]
            kind = p.pick("kind", "none", *kinds)
            if kind == "none":
                continue
            p.lines = []
            with p.scope(kind):
                shape = BLOCKS[kind][0](p, shape)
            if p.chance("function", 25):
                body.append(f"h = {call}part{i}(h)")
                functions.append([f"def part{i}({first}h):", *indented([*p.lines, "return h"])])
            elif p.chance("nested function", 10):
                body += [f"def inner{i}(h):", *indented([*p.lines, "return h"]), f"h = inner{i}(h)"]
            else:
                body += p.lines
    p.lines = []
    with p.scope("head"):
        while len(shape) > 1:
            with p.scope(f"{len(shape)}"):
                shape = BLOCKS["pooled" if p.chance("pooled", 50) else "flattened"][0](p, shape)
        if not p.chance("none", 20) or shape[0] < 2 or not p.trained:
            classes = p.pick("classes", 3, 4)
            if p.chance("layer", 30):
                p.line(f"h = {p.layer(f'nn.Linear({shape[0]}, {classes})')}(h)")
            else:
                w = weight_matrix(p, shape[0], classes)
                p.line(f"h = h @ {w} + {p.parameter((classes,))}")
            shape = (classes,)
    body += p.lines
    name = "__call__" if p.style == "object" else "forward"
    functions.append([f"def {name}({first}x):", *indented([*body, "return h"])])
    lines: list[str] = []
    for function in functions:
        lines += [*function, ""]
    return lines[:-1], shape
