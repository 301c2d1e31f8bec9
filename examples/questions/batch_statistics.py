"""Questions on means and variances, on neighbouring layers, and on where BatchNorm belongs.

As in gamma_beta.py, a docstring is a question and its answer, and the body prints the evidence.
"""

import numpy as np
from batchnorm_placement import PLACEMENTS, train
from batchnorm_what_if import compare, error
from digits import build, load, train_epoch

import minigrad as mg
from minigrad import functional as F
from minigrad import nn, optim
from minigrad.data import DataLoader

from .gamma_beta import batch


def what_eps_is_for():
    """What is eps for?

    A feature that is the same in the whole batch has variance 0, and 0 / 0 is not a number. eps, a
    small number, keeps the root from being 0, so that such a feature gets y = beta. That is not
    rare: some of the digits' pixels are 0 in every image.
    """
    x, _ = batch()
    constant = x.var(axis=0) == 0
    print(f"pixels without variance in 64 digits: {constant.sum()} of 64")
    with np.errstate(invalid="ignore"):
        without = (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0))
    print(f"not a number without eps: {np.isnan(without).sum()} of {without.size} values")
    y = F.batch_norm(x, training=True, eps=1e-5).numpy()
    print(f"not a number with eps:    {np.isnan(y).sum()}")
    print(f"y of those pixels, whose beta is 0: {np.unique(y[:, constant])}")


def bias_before():
    """Why is the bias of the Linear before a BatchNorm useless?

    It is the same for all examples, so the mean contains it, and the mean is subtracted. Nothing
    depends on it, and its gradient is zero except for rounding. beta does its work, after the
    normalisation. Write nn.Linear(..., bias=False).
    """
    x, labels = batch()
    mg.manual_seed(0)
    linear, bn, last = nn.Linear(64, 32), nn.BatchNorm1d(32), nn.Linear(32, 10)
    model = nn.Sequential(linear, bn, nn.ReLU(), last).double()
    before = model(x)
    F.cross_entropy(before, labels).backward()
    for name, p in {"weight": linear.weight, "bias": linear.bias, "beta": bn.bias}.items():
        print(f"largest gradient of {name:6}: {np.abs(p.grad.numpy()).max():.0e}")
    with mg.no_grad():
        linear.bias.copy_(linear.bias + 100)
    change = np.abs(model(x).numpy() - before.numpy()).max()
    print(f"bias + 100 changes the logits by at most {change:.0e}")


def three_paths():
    """The derivative for x: why is it not simply gamma * inv_std * dz/dy?

    Because mean and variance depend on x. Each x acts on all y of its feature, through the mean and
    through the variance, and each of these paths subtracts a term. The path through the mean inside
    the variance adds nothing, since deviations from a mean sum to 0. batchnorm_what_if.py has more.
    """
    found, given = compare(16, 0)
    for name, dx in found.items():
        if name != "nothing":
            print(f"without the path through {name:29} error {error(dx, found['nothing']):.0e}")
    print(f"({len(given[0])} digits behind a Linear layer, a random dz/dy)")


def training_or_eval():
    """Which mean and variance are used, in training and when the network is used?

    In training those of the batch; in evaluation mode the running ones, which training has
    collected. So the output for an image depends on the other images of its batch in training, and
    only on itself in eval(). If you forget model.eval(), answers change with the batch, and they
    are bad for a batch whose mixture differs from that in training.
    """
    x_train, x_test, y_train, y_test = load(0)
    mg.manual_seed(0)
    model = build(batchnorm=True)
    opt = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    loader = DataLoader(x_train, y_train, batch_size=64, shuffle=True, drop_last=True)
    for _ in range(3):
        train_epoch(model, opt, loader, "")
    threes = x_test[y_test == 3]
    with mg.no_grad():
        for name, mode in {"train()": model.train, "eval()": model.eval}.items():
            mode()
            among_many, among_two = model(x_test).numpy()[0], model(x_test[:2]).numpy()[0]
            print(
                f"{name:8} logits of an image among {len(x_test)} and among 2: "
                f"{np.abs(among_many - among_two).max():.0e} apart"
            )
            right = 100 * np.mean(model(threes).numpy().argmax(axis=1) == 3)
            print(f"{name:8} right in a batch of {len(threes)} threes: {right:.0f} %")


def batch_of_one():
    """Why does a batch of one fail in training, and what helps?

    One value is its own mean: x - mean is 0, whatever x is, and so is the variance. There is
    nothing to normalise, and it is an error. It mostly happens in the last batch of an epoch, which
    DataLoader(drop_last=True) leaves out. In evaluation mode one image is fine.
    """
    bn, x = nn.BatchNorm1d(64), batch(1)[0].astype(np.float32)
    try:
        bn(x)
    except ValueError as refused:
        print(f"{type(refused).__name__}: {str(refused).split(';')[0]}")
    print("eval():", bn.eval()(x).shape)
    images = load(0)[0]
    for drop_last in (False, True):
        sizes = [len(b) for b in DataLoader(images, batch_size=4, drop_last=drop_last)]
        print(f"{len(images)} images by 4, drop_last={drop_last}: the last batch has {sizes[-1]}")


def biased_or_unbiased():
    """Is the variance the biased or the unbiased one?

    Both are used. A batch is normalised with its biased variance, divided by n; the running
    variance takes the unbiased one, divided by n - 1, since it estimates that of all data. (PyTorch
    does the same; Keras 3 and Flax use the biased one for both.)
    """
    x = batch(8)[0][:, 20:21]
    bn = nn.BatchNorm1d(1, momentum=1.0).double()  # the running value is that of this batch alone
    y = bn(x).numpy()
    print(f"variance of 8 values: biased {x.var():.6f}, unbiased {x.var(ddof=1):.6f}")
    implied = ((x - x.mean()) / y).max() ** 2 - bn.eps
    print(f"what y was normalised with:  {implied:.6f}")
    print(f"what running_var has become: {bn.running_var.item():.6f}")


def momentum_conventions():
    """What does momentum mean, 0.1 here and 0.99 in Keras?

    Here and in PyTorch it is the weight of the new value, running = (1 - momentum) * running +
    momentum * batch; in Keras and Flax it is that of the old one, so that their 0.99 is 0.01 here.
    If you copy 0.99 unchanged, the running mean follows the latest batch. It has nothing to do with
    the momentum of SGD. momentum=None takes the plain mean of all batches.
    """
    images = load(0)[0]
    for momentum in (0.1, 0.01, 0.99, None):
        bn = nn.BatchNorm1d(64, momentum=momentum)
        for epoch in range(40):
            for x in DataLoader(images, batch_size=64, shuffle=True, drop_last=True, seed=epoch):
                bn(x)
        off = np.abs(bn.running_mean.numpy() - images.mean(axis=0)).max()
        keras = "" if momentum is None else f" ({1 - momentum:g} in Keras)"
        print(f"momentum={momentum}{keras}: running mean off by at most {off:.4f}")


def freezing():
    """How do I freeze a BatchNorm? requires_grad=False was not enough.

    That stops only gamma and beta. The running statistics are not parameters; they change in each
    forward in training mode, also under no_grad. eval() stops them, and makes BatchNorm use them;
    call it again after each model.train(). (In Keras, trainable=False does both.)
    """
    x, _ = batch()
    bn = nn.BatchNorm1d(64).double().requires_grad_(False)
    for mode in ("train", "eval"):
        bn.reset_running_stats()
        getattr(bn, mode)()
        bn(x)
        moved = np.abs(bn.running_mean.numpy()).max()
        print(f"requires_grad_(False), {mode + '()':8} running mean moves by {moved:.3f}")


def from_layer_to_layer():
    """Does it keep the distribution of the data the same from layer to layer?

    Within a batch it does, except for eps: each feature leaves with mean beta and standard
    deviation |gamma|, whatever the weights before it do. If these are ten times as large, nothing
    changes, and their gradient is a tenth. The paper of 2015 (arXiv:1502.03167) gives this as the
    reason why BatchNorm helps; Santurkar et al. (arXiv:1805.11604) doubt it, and find a smoother
    loss instead.
    """
    x, labels = batch()
    mg.manual_seed(0)
    linear, bn, last = nn.Linear(64, 32, bias=False), nn.BatchNorm1d(32), nn.Linear(32, 10)
    model = nn.Sequential(linear, bn, nn.ReLU(), last).double()
    weight = linear.weight.numpy().copy()
    for factor in (1, 10, 100):
        with mg.no_grad():
            linear.weight.copy_(factor * weight)
        model.zero_grad()
        inner = linear(x)
        z = F.cross_entropy(last(bn(inner).relu()), labels)
        z.backward()
        print(
            f"weights x {factor:3}: std before {inner.numpy().std(axis=0).mean():7.3f}, after "
            f"{bn(inner).numpy().std(axis=0).mean():.3f}; loss {z.item():.4f}; gradient of the "
            f"weights {np.linalg.norm(linear.weight.grad.numpy()):.5f}"
        )


def hidden_or_output():
    """Does BatchNorm belong in hidden layers only, or in the output layer too?

    In hidden layers, between the Linear and its activation: there it helps a lot. After the last
    Linear it is unusual. There it ties the spread of each class's logits over a batch to that
    class's gamma, so that confidence has to be learnt by these ten numbers, and the loss falls more
    slowly. It need not cost accuracy: batchnorm_placement.py tries all learning rates.
    """
    lr, epochs = 0.1, 5
    print(f"{epochs} epochs with learning rate {lr}: test accuracy, and last training loss")
    for placement in PLACEMENTS:
        accuracy, loss = train(placement, lr, seed=0, epochs=epochs)
        print(f"BatchNorm {placement:18} {accuracy:6.1f} % {loss:8.4f}")
