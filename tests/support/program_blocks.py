"""The forward pass of a generated program consists of these blocks.

A block writes lines that compute a new `h` from the last, whose first dimension is the batch. It
returns the new shape, without the batch.
"""

from collections.abc import Callable

from program_writer import Shape, Writer

Block = Callable[[Writer, Shape], Shape]

# By name: the block, the numbers of dimensions (with the batch) that it takes, and its weight.
BLOCKS: dict[str, tuple[Block, tuple[int, ...], int]] = {}


def block(*dimensions: int, weight: int = 2) -> Callable[[Block], Block]:
    def enter(function: Block) -> Block:
        BLOCKS[function.__name__] = function, dimensions or (2, 3, 4), weight
        return function

    return enter


def weight_matrix(p: Writer, n: int, m: int) -> str:
    """Return an expression of shape (n, m) for `h @ ...`, in one of the forms that users write."""
    form = p.pick("form", *FORMS)
    new = p.parameter
    match form:
        case "W":
            return new((n, m))
        case "W.T":
            return f"{new((m, n))}.T"
        case "transpose":
            return f"{new((m, n))}.transpose(0, 1)"
        case "permute":
            return f"mg.permute_dims({new((m, n))}, (1, 0))"
        case "columns":
            first = p.pick("first", 0, 1, 2)
            return f"{new((n, m + 2))}[:, {first}:{first + m}]"
        case "first columns":
            return f"{new((n, m + 1))}[:, :{m}]"
        case "rows":
            return f"{new((n + 1, m))}[1:]"
        case "columns of the transpose":
            return f"{new((m + 1, n))}.T[:, :{m}]"
        case "transposed columns":
            return f"{new((m, n + 1))}[:, 1:].T"
        case "strided":
            return f"{new((2 * n, m))}[::2]"
        case "reversed":
            return f"{new((n, m))}[::-1, ::-1]"
        case "reshaped":
            return f"{new((n * m,))}.reshape({n}, {m})"
        case "reshaped of the transpose":
            return f"{new((n, m))}.T.reshape({n}, {m})"
        case "gathered":
            rows = p.value(f"np.array({[(3 * i + 1) % (n + 1) for i in range(n)]})", "rows")
            return f"{new((n + 1, m))}[{rows}]"
        case "normalised":
            w = new((n, m))
            return f"({w} / ({w} * {w}).sum(axis=0, keepdims=True).sqrt())"
        case "normalised rows":
            w = new((m, n))
            return f"({w} / ({w} ** 2).sum(1, keepdims=True).sqrt()).T"
        case "weight norm":
            w, g = new((n, m)), new((m,))
            return f"({g} * {w} * mg.rsqrt(mg.square({w}).sum(axis=0)))"
        case "masked":
            return f"({new((n, m))} * {p.constant((n, m), 'mask', mask=True)})"
        case "masked transpose":
            return f"({new((m, n))} * {p.constant((m, n), 'mask', mask=True)}).T"
        case "where":
            return f"mg.where({p.constant((n, m), 'mask', mask=True)} > 0, {new((n, m))}, 0.0)"
        case "frozen":
            return f"({new((n, m), frozen=True)} + 0.5 * {new((m, n))}.T)"
        case "frozen transpose":
            return f"{new((m, n), frozen=True)}.T"
        case "low rank":
            return f"({new((n, 2))} @ {new((m, 2))}.T)"
        case "concat":
            return f"mg.concat([{new((n, 1))}, {new((m - 1, n))}.T], axis=1)"
        case "stack":
            return "mg.stack([" + ", ".join(new((n,)) for _ in range(m)) + "], axis=1)"
        case "one of several":
            return f"{new((2, n, m))}[{p.pick('index', 0, 1, -1)}]"
        case "mean of several":
            return f"{new((n, 2, m))}.mean(axis=1)"
        case "permuted cube":
            return f"{new((m, 2, n))}.permute(2, 1, 0)[:, 1]"
        case "reshaped cube":
            return f"{new((m, 1, n))}.transpose(0, 2).reshape({n}, {m})"
        case "softmax":
            return f"F.softmax({new((n, m))}, axis={p.pick('axis', 0, 1)})"
        case "half detached":
            w = new((n, m))
            return f"({w} + 0.5 * {w}.detach())"
        case "symmetric":
            w = new((n + m, n + m))
            return f"({w} + {w}.T)[:{n}, {n}:]"
        case "unsqueezed":
            return f"{new((m, n))}.T.unsqueeze(0).squeeze(0)"
        case "outer":
            return f"({new((n, 1))} * {new((m,))})"
        case "broadcast":
            return f"{new((1, m))}.broadcast_to(({n}, {m}))"
        case "clone":
            return f"{new((m, n))}.T.clone()"
        case "cast":
            return f"{new((n, m))}.astype(np.float64)"
        case "constant":
            return p.constant((n, m))
        case "constant transposed":
            return f"{p.constant((m, n))}.T"
    raise AssertionError(form)


FORMS = """W/W.T/transpose/permute/columns/first columns/rows/columns of the transpose/transposed
columns/strided/reversed/reshaped/reshaped of the transpose/gathered/normalised/normalised rows/
weight norm/masked/masked transpose/where/frozen/frozen transpose/low rank/concat/stack/one of
several/mean of several/permuted cube/reshaped cube/softmax/half detached/symmetric/unsqueezed/
outer/broadcast/clone/cast/constant/constant transposed""".replace("\n", " ").split("/")
FORMS = [" ".join(form.split()) for form in FORMS]


def tanh(p: Writer) -> None:
    """Write a tanh, which keeps numbers small."""
    p.line("h = h.tanh()")


# --- layers by hand -----------------------------------------------------------------------------


@block(weight=8)
def dense(p: Writer, shape: Shape) -> Shape:
    n, m = shape[-1], p.pick("width", 3, 4, 5)
    w = weight_matrix(p, n, m)
    if p.chance("linear", 10):
        p.line(f"h = F.linear(h, {w}.T, {p.parameter((m,))})")
    else:
        bias = f" + {p.parameter((m,))}" if p.chance("bias", 60) else ""
        product = f"h @ {w}" if p.pick("product", "@", "matmul") == "@" else f"mg.matmul(h, {w})"
        p.line(f"h = {product}{bias}")
    activation(p, (*shape[:-1], m))
    return *shape[:-1], m


@block(weight=4)
def activation(p: Writer, shape: Shape) -> Shape:
    """Write an activation in one of many ways."""
    name = p.pick("activation", *ACTIVATIONS)
    text = ACTIVATIONS[name]
    if "|" in text:  # a function of the library that gets a name
        f = p.value(text.replace("|", ""), "act")
        text = f"{f}(h)"
    p.line(f"h = {text}")
    return shape


ACTIVATIONS = {
    "tanh": "h.tanh()",
    "relu": "F.relu(h)",
    "relu method": "h.relu()",
    "sigmoid": "mg.sigmoid(h)",
    "gelu": "F.gelu(h)",
    "gelu tanh": "F.gelu(h, approximate='tanh')",
    "softplus": "F.softplus(h) - 0.5",
    "leaky": "F.leaky_relu(h, 0.2)",
    "maximum": "mg.maximum(h, 0.1 * h)",
    "swish": "h * h.sigmoid()",
    "clip": "h.clip(-1.5, 1.5)",
    "where": "mg.where(h > 0, h, 0.1 * h)",
    "where exp": "mg.where(h > 0, h, mg.exp(mg.minimum(h, 0.0)) - 1)",
    "softsign": "h / (1 + h.abs())",
    "root": "h / (1 + h * h).sqrt()",
    "rsqrt": "h * mg.rsqrt(1.0 + h**2)",
    "log": "(1 + h**2).log()",
    "exp": "mg.exp(-(h**2))",
    "softmax": "F.softmax(h, axis=-1)",
    "softmax of columns": "F.softmax(h, axis=1)",
    "log softmax": "F.log_softmax(h) / 3",
    "by hand": "(h - h.max(axis=-1, keepdims=True)).exp()",
    "erf": "mg.erf(h)",
    "cube": "h.tanh() ** 3",
    "mask": "h * (h > 0)",
    "cast mask": "h * (h > 0.1).astype(h.dtype)",
    "power": "1.5 ** h.tanh()",
    "divided": "1 / (1 + mg.exp(-h))",
    "in place": "h.tanh() * 2 - h.tanh()",
    "partial": "|functools.partial(F.leaky_relu, negative_slope=0.3)",
    "lambda": "|lambda t: t * mg.sigmoid(1.5 * t)",
    "default": "|lambda t, slope=0.25: mg.where(t < 0, slope * t, t)",
    "module": "|nn.Tanh()",
    "module relu": "|nn.ReLU()",
    "module gelu": "|nn.GELU()",
    "module softplus": "|nn.Softplus(2.0)",
    "module softmax": "|nn.Softmax(-1)",
    "table": "{'tanh': mg.tanh, 'relu': F.relu}['tanh'](h)",
    "composed": "|(lambda f, g: lambda t: f(g(t)))(mg.tanh, F.softplus)",
}


@block(weight=3)
def tied(p: Writer, shape: Shape) -> Shape:
    """Write an autoencoder that uses one matrix twice."""
    n, m = shape[-1], p.pick("width", 3, 4)
    first = p.pick("first", "W", "W.T")
    w = p.parameter((n, m) if first == "W" else (m, n))
    back = f"{w}.T" if first == "W" else w
    p.line(f"code = (h @ {first.replace('W', w)}).tanh()")
    bias = f" + {p.parameter((n,))}" if p.chance("bias", 60) else ""
    p.line(f"h = code @ {back}{bias}")
    if p.chance("residual", 30):
        p.line(f"h = h + code @ {w}{'.T' if first == 'W' else ''}")
    tanh(p)
    return shape


@block()
def residual(p: Writer, shape: Shape) -> Shape:
    n = shape[-1]
    kept = p.pick("kept", "h", "h.detach()", "0.5 * h")
    w = weight_matrix(p, n, n)
    p.line(f"h = {kept} + {p.pick('function', 'mg.tanh', 'F.relu')}(h @ {w})")
    if p.chance("in place", 20):
        p.line("h += h.sigmoid()")
    return shape


@block()
def gated(p: Writer, shape: Shape) -> Shape:
    n = shape[-1]
    form = p.pick("gate", "glu", "highway", "halves")
    if form == "glu":
        w = weight_matrix(p, n, 2 * n)
        p.line(f"a = h @ {w}")
        p.line(f"h = a[..., :{n}].tanh() * a[..., {n}:].sigmoid()")
    elif form == "highway":
        with p.scope("gate of it"):
            g = weight_matrix(p, n, n)
        w = weight_matrix(p, n, n)
        p.line(f"g = mg.sigmoid(h @ {g} - 1.0)")
        p.line(f"h = g * mg.tanh(h @ {w}) + (1 - g) * h")
    else:
        w = weight_matrix(p, n, 2 * n)
        p.line(f"a = (h @ {w}).reshape(-1, {', '.join(map(str, (*shape[:-1], 2, n)))})")
        p.line("h = a[..., 0, :].tanh() * a[..., 1, :].sigmoid()")
    return shape


@block()
def layer_norm(p: Writer, shape: Shape) -> Shape:
    n = shape[-1]
    form = p.pick("norm", "by hand", "var", "std", "rms", "functional", "module")
    if form == "module":
        p.line(f"h = {p.layer(f'nn.LayerNorm({n})')}(h)")
        return shape
    g, b = p.parameter((n,), "gamma"), p.parameter((n,), "beta")
    match form:
        case "by hand":
            p.line("mean = h.mean(axis=-1, keepdims=True)")
            p.line("var = ((h - mean) ** 2).mean(axis=-1, keepdims=True)")
            p.line(f"h = (h - mean) / (var + 1e-3).sqrt() * {g} + {b}")
        case "var":
            p.line("mean, var = h.mean(-1, keepdims=True), h.var(-1, keepdims=True)")
            p.line(f"h = {g} * ((h - mean) * mg.rsqrt(var + 1e-3)) + {b}")
        case "std":
            p.line("s = mg.concat([h, h - 1.0], axis=-1).std(-1, keepdims=True)")  # never 0
            p.line(f"h = (h - h.mean(-1, keepdims=True)) / s * {g}")
        case "rms":
            p.line(f"h = h / (mg.square(h).mean(axis=-1, keepdims=True) + 1e-2) ** 0.5 * {g}")
        case "functional":
            p.line(f"h = F.layer_norm(h, {n}, {g}, {b}, eps=1e-3)")
    return shape


@block(2, 3, weight=3)
def batch_norm_by_hand(p: Writer, shape: Shape) -> Shape:
    n = shape[-1]
    axes = p.axes(len(shape))
    g, b = p.parameter((n,), "gamma"), p.parameter((n,), "beta")
    p.line(f"mean = h.mean(axis={axes})")
    p.line(f"var = {p.pick('var', f'h.var(axis={axes})', f'((h - mean) ** 2).mean(axis={axes})')}")
    if p.chance("running", 50):
        m = p.buffer(f"np.zeros({n})", "running_mean")
        v = p.buffer(f"np.ones({n})", "running_var")
        p.line("with mg.no_grad():")
        p.line(f"    {m}.copy_(0.9 * {m} + 0.1 * mean.detach())")
        p.line(f"    {v}.copy_({v} + 0.1 * (var - {v}))")
        if p.chance("use", 30):
            p.line(f"mean, var = 0.5 * mean + 0.5 * {m}, 0.5 * var + 0.5 * {v}")
    p.line(f"h = {g} * (h - mean) / mg.sqrt(var + 1e-3) + {b}")
    activation(p, shape)
    return shape


@block(weight=4)
def batch_norm(p: Writer, shape: Shape) -> Shape:
    """Write a BatchNorm of the library, with channels as axis 1."""
    kind = {1: "BatchNorm1d", 2: "BatchNorm1d", 3: "BatchNorm2d"}[len(shape)]
    options = p.pick(
        "options",
        "",
        ", fused=False",
        ", eps=1e-2",
        ", momentum=None",
        ", affine=False",
        ", track_running_stats=False",
        ", momentum=0.3, fused=False",
    )
    layer = f"nn.{kind}({shape[0]}{options})"
    match p.pick("how", "module", "relu", "sequential", "function"):
        case "module":
            p.line(f"h = {p.layer(layer)}(h)")
        case "relu":
            p.line(f"h = F.relu({p.layer(layer)}(h))")
        case "sequential":
            p.line(f"h = {p.layer(f'nn.Sequential({layer}, nn.ReLU())')}(h)")
        case "function":
            m = p.buffer(f"np.zeros({shape[0]})", "running_mean")
            v = p.buffer(f"np.ones({shape[0]})", "running_var")
            g, b = p.parameter((shape[0],), "gamma"), p.parameter((shape[0],), "beta")
            fused = p.pick("fused", "", ", fused=False")
            training = p.pick("training", "True", "False")
            p.line(f"h = F.batch_norm(h, {m}, {v}, {g}, {b}, {training}, 0.2, 1e-3{fused})")
    return shape


@block(2, 3, weight=4)
def library(p: Writer, shape: Shape) -> Shape:
    n, m = shape[-1], p.pick("width", 3, 4, 5)
    match p.pick("layers", "linear", "sequential", "loop", "held in a list", "named", "twice"):
        case "linear":
            p.line(f"h = {p.layer(f'nn.Linear({n}, {m})')}(h).tanh()")
        case "sequential":
            middle = p.pick(
                "middle", "nn.Tanh()", "nn.ReLU()", "nn.LayerNorm(4)", "nn.Dropout(0.0)"
            )
            net = f"nn.Sequential(nn.Linear({n}, 4), {middle}, nn.Linear(4, {m}), nn.Sigmoid())"
            p.line(f"h = {p.layer(net)}(h)")
        case "loop":
            first = p.layer(f"nn.Linear({n}, {m}, bias=False)")
            second = p.layer(f"nn.Linear({m}, {m})")
            p.line(f"for layer in [{first}, {second}]:")
            p.line("    h = layer(h).tanh()")
        case "held in a list":
            sizes = p.pick("sizes", f"[({n}, {m})]", f"[({n}, 4), (4, {m})]")
            layers = p.layers_of(f"[nn.Linear(a, b) for a, b in {sizes}]")
            p.line(f"for j, layer in enumerate({layers}):")
            p.line(f"    h = {p.pick('turn', 'layer(h)', 'layer(h) if j else layer(h).tanh()')}")
            tanh(p)
        case "named":
            layers = f'{{"down": nn.Linear({n}, 3), "act": nn.GELU(), "up": nn.Linear(3, {m})}}'
            p.line(f"h = {p.layer(f'nn.Sequential({layers})')}(h)")
        case "twice":
            layer = p.layer(f"nn.Linear({n}, {n})")
            p.line(f"h = {layer}({layer}(h).tanh()).tanh()")
            return shape
    return *shape[:-1], m


@block()
def dropout(p: Writer, shape: Shape) -> Shape:
    rate = p.pick("rate", 0.0, 0.3)
    form = p.pick("dropout", "module", "function", "off", "by hand")
    match form:
        case "module":
            p.line(f"h = {p.layer(f'nn.Dropout({rate})')}(h)")
        case "function":
            p.line(f"h = F.dropout(h, p={rate})")
        case "off":
            p.line("h = F.dropout(h, 0.5, training=False)")
        case "by hand":
            p.line("h = h * (F.dropout(h * 0 + 1, 0.4) > 0)")
    return shape


# --- over positions: (N, T, D) ------------------------------------------------------------------


@block(3, weight=4)
def recurrent(p: Writer, shape: Shape) -> Shape:
    t, n = shape
    m = p.pick("width", 3, 4)
    cell = p.pick("cell", "rnn", "gru", "mean")
    s = p.fresh("s")
    start = p.pick("start", f"h[:, 0, :1] * np.zeros({m})", "parameter")
    p.line(f"{s} = {start if start != 'parameter' else p.parameter((m,))}")
    w = [p.scoped(f"w{i}", weight_matrix, n, m) for i in range(3 if cell == "gru" else 1)]
    u = [p.scoped(f"u{i}", weight_matrix, m, m) for i in range(3 if cell == "gru" else 1)]
    all_states = p.chance("all states", 50)
    if all_states:
        p.line("states = []")
    times = p.pick("loop", f"range({t})", f"reversed(range({t}))")
    p.line(f"for t in {times}:")
    p.line(f"    i = {p.pick('item', 'h[:, t]', 'h[:, t, :]', 'h.permute(1, 0, 2)[t]')}")
    if cell == "gru":
        p.line(f"    z = mg.sigmoid(i @ {w[0]} + {s} @ {u[0]})")
        p.line(f"    r = mg.sigmoid(i @ {w[1]} + {s} @ {u[1]})")
        p.line(f"    c = mg.tanh(i @ {w[2]} + (r * {s}) @ {u[2]})")
        p.line(f"    {s} = (1 - z) * {s} + z * c")
    elif cell == "rnn":
        p.line(f"    {s} = mg.tanh(i @ {w[0]} + {s} @ {u[0]} + {p.parameter((m,))})")
    else:
        p.line(f"    {s} = {s} + 0.3 * (mg.tanh(i @ {w[0]}) - {s} @ {u[0]} * 0.5)")
    if all_states:
        p.line(f"    states.append({s})")
        p.line(p.pick("join", "h = mg.stack(states, 1)", "h = mg.stack(states).permute(1, 0, 2)"))
        return t, m
    p.line(f"h = {s}")
    return (m,)


@block(2)
def repeated(p: Writer, shape: Shape) -> Shape:
    """Write the same turn several times, each with the same input."""
    n = shape[0]
    w = weight_matrix(p, n, n)
    p.line(f"i = h + {p.parameter((n,))}")
    p.line(f"for _ in range({p.pick('turns', 2, 3, 4)}):")
    turn = p.pick("turn", "(h @ W + i).tanh()", "h + 0.2 * (i - h @ W)")
    p.line(f"    h = {turn.replace('W', w)}")
    tanh(p)
    return shape


@block(3, weight=4)
def attention(p: Writer, shape: Shape) -> Shape:
    t, n = shape
    q, k, v = [p.scoped(name, weight_matrix, n, 4) for name in "qkv"]
    heads = p.pick("heads", 1, 2)
    p.line(f"q, k, v = h @ {q}, h @ {k}, h @ {v}")
    if heads == 2:
        split = p.pick("split", ".permute(0, 2, 1, 3)", ".transpose(1, 2)")
        p.line(f"q, k, v = [a.reshape(-1, {t}, 2, 2){split} for a in (q, k, v)]")
    last = "(0, 1, 3, 2)" if heads == 2 else "(0, 2, 1)"
    turned = p.pick("turned", "k.transpose(-2, -1)", f"k.permute{last}")
    p.line(f"a = q @ {turned} / {p.pick('scale', 2, '4**0.5')}")
    match p.pick("mask", "none", "causal", "where"):
        case "causal":
            p.line(f"a = a + np.triu(np.full(({t}, {t}), -1e9), 1)")
        case "where":
            mask = p.value(f"np.tril(np.ones(({t}, {t}), bool))", "mask")
            p.line(f"a = mg.where({mask}, a, -1e9)")
    p.line(f"h = {p.pick('softmax', 'F.softmax(a)', 'mg.exp(F.log_softmax(a, axis=-1))')} @ v")
    if heads == 2:
        p.line(f"h = h.transpose(1, 2).reshape(-1, {t}, 4)")
    return t, 4


@block(3)
def convolution(p: Writer, shape: Shape) -> Shape:
    """Write a sum of products of slices."""
    t, n = shape
    m = p.pick("width", 3, 4)
    if t < 3 or p.chance("differences", 20):
        p.line("h = h[:, 1:] - h[:, :-1]" if t > 2 else "h = h - h[:, :1]")
        return t - 1 if t > 2 else t, n
    w = p.parameter((3, n, m))
    form = p.pick("convolution", "slices", "sum", "windows")
    if form == "slices":
        p.line(f"h = h[:, :-2] @ {w}[0] + h[:, 1:-1] @ {w}[1] + h[:, 2:] @ {w}[2]")
    elif form == "sum":
        p.line(f"h = sum(h[:, i : i + {t - 2}] @ {w}[i] for i in range(3))")
    else:
        p.line(f"a = mg.stack([h[:, i : i + {t - 2}] for i in range(3)], axis=2)")
        p.line(f"h = a.reshape(-1, {t - 2}, {3 * n}) @ {w}.reshape({3 * n}, {m})")
    tanh(p)
    return t - 2, m


@block(3, 4)
def mixed(p: Writer, shape: Shape) -> Shape:
    """Write a product along another axis."""
    n = shape[-2]
    w = weight_matrix(p, n, n)
    turn = ".transpose(-2, -1)"
    if len(shape) == 2:
        turn = p.pick("turn", turn, ".permute(0, 2, 1)", ".transpose(1, 2)")
    p.line(f"h = (h{turn} @ {w}){turn}")
    tanh(p)
    return shape


# --- images: (N, C, H, W) -----------------------------------------------------------------------


@block(4, weight=4)
def image_convolution(p: Writer, shape: Shape) -> Shape:
    c, height, width = shape
    m = p.pick("channels", 2, 3)
    if min(height, width) < 3:
        return shape
    i, j = height - 1, width - 1
    w = p.parameter((2, 2, c, m))
    p.line(f"a = h.{p.pick('last', 'permute(0, 2, 3, 1)', 'permute((0, 2, 3, 1))')}")
    if p.chance("windows", 40):
        p.line("windows = [")
        p.line(f"    a[:, i : i + {i}, j : j + {j}] for i in range(2) for j in range(2)")
        p.line("]")
        p.line(f"a = mg.concat(windows, axis=-1) @ {w}.reshape({4 * c}, {m})")
    else:
        p.line("a = sum(")
        p.line(f"    a[:, i : i + {i}, j : j + {j}] @ {w}[i, j]")
        p.line("    for i in range(2) for j in range(2)")
        p.line(")")
    back = p.pick("back", "permute(0, 3, 1, 2)", "transpose(1, 3)")
    p.line(f"h = F.relu(a).{back}")
    return (m, i, j) if "permute" in back else (m, j, i)


@block(4)
def image_scale(p: Writer, shape: Shape) -> Shape:
    c = shape[0]
    flat = p.chance("flat", 50)
    bias = f"{p.parameter((c,))}[:, None, None]" if flat else p.parameter((c, 1, 1))
    p.line(f"h = h * {p.parameter((1, c, 1, 1))} + {bias}")
    return shape


# --- shapes -------------------------------------------------------------------------------------


@block(3, 4)
def flattened(p: Writer, shape: Shape) -> Shape:
    total = 1
    for n in shape:
        total *= n
    forms = [
        "h.reshape(h.shape[0], -1)",
        f"h.reshape(-1, {total})",
        "h.flatten(1)",
        "nn.Flatten()(h)",
        f"h.permute(0, {', '.join(map(str, range(len(shape), 0, -1)))}).reshape(-1, {total})",
    ]
    p.line(f"h = {p.pick('flattened', *forms)}")
    return (total,)


@block(3, 4)
def pooled(p: Writer, shape: Shape) -> Shape:
    axis = p.pick("axis", -1, 1, -2)
    how = p.pick("pool", "mean", "sum", "max", "min", "std", "var")
    small = " * 0.3" if how == "sum" else ""
    # std has no derivative at equal values, and rounding decides the result.
    inner = f"mg.concat([h, h - 1.0], axis={axis})" if how == "std" else "h"
    p.line(f"h = {inner}.{how}(axis={axis}){small}")
    left = list(shape)
    del left[axis - 1 if axis > 0 else axis]
    return tuple(left)


@block(3)
def permuted(p: Writer, shape: Shape) -> Shape:
    p.line(f"h = {p.pick('permuted', 'h.permute(0, 2, 1)', 'h.transpose(1, 2)')}")
    return shape[1], shape[0]


@block(weight=3)
def indexed(p: Writer, shape: Shape) -> Shape:
    n = shape[-1]
    at = f"[{', '.join(str(i * 2 % n) for i in range(n))}]"
    inverted = [f"h[..., {i}]" for i in reversed(range(n))]
    forms = [
        "h[..., ::-1]",
        f"h[..., {at}]",
        f"h[..., np.array({at})]",
        f"mg.stack([{', '.join(inverted)}], axis=-1)",
        f"mg.concat([h[..., {n - 1}:], h[..., :-1]], axis=-1)",
        "h[..., None].squeeze(-1)",
        "(h[:, None] * 1.5).squeeze(1)",
        "h[np.arange(4)[::-1] % h.shape[0]][:1] + h",
        f"mg.where(np.arange({n}) > 0, h, -h)",
        "h - h[:1]",
        f"mg.concat([h[..., :1], h[..., 1:] * h[..., :{n - 1}]], axis=-1)",
    ]
    p.line(f"h = {p.pick('indexed', *forms)}")
    return shape


@block(weight=3)
def arithmetic(p: Writer, shape: Shape) -> Shape:
    """Write operations with NumPy constants, views of these, and numbers that may change."""
    n = shape[-1]
    forms = {
        "number": lambda: f"h * {p.setting('0.8', '0.6')}",
        "vector": lambda: f"h * {p.constant((n,))}",
        "left": lambda: f"{p.constant((n,))} - h",
        "part": lambda: f"h + {p.constant((2, n))}.reshape(-1)[1:{n + 1}]",
        "row": lambda: f"h * {p.constant((3, n))}[1]",
        "column": lambda: f"h + {p.constant((n, 3))}[:, 1]",
        "strided": lambda: f"h * {p.constant((2 * n,))}[::2]",
        "whole and part": lambda: f"h @ C + h * C.reshape(-1)[1:{n + 1}]".replace(
            "C", p.constant((n, n))
        ),
        "whole and row": lambda: "h @ C + C[1]".replace("C", p.constant((n, n))),
        "whole and column": lambda: "h @ C + C[:, 1]".replace("C", p.constant((n, n))),
        "whole and transpose": lambda: "h @ C @ C.T".replace("C", p.constant((n, n))),
        "whole and block": lambda: "h @ C + h[..., :2] @ C[:2]".replace("C", p.constant((n, n))),
        "reversed": lambda: f"h - {p.constant((n,))}[::-1]",
        "diagonal": lambda: f"h * np.diag({p.constant((n, n))})",
        "mean": lambda: f"(h - {p.constant((4, n))}.mean(0)) / {p.constant((4, n))}.std(0)",
        "scalar": lambda: "h * np.float64(0.7)",
        "zero dimensions": lambda: "h * np.array(0.7)",
        "computed": lambda: f"h * np.linspace(0.5, 1.5, {n})",
        "tensor": lambda: f"h + mg.tensor({[0.1 * i for i in range(n)]}, dtype=h.dtype)",
        "list": lambda: f"h + {[round(0.1 * i, 1) for i in range(n)]}",
        "integers": lambda: f"h * np.arange({n})",
        "function": lambda: f"{p.helper('def scaled(t, by=0.5):', '    return t * by + 0.1')}(h)",
        "recursive": lambda: (
            p.helper(
                "def halved(t, depth=2):",
                "    return t if depth == 0 else halved(0.7 * t + 0.1, depth - 1)",
            )
            + "(h)"
        ),
        "rows": lambda: f"sum(row * h for row in {p.parameter((2, n))})",
        "unpacked": lambda: f"(lambda a, b: a * h + b)(*{p.parameter((2, n))})",
        "zipped": lambda: f"h + sum(a * b for a, b in zip({p.parameter((2, n))}, (0.1, 0.2)))",
        "own sum": lambda: "h / (1 + h.abs().sum())",
        "centred": lambda: "h - h.mean(0)",
        "sign": lambda: "h * mg.sign(h + 0.3)",
        "argmax": lambda: f"h * (np.arange({n}) == h.argmax(-1).unsqueeze(-1))",
        "teacher": lambda: f"h + 0.3 * {p.frozen_teacher(n)}",
    }
    p.line(f"h = {forms[p.pick('arithmetic', *forms)]()}")
    tanh(p)
    return shape


@block(weight=2)
def configured(p: Writer, shape: Shape) -> Shape:
    """Write operations that depend on values outside the step, which may change."""
    match p.pick("configured", "number", "text", "flag", "depth", "attribute", "function", "array"):
        case "number":
            p.line(f"h = (h * {p.setting('0.5', '0.7')}).tanh()")
        case "text":
            name = p.setting('"tanh"', '"sigmoid"')
            how = p.pick("how", "match", "table", "getattr")
            if how == "match":
                p.line(f'h = h.tanh() if {name} == "tanh" else h.sigmoid()')
            elif how == "table":
                p.line(f'h = {{"tanh": mg.tanh, "sigmoid": F.sigmoid}}[{name}](h)')
            else:
                p.line(f"h = getattr(F, {name})(h)")
        case "flag":
            p.line(f"if {p.setting('True', 'False')}:")
            p.line("    h = h.tanh()")
        case "depth":
            p.line(f"for _ in range({p.setting('2', '3')}):")
            p.line("    h = (h * 1.1).tanh()")
        case "attribute":
            config = p.value('{"scale": 0.5, "shift": [0.1, 0.2], "name": "a"}', "config")
            p.changes.append(p.pick("change", "", f"{p.outer_of(config)}['scale'] = 0.4"))
            p.changes.append(p.pick("change 2", "", f"{p.outer_of(config)}['shift'][1] = 0.3"))
            p.line(f'h = h * {config}["scale"] + {config}["shift"][1]')
            tanh(p)
        case "function":
            p.line(f"h = {p.setting('mg.tanh', 'F.sigmoid')}(h)")
        case "array":
            n = shape[-1]
            p.line(f"h = (h * {p.setting(f'np.linspace(0, 1, {n})', f'np.linspace(1, 2, {n})')})")
            tanh(p)
    return shape
