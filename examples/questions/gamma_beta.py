"""Questions on gamma and beta: what they are, where they begin, how they learn.

Each function is one question: the first line of its docstring asks, the rest answers, and the body
prints the evidence. `python examples/batchnorm_questions.py` runs them.
"""

import numpy as np
from digits import build, load

import minigrad as mg
from minigrad import functional as F
from minigrad import nn, optim


def batch(n=64):
    """Return n digits and their labels: float64 (n, 64) in [0, 1], int64 (n,)."""
    x, _, y, _ = load(0)
    return x[:n].astype(np.float64), y[:n]


def normalised(x, eps):
    """Return x_hat by its formula."""
    return (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + eps)


def by_hand():
    """How do I implement BatchNorm, for mini-batch gradient descent?

    As a layer between a Linear and its activation: forward normalises each mini-batch, backward
    returns the gradients of x, gamma and beta. By hand that is a dozen lines (--code shows them);
    with an engine that derives gradients, you write only forward.
    """
    x, _ = batch()
    rng = np.random.default_rng(0)
    gamma, beta, g = rng.uniform(0.5, 2, 64), rng.standard_normal(64), rng.standard_normal(x.shape)
    # Forward.
    inv_std = 1 / np.sqrt(x.var(axis=0) + 1e-5)
    x_hat = (x - x.mean(axis=0)) * inv_std
    y = gamma * x_hat + beta
    # Backward: g is dz/dy, the gradient that arrives from the next layer.
    dbeta, dgamma = g.sum(axis=0), (g * x_hat).sum(axis=0)
    dx = gamma * inv_std * (g - g.mean(axis=0) - x_hat * (g * x_hat).mean(axis=0))

    leaves = [mg.tensor(a, requires_grad=True) for a in (x, gamma, beta)]
    engine = F.batch_norm(leaves[0], weight=leaves[1], bias=leaves[2], training=True, fused=False)
    derived = mg.grad(engine, leaves, g)
    hand = {"y": y, "dx": dx, "dgamma": dgamma, "dbeta": dbeta}
    for (name, own), other in zip(hand.items(), [engine, *derived], strict=True):
        apart = np.abs(own - other.numpy()).max() / np.abs(own).max()
        print(f"{name:7} {own.shape!s:9} by hand and derived: {apart:.0e} apart")


def hyperparameters():
    """Are gamma and beta hyperparameters?

    No, they are parameters: gradient descent changes them as it does weights and biases. PyTorch's
    names, and minigrad's, are weight (gamma) and bias (beta). Hyperparameters are eps and
    momentum, which you choose. The running statistics are neither: forward measures them.
    """
    bn = nn.BatchNorm1d(32)
    print("learnt:  ", ", ".join(name for name, _ in bn.named_parameters()))
    print("measured:", ", ".join(name for name, _ in bn.named_buffers()))
    print("chosen:  ", f"eps={bn.eps}, momentum={bn.momentum}")


def initial_values():
    """How are gamma and beta initialised, randomly or with default values, and in which shapes?

    With default values: gamma with ones and beta with zeros, as in PyTorch and Keras. Each is a
    vector with one entry for each feature (channel). So y is x_hat at first, and training learns
    whether to scale or shift it. Random values would gain nothing: the weights of the layer before
    already make the features differ from each other.
    """
    x, _ = batch()
    bn = nn.BatchNorm1d(64).double()
    for name, p in bn.named_parameters():
        print(f"{name:6} shape {p.shape}, from {p.numpy().min():g} to {p.numpy().max():g}")
    difference = np.abs(bn(x).numpy() - normalised(x, bn.eps)).max()
    print(f"largest difference of y from x_hat: {difference:.1e}")


def constructor():
    """Where do I make them: with the weights and biases, or in forward propagation?

    With the weights, once, in the constructor. If forward made them, they would be new in every
    step: the optimizer would not know them, and what they have learnt would be lost.
    """

    class MadeInForward(nn.Module):
        def forward(self, x):
            self.gamma, self.beta = nn.Parameter(np.ones(64)), nn.Parameter(np.zeros(64))
            return F.batch_norm(x, weight=self.gamma, bias=self.beta, training=True)

    x, labels = batch()
    for norm in (nn.BatchNorm1d(64), MadeInForward()):
        mg.manual_seed(0)
        model = nn.Sequential(norm, nn.Linear(64, 10)).double()
        opt = optim.SGD(model.parameters(), lr=0.5)
        for _ in range(20):
            opt.zero_grad()
            F.cross_entropy(model(x), labels).backward()
            opt.step()
        gamma = (norm.weight if isinstance(norm, nn.BatchNorm1d) else norm.gamma).numpy()
        known = sum(p.size for group in opt.param_groups for p in group["params"])
        print(
            f"{type(norm).__name__:13} after 20 steps, gamma {gamma.min():.3f} to "
            f"{gamma.max():.3f}; the optimizer knows {known} numbers"
        )


def one_for_each_layer():
    """With n-vectors of gamma and beta, do I need them for each layer, or for each example?

    For each layer: every BatchNorm has a gamma and a beta of its own, where n is the number of
    features of that layer. All examples of the batch share them, so that their shapes do not
    contain the size of the batch. For images (N, C, H, W), n is the number of channels C.
    """
    model = build(batchnorm=True)
    for name, p in model.named_parameters():
        layer = type(model[int(name.split(".")[0])]).__name__
        print(f"{name:9} {layer:12} {p.shape}")
    x = batch()[0].astype(np.float32)
    print("logits of batches of 8 and 64:", model(x[:8]).shape, model(x).shape)
    print("gamma of BatchNorm2d(16):", nn.BatchNorm2d(16).weight.shape)


def derivatives():
    """How are the derivatives for gamma and beta computed?

    By the chain rule, like any other. y = gamma * x_hat + beta, so dy/dgamma = x_hat and dy/dbeta =
    1. For a result z (the loss), one example contributes dz/dgamma = dz/dy * x_hat and dz/dbeta =
    dz/dy. To see these, give each example a gamma and a beta of its own: a row of a matrix.
    """
    x, labels = batch()
    mg.manual_seed(0)
    linear = nn.Linear(64, 10).double()
    x_hat = normalised(x, 1e-5)

    def z_of(y):
        return F.cross_entropy(linear(y), labels)

    gammas = mg.tensor(np.ones(x.shape), requires_grad=True)
    betas = mg.tensor(np.zeros(x.shape), requires_grad=True)
    y = gammas * x_hat + betas
    dz_dy, dgammas, dbetas = (g.numpy() for g in mg.grad(z_of(y), [y, gammas, betas]))
    print("one feature of three examples, the derivatives times 1000, and differences of z:")
    j, step = 20, 1e-4
    for i in range(3):
        unit = np.zeros(x.shape)
        unit[i, j] = step
        for name, own, formula, move in (
            ("dgamma = dz/dy * x_hat", dgammas, dz_dy * x_hat, unit * x_hat),
            ("dbeta  = dz/dy", dbetas, dz_dy, unit),
        ):
            difference = (
                (z_of(y.detach() + move).item() - z_of(y.detach() - move).item()) / step / 2
            )
            values = 1e3 * np.array([formula[i, j], own[i, j], difference])
            print(f"{name:23} {values[0]:9.5f}  derived {values[1]:9.5f}  by z {values[2]:9.5f}")


def sum_over_the_batch():
    """Why do these formulas need a sum over the batch?

    All examples share one gamma: if it changes, every y of that feature changes. Its derivative is
    the sum of what the examples contribute, and has gamma's shape. (If the loss is a mean, its 1/n
    is already in dz/dy: a second mean here would be wrong.) Beware: NumPy lets you subtract the
    elementwise product from gamma, and turns the vector into a matrix.
    """
    x, labels = batch()
    mg.manual_seed(0)
    bn, linear = nn.BatchNorm1d(64).double(), nn.Linear(64, 10).double()
    y = bn(x)
    z = F.cross_entropy(linear(y), labels)
    dz_dy, dgamma = (g.numpy() for g in mg.grad(z, [y, bn.weight]))

    def difference(i, step=1e-6):  # of z, along gamma[i]
        shifted = np.ones((2, 64))
        shifted[:, i] += step, -step
        above, below = (
            F.cross_entropy(linear(F.batch_norm(x, weight=gamma, training=True)), labels).item()
            for gamma in shifted
        )
        return (above - below) / (2 * step)

    exact = np.array([difference(i) for i in range(64)])
    product = dz_dy * normalised(x, bn.eps)
    print(f"dz/dy * x_hat has shape {product.shape}, gamma {bn.weight.shape}")
    print(f"gamma - lr * dz/dy * x_hat would have shape {(bn.weight.numpy() - product).shape}")
    for name, g in {
        "the engine's gradient": dgamma,
        "sum over the batch": product.sum(axis=0),
        "mean over the batch": product.mean(axis=0),
        "the first example": product[0],
    }.items():
        error = np.abs(g - exact).max() / np.abs(exact).max()
        print(f"{name:22} against finite differences: error {error:.0e}")


def updates():
    """Are they updated like weights?

    Yes: gamma <- gamma - lr * dz/dgamma and beta <- beta - lr * dz/dbeta, by the same optimizer in
    the same step, with momentum and weight decay if these are set. (To exempt them from weight
    decay, put them into a parameter group of their own.)
    """
    x, labels = batch()
    mg.manual_seed(0)
    model = nn.Sequential(nn.BatchNorm1d(64), nn.Linear(64, 10)).double()
    lr = 0.1
    opt = optim.SGD(model.parameters(), lr=lr)
    y = model[0](x)
    z = F.cross_entropy(model[1](y), labels)
    dz_dy = mg.grad(z, y, retain_graph=True)[0].numpy()
    gamma = model[0].weight.numpy() - lr * (dz_dy * normalised(x, 1e-5)).sum(axis=0)
    beta = model[0].bias.numpy() - lr * dz_dy.sum(axis=0)
    z.backward()
    opt.step()
    print(f"gamma by hand and by SGD: {np.abs(gamma - model[0].weight.numpy()).max():.1e} apart")
    print(f"beta by hand and by SGD:  {np.abs(beta - model[0].bias.numpy()).max():.1e} apart")
    print(f"loss before {z.item():.4f}, after {F.cross_entropy(model(x), labels).item():.4f}")
