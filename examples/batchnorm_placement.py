"""BatchNorm in the hidden layers, in the output layer, in both or in neither: an experiment.

    pip install -e '.[examples]'
    python examples/batchnorm_placement.py           # under a minute; a picture in placement.png
    python examples/batchnorm_placement.py --quick   # a few seconds, too few runs for conclusions

The network is that of examples/digits.py, 64-128-64-10. BatchNorm stands between a Linear and its
ReLU, after the last Linear, in both places or in neither. Each placement is trained with each
learning rate and seed; the seed also splits the data. The loss is the cross-entropy, and the
optimizer is SGD with momentum 0.9 and a constant learning rate.
"""

import argparse
import functools
import sys

import numpy as np
from digits import accuracy, load, train_epoch, writable
from matplotlib.figure import Figure

import minigrad as mg
from minigrad import nn, optim
from minigrad.data import DataLoader

PLACEMENTS = {  # in the hidden layers, in the output layer
    "nowhere": (False, False),
    "hidden layers": (True, False),
    "output layer": (False, True),
    "hidden and output": (True, True),
}
RATES = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0]
load = functools.cache(load)  # reading the digits takes longer than training on them
CLOSE = 1.0  # percentage points below the best that count as good


def build(hidden, output):
    """Return the network; `hidden` and `output` say in which layers BatchNorm stands."""
    layers = []
    for inputs, outputs in ((64, 128), (128, 64)):
        layers.append(nn.Linear(inputs, outputs))
        if hidden:
            layers.append(nn.BatchNorm1d(outputs))
        layers.append(nn.ReLU())
    layers.append(nn.Linear(64, 10))
    if output:
        layers.append(nn.BatchNorm1d(10))
    return nn.Sequential(*layers)


def train(placement, lr, seed, epochs):
    """Return the test accuracy in percent, and the mean training loss of the last epoch."""
    x_train, x_test, y_train, y_test = load(seed)
    mg.manual_seed(seed)
    model = build(*PLACEMENTS[placement])
    opt = optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    loader = DataLoader(x_train, y_train, batch_size=64, shuffle=True, drop_last=True, seed=seed)
    for _ in range(epochs):
        loss = train_epoch(model, opt, loader, "")
    return accuracy(model, x_test, y_test), loss


def sweep(rates, seeds, epochs):
    """Return the accuracies and losses of each placement, in an array (2, rates, seeds)."""
    results = {}
    with np.errstate(all="ignore"):  # the largest rates diverge, which is a result
        for placement in PLACEMENTS:
            runs = [[train(placement, lr, s, epochs) for s in range(seeds)] for lr in rates]
            results[placement] = np.moveaxis(np.array(runs), -1, 0)
    return results


def print_table(rates, results):
    """Print mean accuracies by learning rate, and how many of the rates are good."""
    best = max(accuracies.mean(axis=1).max() for accuracies, _ in results.values())
    seeds = next(iter(results.values())).shape[-1]
    print(f"test accuracy in percent, mean of {seeds} seeds, by learning rate\n")
    print(f"{'BatchNorm':18}" + "".join(f"{lr:8g}" for lr in rates) + f"   {'good':>6}")
    for placement, (accuracies, _) in results.items():
        means = accuracies.mean(axis=1)
        good = f"{(means >= best - CLOSE).sum()} of {len(rates)}"
        print(f"{placement:18}" + "".join(f"{mean:8.1f}" for mean in means) + f"   {good}")
    print(f"\ngood: how many learning rates come within {CLOSE:g} point of the best, {best:.1f} %")


def plot(rates, results, epochs, path):
    """Write a PNG of accuracy and loss by learning rate: the mean and the range over the seeds."""
    figure = Figure(figsize=(11, 4.5), layout="constrained")  # Agg draws it: no display needed
    seeds = next(iter(results.values())).shape[-1]
    figure.suptitle(f"Where BatchNorm stands ({epochs} epochs of digits, {seeds} seeds)")
    left, right = figure.subplots(1, 2)
    for i, (placement, measured) in enumerate(results.items()):
        for panel, values in zip((left, right), measured, strict=True):
            color = f"C{i}"
            panel.plot(rates, values.mean(axis=1), marker="osd^"[i], color=color, label=placement)
            ends = values.min(axis=1), values.max(axis=1)
            panel.fill_between(rates, *ends, color=color, alpha=0.15)
    left.set(ylabel="test accuracy (%)", ylim=(0, 102))
    right.set(ylabel="training loss in the last epoch (nats)", yscale="log")
    for panel in (left, right):
        panel.set(xlabel="learning rate", xscale="log")
        panel.grid(alpha=0.3)
    left.legend()
    figure.savefig(path, format="png", dpi=120)


def main():
    """Train all networks, print the table and plot it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few learning rates, seeds, epochs")
    parser.add_argument(
        "--plot", type=writable, default="placement.png", help="PNG to write (default: %(default)s)"
    )
    args = parser.parse_args()
    rates, seeds, epochs = (RATES[1::3], 2, 2) if args.quick else (RATES, 5, 10)
    results = sweep(rates, seeds, epochs)
    print_table(rates, results)
    plot(rates, results, epochs, args.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
