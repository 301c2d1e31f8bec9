"""This program makes the README's tables and plot from what two commands have measured.

    python -m bench.compare steps --json steps.json
    python -m bench.compare norms --json norms.json
    python -m bench.report steps.json norms.json

The last command prints the tables as Markdown. With `--readme README.md`, the tables replace the
text between two marks in that file, and the plot goes to `bench/speed.png` (needs matplotlib).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PLOT = Path("bench/speed.png")
BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"
NORMS = {
    "fused": "fused",
    "composed": "composed",
    "compiled": "fused, compiled",
    "torch": "PyTorch",
    "passes": "passes",
}
STEPS = {
    "minigrad": "eager",
    "torch": "PyTorch",
    "minigrad-compiled": "compiled",
    "minigrad-compiled-composed": "compiled, composed",
    "minigrad-compiled-model": "compiled model",
    "jax": "JAX, jit",
}
# What the tables compare, as (time, time that divides it).
NORM_RATIOS = [("torch", "fused")]
STEP_RATIOS = [("torch", "minigrad"), ("jax", "minigrad-compiled")]
# What the plot shows, in both parts in the same colours.
PLOTTED_STEPS = {"minigrad": "minigrad", "minigrad-compiled": "compiled", "jax": "JAX, jit"}
PLOTTED_NORMS = {"fused": "minigrad", "compiled": "compiled"}

Medians = dict[str, dict[str, float]]  # microseconds by row, then by library or variant


def medians(found: dict[str, Any]) -> Medians:
    """Return the medians of a command's result by net or by shape."""
    return {
        row: {name: quartiles[1] for name, quartiles in each["quartiles_us"].items()}
        for row, each in found.items()
    }


def table(
    head: str, rows: Medians, names: dict[str, str], ratios: Sequence[tuple[str, str]]
) -> list[str]:
    """Return a table of medians and their ratios, without columns that nothing was measured for."""
    known = [name for name in names if any(name in row for row in rows.values())]
    compared = [pair for pair in ratios if set(pair) <= set(known)]
    heads = [head, *(names[name] for name in known)]
    heads += [f"{names[a]} / {names[b]}" for a, b in compared]
    lines = [f"| {' | '.join(heads)} |", "| --- |" + " ---: |" * (len(heads) - 1)]
    for row, times in rows.items():
        cells = [f"{times[name]:,.0f}" if name in times else "" for name in known]
        cells += [f"{times[a] / times[b]:.2f}" if {a, b} <= set(times) else "" for a, b in compared]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return lines


def report(steps: dict[str, Any], norms: dict[str, Any]) -> list[str]:
    """Return the lines of the tables, and of the machine that they were measured on.

    steps, norms: what the commands of these names have written.
    """
    about = steps["machine"]
    versions, threads = (
        ", ".join(f"{name} {value}" for name, value in about[topic].items())
        for topic in ("versions", "threads")
    )
    return [
        f"![How many times as fast as PyTorch, by network and by shape]({PLOT.as_posix()})",
        "",
        "One training step (`bench/workloads.py`), medians in microseconds of libraries in turn; "
        "eager, compiled and compiled model are minigrad's, and bare is digits without BatchNorm:",
        "",
        *table("network", medians(steps["steps"]), STEPS, STEP_RATIOS),
        "",
        "BatchNorm in training, forward and backward, float32, medians in microseconds in turn. "
        "Compiled is both directions as one function of `mg.compile`; passes is how long NumPy "
        "takes to read and write what any form must, `np.copyto(y, x)` and "
        "`np.add(x, dy, out=dx)`:",
        "",
        *table("shape", by_tuple(norms["norms"]), NORMS, NORM_RATIOS),
        "",
        f"{about['cpu']}, {about['cores']} cores; {versions}; threads: {threads}.",
    ]


def by_tuple(found: dict[str, Any]) -> Medians:
    """Return the medians of BatchNorm by shape, as in (32, 64)."""
    return {f"({shape.replace('x', ', ')})": times for shape, times in medians(found).items()}


def plot(steps: dict[str, Any], norms: dict[str, Any], path: Path) -> None:
    """Plot how many times as fast as PyTorch steps and BatchNorm are, with the number on each bar.

    Rows without PyTorch are left out.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    parts = [
        ("One training step", medians(steps["steps"]), PLOTTED_STEPS, 0),
        ("BatchNorm, forward and backward", by_tuple(norms["norms"]), PLOTTED_NORMS, 30),
    ]
    figure, axes = plt.subplots(1, 2, figsize=(12, 4.2), layout="constrained", width_ratios=(4, 7))
    for axis, (title, rows, names, rotation) in zip(axes, parts, strict=True):
        rows = {row: times for row, times in rows.items() if "torch" in times}
        width = 0.8 / len(names)
        for i, (name, label) in enumerate(names.items()):
            places = [
                k + (i + 0.5) * width - 0.4 for k, row in enumerate(rows) if name in rows[row]
            ]
            ratios = [times["torch"] / times[name] for times in rows.values() if name in times]
            bars = axis.bar(places, ratios, width, label=label)
            axis.bar_label(bars, [f"{ratio:.1f}" for ratio in ratios], fontsize=8)
        axis.axhline(1, color="black", linewidth=1)
        axis.set_yscale("log")
        axis.set_yticks([0.5, 1, 2, 5, 10, 20, 50], ["0.5", "1", "2", "5", "10", "20", "50"])
        axis.minorticks_off()
        axis.margins(y=0.15)
        axis.set_title(title)
        axis.set_xticks(
            range(len(rows)), rows, rotation=rotation, ha="right" if rotation else "center"
        )
    axes[0].set_ylabel("times as fast as PyTorch")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=3)
    figure.savefig(path, dpi=120, metadata={"Software": None})
    plt.close(figure)


def main(argv: Sequence[str] | None = None) -> None:
    """Print the report, or write it into a README."""
    parser = argparse.ArgumentParser(prog="python -m bench.report", description=__doc__)
    parser.add_argument("steps", type=Path, help="what `bench.compare steps --json` wrote")
    parser.add_argument("norms", type=Path, help="what `bench.compare norms --json` wrote")
    parser.add_argument("--readme", type=Path, metavar="PATH", help="the file to put it into")
    args = parser.parse_args(argv)
    runs = [json.loads(path.read_text(encoding="utf-8")) for path in (args.steps, args.norms)]
    text = "\n".join(report(*runs))
    if args.readme is None:
        print(text)
        return
    before, _, rest = args.readme.read_text(encoding="utf-8").partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        parser.error(f"{args.readme} has no {BEGIN} with {END} behind it")
    plot(*runs, args.readme.parent / PLOT)
    args.readme.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
