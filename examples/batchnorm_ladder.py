"""From the tape to the compiler: BatchNorm's gradient in five ways, on a batch of real digits.

    pip install -e '.[examples]'
    python examples/batchnorm_ladder.py     # prints the ladder; the picture goes to ladder.png

A batch of scikit-learn's digits goes through Linear, BatchNorm, ReLU and Linear. The five ways, or
rungs, start with the input of the BatchNorm and the cotangent of its output. They are the lines
that the tape derives, the nine stages of the textbooks, the closed form with the algebra that leads
there, the fused kernel, and the code that the compiler makes of the composed form.
"""

import argparse

import numpy as np
from digits import writable
from matplotlib.figure import Figure
from sklearn.datasets import load_digits

import minigrad as mg
from minigrad import functional as F
from minigrad import nn
from minigrad.explainer import ladder


def digits(size, channels):
    """Return the input and cotangent at the BatchNorm of an untrained network, in float64."""
    mg.manual_seed(0)
    x, labels = load_digits(return_X_y=True)
    x, labels = x[:size] / 16, labels[:size]
    before = nn.Sequential(nn.Linear(64, channels)).double()
    norm = nn.BatchNorm1d(channels).double()
    after = nn.Sequential(nn.ReLU(), nn.Linear(channels, 10)).double()
    arrived = before(x)
    y = norm(arrived)
    (g,) = mg.grad(F.cross_entropy(after(y), labels), y)
    return ladder.Batch(arrived.numpy(), norm.weight.numpy(), norm.bias.numpy(), g.numpy())


def draw(rows, path):
    """Save how far each rung is from the first, and how long it takes, as a picture."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    titles = [row.title for row in rows]
    smallest = np.finfo(np.float64).eps / 4  # an exact zero is drawn here, on a logarithmic axis
    for row in rows:
        at = max(row.difference, smallest), row.title
        left.plot(*at, "o", color="C0")
        label = f"{row.difference:.1e}" if row.difference else "0"
        left.annotate(label, at, (7, 0), textcoords="offset points", va="center")
    left.axvline(np.finfo(np.float64).eps, color="gray", linestyle=":", label="float64's epsilon")
    left.set(
        xscale="log", xlim=(smallest / 2, 1e-13), title="largest relative difference from rung 1"
    )
    left.legend()
    times = [row.microseconds for row in rows]
    right.bar_label(right.barh(titles, times), fmt="{:,.0f}", padding=3)
    right.set(xscale="log", xlim=(1, 10 * max(times)), title="time, microseconds (median)")
    left.invert_yaxis()
    figure.savefig(path, dpi=150)


def main():
    """Print the ladder and draw its comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch-size", type=int, default=64, help="default: %(default)s")
    parser.add_argument("--channels", type=int, default=128, help="default: %(default)s")
    parser.add_argument(
        "--plot", type=writable, default="ladder.png", help="PNG to write (default: %(default)s)"
    )
    parser.add_argument(
        "--page", type=writable, help="where to write the page to step through (default: nowhere)"
    )
    args = parser.parse_args()
    if not 2 <= args.batch_size <= 1797 or args.channels < 1:
        parser.error("there are 1797 digits, BatchNorm needs 2 of them, and at least a channel")
    batch = digits(args.batch_size, args.channels)
    rungs = ladder.rungs(batch)
    rows = ladder.measured(rungs, batch)
    print(ladder.report(rungs, rows, batch))
    draw(rows, args.plot)
    print(f"\npicture: {args.plot}")
    if args.page:
        ladder.explained(batch).save_html(args.page)
        print(f"page: {args.page}")


if __name__ == "__main__":
    main()
