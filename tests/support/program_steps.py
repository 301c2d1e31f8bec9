"""The steps of generated programs consist of losses, changes of gradients, updates and schedules.

They also choose how a step is called, and what the loop changes between calls.
"""

from program_writer import Writer, indented

LABELS = "rng.integers(0, {k}, n)"
FLOATS = "rng.standard_normal((n, {k}))"
LOSSES = {  # the expression, and the targets
    "cross_entropy": ("F.cross_entropy(out, y)", LABELS),
    "mean": ("((out - y) ** 2).mean()", FLOATS),
    "mse": ("F.mse_loss(out, y)", FLOATS),
    "smoothed": ("F.cross_entropy(out, y, label_smoothing=0.1)", LABELS),
    "weighted": ("F.cross_entropy(out, y, weight=np.linspace(0.5, 1.5, {k}))", LABELS),
    "summed": ("F.cross_entropy(out, y, reduction='sum') / out.shape[0]", LABELS),
    "per row": ("(F.cross_entropy(out, y, reduction='none') * 0.9).mean()", LABELS),
    "probabilities": ("F.cross_entropy(out, F.softmax(y))", FLOATS),
    "ignored": ("F.cross_entropy(out, y, ignore_index=1)", LABELS),
    "nll": ("F.nll_loss(F.log_softmax(out, axis=1), y)", LABELS),
    "nll weighted": ("F.nll_loss(F.log_softmax(out), y, weight=[1.0] * {k})", LABELS),
    "by hand": ("-F.log_softmax(out)[np.arange(4), y[:4]].mean()", LABELS),
    "one hot": (
        "-(F.log_softmax(out) * (y[:, None] == np.arange({k}))).sum(axis=1).mean()",
        LABELS,
    ),
    "log of softmax": (
        "-((out.exp() / out.exp().sum(1, keepdims=True)).log()[:, 0]).mean()",
        LABELS,
    ),
    "binary": ("F.binary_cross_entropy_with_logits(out, (y > 0).astype(out.dtype))", FLOATS),
    "binary weighted": (
        "F.binary_cross_entropy_with_logits(out, mg.sigmoid(y), pos_weight=np.array(2.0))",
        FLOATS,
    ),
    "absolute": ("(out - y).abs().mean()", FLOATS),
    "huber": (
        "mg.where((out - y).abs() < 1, 0.5 * (out - y) ** 2, (out - y).abs() - 0.5).mean()",
        FLOATS,
    ),
    "cosine": ("1 - (out * y).sum(-1).mean() / (out.var() + 1).sqrt()", FLOATS),
    "hinge": ("mg.maximum(1 - out * y, 0.0).mean()", FLOATS),
    "module": ("nn.CrossEntropyLoss(label_smoothing=0.2)(out, y)", LABELS),
    "module mse": ("nn.MSELoss('sum')(out, y) / 10", FLOATS),
}

AUXILIARY = {
    "none": [],
    "decay": ["loss = loss + 0.01 * sum((p * p).sum() for p in params)"],
    "output": ["loss = loss + 0.01 * (out**2).mean()"],
    "added in place": ["loss += 0.1 * out.abs().mean()"],
    "entropy": ["q = F.softmax(out)", "loss = loss + 0.1 * (q * (q + 1e-6).log()).sum(1).mean()"],
    "scaled": ["loss = loss * 0.5 + loss.detach() * 0.1"],
    "first parameter": ["loss = loss + 0.1 * params[0].abs().sum()"],
    "gradient penalty": [
        "grads = mg.grad(loss, live(), create_graph=True, allow_unused=True)",
        "loss = loss + 0.1 * sum((g * g).sum() for g in grads if g is not None)",
    ],
    "input penalty": [
        "(g,) = mg.grad(loss, h, create_graph=True)",
        "loss = loss + ((g**2).sum(axis=-1) + 1e-3).sqrt().mean()",
    ],
    "penalty of outputs": [
        "g = mg.grad(out.tanh().sum(), live(), create_graph=True, allow_unused=True)[0]",
        "if g is not None:",
        "    loss = loss + 0.1 * (g**2).mean()",
    ],
}

GRADIENTS = {
    "none": [],
    "scale": ["for p in params:", "    if p.grad is not None:", "        p.grad = p.grad * 0.5"],
    "scale in place": [
        "for p in params:",
        "    if p.grad is not None:",
        "        p.grad *= 0.5",
    ],
    "clip value": [
        "for p in params:",
        "    if p.grad is not None:",
        "        p.grad = p.grad.clip(-0.1, 0.1)",
    ],
    "clip norm": [
        "grads = [p.grad for p in params if p.grad is not None]",
        "norm = mg.sqrt(sum((g**2).sum() for g in grads) + 1e-12)",
        "factor = mg.minimum(0.5 / (norm + 1e-6), 1.0)",
        "for p in params:",
        "    if p.grad is not None:",
        "        p.grad = (p.grad * factor).astype(p.dtype)",
    ],
    "decay": [
        "with mg.no_grad():",
        "    for p in params:",
        "        if p.grad is not None:",
        "            p.grad = p.grad + 0.01 * p",
    ],
    "decay in place": [
        "with mg.no_grad():",
        "    for p in params:",
        "        if p.grad is not None and p.ndim > 1:",
        "            p.grad += 0.01 * p",
    ],
    "centre": [
        "for p in params:",
        "    if p.grad is not None and p.ndim == 2:",
        "        p.grad = p.grad - p.grad.mean(axis=1, keepdims=True)",
    ],
    "transposed": [
        "for p in params:",
        "    if p.grad is not None and p.ndim == 2:",
        "        p.grad = (p.grad.T * 0.9).T",
    ],
}

UPDATES = {  # the optimizer, or lines
    "sgd": "lr=0.05",
    "momentum": "lr=0.05, momentum=0.9",
    "nesterov": "lr=0.02, momentum=0.8, nesterov=True",
    "dampening": "lr=0.1, momentum=0.5, dampening=0.5",
    "weight decay": "lr=0.05, weight_decay=0.01",
    "all": "lr=0.05, momentum=0.9, weight_decay=0.01, dampening=0.1",
    "maximize": "lr=0.01, maximize=True",
    "groups": "groups",
    "two groups": "groups",
    "by hand": ["p -= lr * p.grad"],
    "by copy": ["p.copy_(p - lr * p.grad)"],
    "by hand, decayed": ["p *= 0.999", "p -= lr * p.grad"],
    "heavy ball": ["m.copy_(0.9 * m + p.grad)", "p -= lr * m"],
    "adaptive": ["m.copy_(0.9 * m + 0.1 * p.grad**2)", "p -= lr * p.grad / (m.sqrt() + 0.1)"],
}

GROUPS = {
    "groups": '[{"params": params[:1], "lr": 0.02}, {"params": params[1:], "momentum": 0.9}]',
    "two groups": (
        '[{"params": [p for p in params if p.ndim > 1], "weight_decay": 0.01}, '
        '{"params": [p for p in params if p.ndim <= 1], "lr": 0.1}]'
    ),
}

BACKWARD = {  # what follows the loss; "micro-batches" and "closure" are built around it
    "plain": ["loss.backward()"],
    "scaled": ["(loss * 0.5).backward()"],
    "twice": ["loss.backward(retain_graph=True)", "(0.1 * loss).backward()"],
    "weighted": ["loss.backward(np.array(0.5, loss.dtype))"],
    "two losses": ["loss.backward(retain_graph=True)", "(0.01 * out**2).sum().backward()"],
    "micro-batches": ["loss.backward()"],
    "gradients": [
        "grads = mg.grad(loss, live(), allow_unused=True)",
        "for p, g in zip(live(), grads):",
        "    p.grad = g",
    ],
    "closure": ["loss.backward()"],
}

# For updates by hand: the rate in the step, a parameter and an argument of the step, lines before
# it, and lines of the loop.
RATES = {
    "none": ("0.05", "", "", [], []),
    "array argument": ("lr", ", lr", ", np.array(0.05 / (1 + i))", [], []),
    "argument": ("lr", ", lr", ", [0.05, 0.02][i > 5]", [], []),
    "keyword": ("lr", ", lr=0.05", ", lr=[0.05, 0.02][i > 5]", [], []),
    "dict": (
        'config["lr"]',
        "",
        "",
        ['config = {"lr": 0.05}'],
        ['config["lr"] = 0.05 * 0.5 ** (i // 4)'],
    ),
    "part": ("", "", "", [], []),
}

# For optimizers: lines of the loop.
SCHEDULES = {
    "none": [],
    "decay": ['opt.param_groups[0]["lr"] = 0.05 * 0.9**i'],
    "cosine": [
        "for group in opt.param_groups:",
        '    group["lr"] = 0.03 * (1 + np.cos(0.3 * i))',
    ],
    "stairs": ["if i == 4:", '    opt.param_groups[-1]["lr"] *= 0.1'],
    "several": ["if i == 4:", "    opt.param_groups[0].update(lr=0.01, weight_decay=0.02)"],
    "factor": [],
}

RESULTS = [
    *["loss"] * 3,
    "(loss, out)",
    '{"loss": loss, "out": out}',
    "[loss, None, 3]",
    "loss.detach()",
    "None",
    '{"losses": (loss, 2 * loss), "kind": "train"}',
    "loss, out.T",
]


class Step:
    """A Step writes the lines of a step.

    setup: lines before the step; before: lines of the loop, which end with the call; has_slots:
    whether updates by hand have Tensors of their own.
    """

    def __init__(self, p: Writer, loss: str, differentiable: str) -> None:
        self.p = p
        self.update = p.pick("update", *UPDATES)
        self.by_hand = isinstance(UPDATES[self.update], list)
        self.has_slots = self.by_hand and "m." in str(UPDATES[self.update])
        self.setup = [f"params = {' + '.join(p.trained)}"]
        self.before: list[str] = []
        self.arguments, self.given, self.rate = "x, y", "*batch(i)", ""
        self._make_optimizer()
        loss = self._schedule(loss)
        self.lines = self._wrapped(self._body(loss, differentiable))

    def _make_optimizer(self) -> None:
        how = UPDATES[self.update]
        if how == "groups":
            groups = f"[g for g in {GROUPS[self.update]} if g['params']]"
            self.setup.append(f"opt = optim.SGD({groups}, lr=0.05)")
        else:
            self.setup.append("opt = None" if self.by_hand else f"opt = optim.SGD(params, {how})")
        if self.has_slots:
            zeros = f"mg.tensor(np.zeros(p.shape, {self.p.float_type()}))"
            self.setup.append("slots = {")
            self.setup.append(f'    f"slot{{j}}": {zeros} for j, p in enumerate(params)')
            self.setup.append("}")

    def _schedule(self, loss: str) -> str:
        """Choose a schedule of the learning rate, and return the loss, perhaps with a factor."""
        p = self.p
        if self.by_hand:
            schedule = p.pick("rate", *RATES)
            self.rate, argument, given, setup, before = RATES[schedule]
            self.arguments += argument
            self.given += given
            self.setup += setup
            self.before += before
            if schedule == "part":
                self.rate = p.outer_of(p.setting("0.05", "0.02"))
        else:
            schedule = p.pick("schedule", "none", *SCHEDULES)
            self.before += SCHEDULES[schedule]
            if schedule == "factor":
                self.arguments += ", factor"
                self.given += ", np.array(1 / (1 + i))"
                return f"factor * ({loss})"
        return loss

    def _body(self, loss: str, differentiable: str) -> list[str]:
        p = self.p
        model = "model" if p.style in ("module", "object") else "forward"
        zero = p.pick("zero", "before", "after", "outside", "zeros")
        clear = ["opt.zero_grad()" if zero != "zeros" else "opt.zero_grad(set_to_none=False)"]
        if self.by_hand:
            clear = ["for p in params:", "    p.grad = None"]
        if zero == "outside":
            self.before += ["if i % 2 == 0:", *indented(clear)]
        auxiliary = p.pick("auxiliary", "none", "none", *AUXILIARY)
        source = "x"
        start: list[str] = []
        if auxiliary == "input penalty":
            # Integers have no gradients.
            if differentiable == "h":
                start, source = ["h = mg.tensor(x, requires_grad=True)"], "h"
            else:
                auxiliary = "none"
        compute = [*start, f"out = {model}({source})", f"loss = {loss}", *AUXILIARY[auxiliary]]
        backward = p.pick("backward", *["plain"] * 5, *BACKWARD)
        compute += BACKWARD[backward]
        if backward == "micro-batches":
            compute = ["x, y = whole[0][part], whole[1][part]", *compute]
            compute = [line.replace("(4), y[:4]", "(2), y[:2]") for line in compute]
            parts = "for part in (slice(0, 2), slice(2, None)):"
            compute = ["whole = (x, y)", parts, *indented(compute)]
        body = clear if zero in ("before", "zeros") else []
        closure = backward == "closure" and not self.by_hand
        if closure:
            body = [*body, "def closure():", *indented([*compute, "return loss"])]
            body.append("loss = opt.step(closure)")
        else:
            body = [*body, *compute, *GRADIENTS[p.pick("gradients", "none", "none", *GRADIENTS)]]
            body += self._updated()
        if p.reusable and p.chance("average", 20):
            name, shape = p.reusable[0]
            average = p.outer_of(p.buffer(f"np.zeros({shape})", "average"))
            body.append("with mg.no_grad():")
            body.append(f"    {average}.copy_(0.9 * {average} + 0.1 * {p.outer(name)})")
        body += clear if zero == "after" else []
        result = p.pick("result", *RESULTS)
        self.result = "loss" if closure and "out" in result else result
        if "live()" in str(body):
            self.setup += ["def live():", "    return [p for p in params if p.requires_grad]"]
        return [*body, f"return {self.result}"]

    def _updated(self) -> list[str]:
        how = UPDATES[self.update]
        if isinstance(how, str):
            return ["opt.step()"]
        pairs = "p, m in zip(params, slots.values())" if self.has_slots else "p in params"
        lines = ["if p.grad is not None:", *indented([x.replace("lr", self.rate) for x in how])]
        return ["with mg.no_grad():", f"    for {pairs}:", *indented(lines, 2)]

    def _wrapped(self, body: list[str]) -> list[str]:
        """Return the step as a function of one of many kinds, and append its call to `before`."""
        p, arguments = self.p, self.arguments
        form = p.pick(
            "call", *["plain"] * 4, "method", "partial", "nested", "lambda", "alternating"
        )
        step = ["@compile", f"def step({arguments}):", *indented(body)]
        call = f"step({self.given})"
        match form:
            case "method":
                inner = ["@compile", f"def step(self, {arguments}):", *indented(body)]
                step = ["class Trainer:", *indented(inner), "", "trainer = Trainer()"]
                call = f"trainer.{call}"
            case "partial":
                strength = ["rate = strength * 0.5", *body[:-1], f"return rate, {self.result}"]
                step = [f"def run(strength, {arguments}):", *indented(strength)]
                step += ["", "step = compile(functools.partial(run, 0.7))"]
            case "nested":
                step = ["def make():", *indented([*step, "return step"]), "", "step = make()"]
            case "lambda":
                names = arguments.replace("=0.05", "")
                step = [f"def run({arguments}):", *indented(body), ""]
                step.append(f"step = compile(lambda {arguments}: run({names}))")
            case "alternating":
                step += ["", "by_hand = eager(step.__wrapped__)"]
                call = f"{call} if i % 4 else by_hand({self.given})"
        self.before.append(f"result = {call}")
        if self.result == "loss" and form != "partial" and p.chance("item", 20):
            self.before.append("result = result.item()")
        return step


def changed(p: Writer) -> list[str]:
    """Return lines of the loop that change something before a step."""
    lines: list[str] = []
    for name, later in p.settings:
        if p.chance(f"setting {name}", 60):
            lines += ["if i == 3:", f"    {p.outer(name)} = {later}"]
            p.rebound.append(name)
    for change in filter(None, p.changes):
        lines += ["if i == 4:", f"    {change}"]
    if p.layers and p.chance("mode", 25):
        layer = p.outer(p.layers[0])
        lines += [f"{layer}.train(i % 4 != 3)"]
    if p.reusable and len(p.trained) > 1 and p.chance("freeze", 15):
        target = p.outer(p.reusable[0][0])
        lines += ["if i in (4, 7):", f"    {target}.requires_grad = i == 7"]
    if p.reusable and p.chance("overwrite", 10):
        target = p.outer(p.reusable[0][0])
        lines += [
            "if i == 5:",
            "    with mg.no_grad():",
            f"        {target}.copy_({target} * 0.9)",
        ]
    if p.reusable and p.chance("data", 5):
        target = p.outer(p.reusable[0][0])
        lines += ["if i == 6:", f"    {target}.data = {target}.data * 0.9"]
    if p.chance("seed", 15):
        lines += ["mg.manual_seed(i // 2)"]
    if p.reusable and p.chance("gradient", 5):
        lines += [f"{p.outer(p.reusable[0][0])}.grad = None"]
    return lines
