"""Train a small network on scikit-learn's handwritten digits, and plot its learning curves.

    pip install -e '.[examples]'
    python examples/digits.py            # a few seconds; the curves go to digits.png

There are 1797 grey images of 8 x 8 pixels, 1437 for training and 360 for testing. The network is
64-128-64-10, with BatchNorm. Ctrl-C stops early and keeps what was learnt so far.
"""

import argparse
import math
import os
import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from tqdm import tqdm

import minigrad as mg
from minigrad import functional as F
from minigrad import nn, optim
from minigrad.data import DataLoader

TRAIN_IMAGES, TEST_IMAGES = 1437, 360
WEIGHT_DECAY = 5e-3  # it raises the test accuracy a little


def load(seed):
    """Return x_train, x_test, y_train, y_test: float32 (n, 64) in [0, 1], int64 (n,)."""
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32)  # pixels are 0 to 16
    # Stratified: every digit is equally frequent in both parts.
    return train_test_split(x, y, test_size=TEST_IMAGES, stratify=y, random_state=seed)


def build(batchnorm):
    """Return the network: Linear, BatchNorm and ReLU for each hidden layer, then a Linear."""
    layers = []
    for inputs, outputs in ((64, 128), (128, 64)):
        layers.append(nn.Linear(inputs, outputs))
        if batchnorm:
            layers.append(nn.BatchNorm1d(outputs))
        layers.append(nn.ReLU())
    return nn.Sequential(*layers, nn.Linear(64, 10))


def accuracy(model, x, y):
    """Return the percentage of images whose digit the model recognises."""
    model.eval()  # BatchNorm uses its running statistics, not those of x
    with mg.no_grad():
        logits = model(x).numpy()
    return 100 * np.mean(logits.argmax(axis=1) == y)


def train_epoch(model, opt, loader, title):
    """Make one step for every mini-batch; return the mean loss."""
    model.train()
    losses = []
    # disable=None: no bar if the output is not a terminal, as in a log file.
    for x, y in tqdm(loader, desc=title, unit="batch", leave=False, disable=None):
        opt.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        opt.step()
        losses.append(loss.item())
    return np.mean(losses)


def fit(model, data, args, history):
    """Train for all epochs; add (loss, train accuracy, test accuracy) of each to `history`."""
    x_train, x_test, y_train, y_test = data
    # drop_last: BatchNorm cannot train on a last batch of one image.
    loader = DataLoader(
        x_train, y_train, batch_size=args.batch_size, shuffle=True, drop_last=True, seed=args.seed
    )
    opt = optim.SGD(model.parameters(), lr=args.lr, momentum=0.9, weight_decay=WEIGHT_DECAY)
    for epoch in range(args.epochs):
        # Half a cosine, from the full rate to almost none: large steps first, fine ones last.
        opt.param_groups[0]["lr"] = args.lr * (1 + math.cos(math.pi * epoch / args.epochs)) / 2
        title = f"epoch {epoch + 1}/{args.epochs}"
        loss = train_epoch(model, opt, loader, title)
        train, test = accuracy(model, x_train, y_train), accuracy(model, x_test, y_test)
        history.append((loss, train, test))
        # flush: a reader at the end of a pipe sees the line at once.
        print(f"{title}  loss {loss:.4f}  train {train:.1f} %  test {test:.1f} %", flush=True)


def plot(history, path):
    """Write the learning curves as a PNG, whatever the suffix of the path."""
    epochs = range(1, len(history) + 1)
    loss, train, test = zip(*history, strict=True)
    figure = Figure(figsize=(9, 4), layout="constrained")  # Agg draws it: no display needed
    figure.suptitle("Learning curves on the 8 x 8 digits")
    left, right = figure.subplots(1, 2)
    left.plot(epochs, loss, marker=".", label="training loss")
    left.set(xlabel="epoch", ylabel="cross-entropy (nats)")
    right.plot(epochs, train, marker=".", label="training images")
    right.plot(epochs, test, marker=".", label="test images")
    right.set(xlabel="epoch", ylabel="accuracy (%)")
    for panel in (left, right):
        panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        panel.grid(alpha=0.3)
        panel.legend()
    figure.savefig(path, format="png", dpi=120)


def number(kind, low, high):
    """Return an argparse type: a number of type `kind`, int or float, from `low` to `high`."""

    def parse(text):
        if not low <= kind(text) <= high:  # also refuses nan
            raise argparse.ArgumentTypeError(f"expected {low} to {high}, got {text}")
        return kind(text)

    parse.__name__ = kind.__name__  # for argparse's own message: "invalid int value: 'x'"
    return parse


def writable(text):
    """Return the path, or refuse one that cannot be written, as argparse types do."""
    path = Path(text)
    target = path if path.exists() else path.parent
    if path.is_dir() or not path.parent.is_dir() or not os.access(target, os.W_OK):
        raise argparse.ArgumentTypeError(f"cannot write {text!r}; is its folder there?")
    return path


def parse_options():
    """Return the command line's options; exit with status 2 if one is wrong."""
    defaults = argparse.ArgumentDefaultsHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=defaults)
    add = parser.add_argument
    add("--epochs", type=number(int, 1, 9999), default=20, help="passes over the training images")
    add("--batch-size", type=number(int, 1, TRAIN_IMAGES), default=64, help="images per step")
    add("--lr", type=number(float, 1e-9, 1e9), default=0.1, help="learning rate at the start")
    add("--seed", type=number(int, 0, 2**32 - 1), default=0, help="of split, weights and order")
    add("--no-batchnorm", action="store_true", help="leave the BatchNorm layers out")
    add("--plot", type=writable, default="digits.png", help="the PNG file to write")
    args = parser.parse_args()
    if args.batch_size == 1 and not args.no_batchnorm:
        parser.error("argument --batch-size: BatchNorm needs at least 2; or give --no-batchnorm")
    return args


def main():
    """Train, plot, and print the test accuracy as the last line; return the exit status."""
    args = parse_options()
    data = load(args.seed)
    mg.manual_seed(args.seed)
    model = build(batchnorm=not args.no_batchnorm)
    history, status = [], 0
    try:
        fit(model, data, args, history)
    except KeyboardInterrupt:
        print("interrupted: keeping what was learnt so far", file=sys.stderr)
        status = 130  # the shell's number for it: a script can tell that training was cut short
    if history:
        plot(history, args.plot)
    _, x_test, _, y_test = data
    print(f"test accuracy {accuracy(model, x_test, y_test):.1f} %")
    return status


if __name__ == "__main__":
    sys.exit(main())
