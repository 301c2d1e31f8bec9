"""This program makes the README's tables and plot from the JSON of one run.

    pytest bench/test_batchnorm.py bench/test_steps.py --benchmark-json=run.json
    python -m bench.report run.json

The second command prints the tables as Markdown. With `--readme README.md`, the tables replace the
text between two marks in that file, and the plot goes to `bench/batchnorm.png` (needs matplotlib).
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PLOT = Path("bench/batchnorm.png")
BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"
SHOWN = {
    "fused": "minigrad, fused",
    "composed": "minigrad, composed",
    "compiled": "fused, compiled",
    "torch": "PyTorch",
    "copies": "copies",
}
STEPS = {
    "minigrad": "minigrad",
    "minigrad-composed": "minigrad, composed",
    "torch": "PyTorch",
    "minigrad-compiled": "compiled",
    "minigrad-compiled-model": "compiled model",
    "minigrad-compiled-composed": "compiled, composed",
    "jax": "JAX, jit",
}

Medians = dict[str, dict[str, float]]  # microseconds by row, then by library or variant


def medians(run: dict[str, Any], pattern: str) -> Medians:
    """Return the medians of benchmarks whose group matches; group 1 of the pattern is the row."""
    found: Medians = {}
    for one in run["benchmarks"]:
        match = re.fullmatch(pattern, one["group"] or "")
        if match:
            variant = one["params"].get("variant") or one["params"]["name"]
            found.setdefault(match[1], {})[variant] = 1e6 * one["stats"]["median"]
    return found


def table(head: str, rows: Medians, names: dict[str, str], first: str) -> list[str]:
    """Return a table of medians, with the ratio of PyTorch's time to that of `first`."""
    known = [name for name in names if any(name in row for row in rows.values())]
    compared = "torch" in known
    heads = [head, *(names[name] for name in known), *(["ratio"] if compared else [])]
    lines = [f"| {' | '.join(heads)} |", "| --- |" + " ---: |" * (len(heads) - 1)]
    for row, times in rows.items():
        cells = [f"{times[name]:,.0f}" if name in times else "" for name in known]
        if compared:
            cells.append(f"{times['torch'] / times[first]:.2f}")
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return lines


def report(run: dict[str, Any]) -> list[str]:
    """Return the lines of the tables, and of the machine that they were measured on."""
    about = run["machine_info"]["minigrad"]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    threads = ", ".join(f"{name} {count}" for name, count in run["threads"].items())
    norms = medians(run, r"batchnorm both (.*)")
    norms = {f"({row.replace('x', ', ')})": times for row, times in norms.items()}
    return [
        "BatchNorm in training, forward and backward, float32, medians in microseconds; the ratio "
        "is PyTorch's time over that of the fused form. Compiled is both directions as one "
        "function of `mg.compile`; copies is how long NumPy takes to move what any form must: "
        "x, y, the cotangent and dx, and x once more:",
        "",
        *table("shape", norms, SHOWN, "fused"),
        "",
        "One training step (`bench/workloads.py`), eager, under `mg.compile`, and JAX under `jit`; "
        "the ratio is PyTorch's time over that of minigrad's eager step:",
        "",
        *table("network", medians(run, r"step (.*)"), STEPS, "minigrad"),
        "",
        f"{about['cpu']}, {about['cores']} cores; {versions}; threads: {threads}.",
        "",
        f"![Times of BatchNorm by shape, relative to PyTorch's]({PLOT.as_posix()})",
    ]


def plot(run: dict[str, Any], path: Path) -> None:
    """Plot times relative to PyTorch's, one axis for forward and one for backward, logarithmic."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
    for axis, direction in zip(axes, ("forward", "backward"), strict=True):
        rows = medians(run, rf"batchnorm {direction} (.*)")
        for offset, name in ((-0.2, "fused"), (0.2, "composed")):
            ratios = [row[name] / row["torch"] for row in rows.values()]
            positions = [i + offset for i in range(len(rows))]
            axis.bar(positions, ratios, 0.4, label=SHOWN[name])
        axis.axhline(1, color="black", linewidth=1)
        axis.set_yscale("log")
        axis.set_title(direction)
        axis.set_xticks(range(len(rows)), rows, rotation=60, ha="right")
    axes[0].set_ylabel("time / PyTorch's (less is faster)")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=2)
    figure.savefig(path, dpi=120, metadata={"Software": None})
    plt.close(figure)


def main(argv: Sequence[str] | None = None) -> None:
    """Print the report, or write it into a README."""
    parser = argparse.ArgumentParser(prog="python -m bench.report", description=__doc__)
    parser.add_argument("run", type=Path, help="what pytest's --benchmark-json wrote")
    parser.add_argument("--readme", type=Path, metavar="PATH", help="the file to put it into")
    args = parser.parse_args(argv)
    run = json.loads(args.run.read_text(encoding="utf-8"))
    text = "\n".join(report(run))
    if args.readme is None:
        print(text)
        return
    before, _, rest = args.readme.read_text(encoding="utf-8").partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        parser.error(f"{args.readme} has no {BEGIN} with {END} behind it")
    plot(run, args.readme.parent / PLOT)
    args.readme.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
