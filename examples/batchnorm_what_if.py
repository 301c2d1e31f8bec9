"""What if one forgets a path? BatchNorm's dx if a statistic is taken for a constant.

    pip install -e '.[examples]'
    python examples/batchnorm_what_if.py                    # a table
    python examples/batchnorm_what_if.py --plot paths.png   # and a picture

In y = gamma * (x - mean) / sqrt(var + eps) + beta, mean and var depend on all x of the batch. So
each x acts on y in three ways, and dx is gamma * inv_std times the sum of three terms, where m() is
the mean over the batch:

    g                        directly
    - m(g)                   through the mean in the centring
    - x_hat * m(g * x_hat)   through the variance

If you forget a path, you lose its term. The path through the mean *inside* the variance has no
term: the derivative of the variance by that mean is -2 * m(x - mean), and the deviations from a
mean sum to zero.

The batch consists of real digits behind a Linear layer. The cotangent g is random, since that of a
plain sum makes all of dx zero, as the last table shows. All numbers are float64; a zero shows as
rounding errors.
"""

import argparse
import sys

import numpy as np
from digits import number, writable
from matplotlib.figure import Figure
from sklearn.datasets import load_digits

import minigrad as mg
from minigrad import functional as F
from minigrad import nn
from minigrad.explainer import ladder

FEATURES, EPS = 32, 1e-5
FORGOTTEN = {
    "nothing": (),
    "the mean inside the variance": ("mean_in_var",),
    "the variance": ("var",),
    "the mean in the centring": ("mean",),
    "all of them": ("mean", "var", "mean_in_var"),
}


def problem(n, seed):
    """Return x, gamma and a cotangent g, for n digits behind a Linear layer."""
    mg.manual_seed(seed)
    rng = np.random.default_rng(seed)
    images = load_digits().data / 16  # pixels are 0 to 16
    batch = rng.choice(images, n, replace=False)
    with mg.no_grad():
        x = nn.Linear(images.shape[1], FEATURES).double()(batch).numpy()
    return x, rng.uniform(0.5, 1.5, FEATURES), rng.standard_normal(x.shape)


def derive(x, gamma, g, detach=()):
    """Return dx as the tape derives it, without the paths through detached statistics."""
    leaf = mg.tensor(x, requires_grad=True)
    y = ladder.what_if(leaf, gamma, detach=detach, eps=EPS)
    return mg.grad(y, leaf, g)[0].numpy()


def closed_form(x, gamma, g):
    """Return dx by its formula, term by term."""
    inv_std = 1 / np.sqrt(x.var(axis=0) + EPS)
    x_hat = (x - x.mean(axis=0)) * inv_std
    return gamma * inv_std * (g - g.mean(axis=0) - x_hat * (g * x_hat).mean(axis=0))


def finite_differences(x, gamma, g, step=1e-5):
    """Return dx by central differences, which need no derivation that could forget a path."""

    def z(x):
        y = F.batch_norm(x, weight=gamma, training=True, eps=EPS, fused=False).numpy()
        return g * y

    dx, x = np.empty(x.shape), x.copy()
    for i in range(len(x)):  # features are independent, so one shift serves all
        x[i] += step
        above = z(x)
        x[i] -= 2 * step
        dx[i] = (above - z(x)).sum(axis=0) / (2 * step)
        x[i] += step
    return dx


def error(dx, exact):
    """Return the length of the difference, relative to the length of the exact dx."""
    return np.linalg.norm(dx - exact) / np.linalg.norm(exact)


def angle(dx, exact):
    """Return the angle between dx and the exact one, in degrees."""
    # By the sine of half the angle: the cosine of a small angle rounds to 1.
    dx, exact = dx / np.linalg.norm(dx), exact / np.linalg.norm(exact)
    return np.degrees(2 * np.arcsin(min(1.0, np.linalg.norm(dx - exact) / 2)))


def compare(n, seed):
    """Return a dict of dx by what is forgotten, and the problem, for a batch of n digits."""
    given = problem(n, seed)
    return {name: derive(*given, detach) for name, detach in FORGOTTEN.items()}, given


def print_table(found, given):
    """Print how far each dx is from the closed form and from finite differences."""
    closed, numeric = closed_form(*given), finite_differences(*given)
    n = len(given[0])
    print(f"dx of {n} digits in {FEATURES} features; errors relative to the length of dx\n")
    print(f"{'forgotten':30} {'error':>9} {'angle':>9}   against finite differences")
    for name, dx in found.items():
        values = f"{error(dx, closed):9.1e} {angle(dx, closed):8.1f}\N{DEGREE SIGN}"
        print(f"{name:30} {values} {error(dx, numeric):12.1e}")


def errors_by_size(sizes, seed):
    """Return a dict of lists by what is forgotten: the error for each size of the batch."""
    errors = {name: [] for name in FORGOTTEN if name != "nothing"}
    for n in sizes:
        found, given = compare(n, seed)
        for name, values in errors.items():
            values.append(error(found[name], closed_form(*given)))
    return errors


def print_sizes(sizes, errors):
    """Print the errors for batches of several sizes."""
    print("\nThe same error by the size of the batch\n")
    print(f"{'forgotten':30} " + " ".join(f"{n:9}" for n in sizes))
    for name, values in errors.items():
        print(f"{name:30} " + " ".join(f"{value:9.1e}" for value in values))
    print("\nThe mean of a random g is about 1 / sqrt(n), and so is what was forgotten.")


def print_sum(x, gamma):
    """Print dx of a sum, which is zero for every x, since the mean of y is beta."""
    print(
        "\nLength of dx where z is the plain sum of y, which no x can change: g is 1 everywhere\n"
    )
    for name, detach in FORGOTTEN.items():
        length = np.linalg.norm(derive(x, gamma, np.ones(x.shape), detach))
        print(f"{name:30} {length:9.1e}")


def plot(found, given, sizes, errors, path):
    """Write a PNG of each dx against the exact one, and of the errors by the size of the batch."""
    exact = closed_form(*given)
    names = [name for name in FORGOTTEN if name != "nothing"]
    figure = Figure(figsize=(12, 7), layout="constrained")  # Agg draws it: no display needed
    figure.suptitle(f"BatchNorm's dx if one forgets a path ({len(exact)} digits)")
    top, bottom = figure.subfigures(2, 1, height_ratios=[3, 2])
    panels = top.subplots(1, len(names), sharex=True, sharey=True)
    ends = np.array([exact.min(), exact.max()])
    for i, (panel, name) in enumerate(zip(panels, names, strict=True)):
        panel.plot(ends, ends, color="black", linewidth=0.8)
        panel.scatter(exact, found[name], s=5, alpha=0.5, color=f"C{i}")
        panel.set(title=name, xlabel="dx, all paths")
        panel.text(0.05, 0.9, f"error {error(found[name], exact):.1e}", transform=panel.transAxes)
    panels[0].set_ylabel("dx without it")
    wrong, exact = bottom.subplots(2, 1, sharex=True, height_ratios=[2, 1])
    for i, name in enumerate(names):  # on one axis of 15 decades, the wrong ones would merge
        curves = wrong if max(errors[name]) > 1e-12 else exact
        curves.loglog(sizes, errors[name], "osd^"[i] + "-", color=f"C{i}", alpha=0.7, label=name)
    for curves in (wrong, exact):
        curves.set_xticks(sizes, [str(n) for n in sizes])
        curves.minorticks_off()
        curves.grid(alpha=0.3)
        curves.legend(loc="upper right")
    exact.set(xlabel="batch size", ylim=(1e-17, 1e-12))
    wrong.set(ylabel="error relative to dx")
    figure.savefig(path, format="png", dpi=120)


def main():
    """Print the tables; plot them if asked to."""
    defaults = argparse.ArgumentDefaultsHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=defaults)
    add = parser.add_argument
    add("--batch-size", type=number(int, 2, 1797), default=16, help="digits")
    add("--seed", type=number(int, 0, 2**32 - 1), default=0, help="of weights, batch and g")
    add("--plot", type=writable, help="a PNG file to write")
    args = parser.parse_args()
    sizes = [4, 16, 64, 256, 1024]
    found, given = compare(args.batch_size, args.seed)
    print_table(found, given)
    errors = errors_by_size(sizes, args.seed)
    print_sizes(sizes, errors)
    print_sum(*given[:2])
    if args.plot:
        plot(found, given, sizes, errors, args.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
