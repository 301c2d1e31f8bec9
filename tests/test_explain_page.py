"""The explorer in a real browser: it steps, shows the engine's gradients, and reaches everybody."""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import Page, start

import minigrad as mg
from minigrad import functional as F
from minigrad import nn
from minigrad.errors import FileError
from minigrad.explainer.paths import ways

RIGHT, LEFT, HOME, END, TAB, SPACE = "\ue014", "\ue012", "\ue011", "\ue010", "\ue004", " "
ENTER, ESCAPE = "\ue007", "\ue00c"
EVIL = "<script>alert(1)</script>&<img src=x onerror=alert(2)>\"'\n</script>"

chromium = pytest.fixture(scope="module")(start)


@pytest.fixture
def page(chromium: Any) -> Iterator[Page]:
    """Whatever a test does, nothing may be complained of."""
    opened = Page(chromium)
    yield opened
    assert opened.complaints() == []


def digits_loss() -> tuple[mg.Tensor, nn.Module]:
    """The loss of the network of examples/digits.py, with composed BatchNorm, and the network."""
    mg.manual_seed(0)
    hidden = [
        [nn.Linear(n, m), nn.BatchNorm1d(m, fused=False), nn.ReLU()]
        for n, m in ((64, 128), (128, 64))
    ]
    net = nn.Sequential(*hidden[0], *hidden[1], nn.Linear(64, 10))
    x = np.random.default_rng(0).uniform(0, 16, size=(64, 64)).astype(np.float32)
    return F.cross_entropy(net(mg.tensor(x)), mg.tensor(np.arange(64) % 10)), net


def small_loss() -> tuple[mg.Tensor, dict[str, mg.Tensor]]:
    """BatchNorm with all numbers on the page, an input used twice, a rule in several lines."""
    rng = np.random.default_rng(1)
    x, w = (mg.tensor(rng.normal(size=(5, 3)), requires_grad=True) for _ in range(2))
    y = F.batch_norm(x, None, None, training=True, fused=False)
    return (y * F.gelu(w) + x * x).sum(), {"x": x, "w": w}


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """An explanation and its page."""
    loss, net = digits_loss()
    explained, path = mg.explain(loss, names={"net": net, "loss": loss}), "digits.html"
    path = tmp_path_factory.mktemp("page") / "digits.html"
    explained.save_html(path)
    return explained, path


@pytest.fixture
def small(tmp_path: Path) -> tuple[Any, Path]:
    loss, named = small_loss()
    explained = mg.explain(loss, names={**named, "loss": loss})
    explained.save_html(tmp_path / "small.html")
    return explained, tmp_path / "small.html"


STATE = """
const now = document.querySelector(".minigrad-graph .now[data-node]");
const [a, b] = [now, document.getElementById("graph")].map((e) => e.getBoundingClientRect());
const inside = b.top <= a.top && a.bottom <= b.bottom && b.left <= a.left && a.right <= b.right;
return {
  lines: [...document.querySelectorAll("#step .formula code")].map((e) => e.textContent),
  record: now.querySelector("title").textContent,
  inside,
  said: document.getElementById("announcement").textContent,
};
"""


def lines_of(explained: Any) -> list[tuple[list[str], str]]:
    """What the steps should show: lines, and the record whose node is marked."""
    steps = explained.derivation.steps
    hints = {id(step): "; ".join(line.text for line in step.forward) for step in steps}
    found = [([line.text for line in step.forward], hints[id(step)]) for step in steps]
    found.append(([explained.derivation.begin.text], hints[id(steps[-1])]))
    for step in reversed(steps):
        texts: list[str] = []
        for line in step.backward:
            texts.append(line.text)
            if line.wrt:
                found.append((texts, hints[id(step)]))
                texts = []
    return found


def test_the_keyboard_steps_through_all_records_and_rules(
    page: Page, digits: tuple[Any, Path]
) -> None:
    explained, path = digits
    page.open(path)
    expected = lines_of(explained)
    assert len(expected) == 20 + 1 + 33
    assert page.text("#count") == f"1 of {len(expected) + 2}"
    seen = []
    for _ in expected:
        page.press(RIGHT)
        state = page.run(STATE)
        assert state["inside"], state
        assert state["said"].endswith(". " + "; ".join(state["lines"]))
        seen.append((state["lines"], state["record"]))
    assert seen == expected
    page.press(RIGHT)
    assert page.text("#step h2").startswith("End")
    page.press(RIGHT)  # there is nothing behind the end
    for lines, record in reversed(expected):
        page.press(LEFT)
        state = page.run(STATE)
        assert (state["lines"], state["record"]) == (lines, record)
    page.press(LEFT, LEFT)
    assert page.text("#step h2").startswith("Start")
    page.press(END)
    assert page.text("#count") == f"{len(expected) + 2} of {len(expected) + 2}"
    page.press(HOME)
    assert page.text("#count") == f"1 of {len(expected) + 2}"


STATISTICS = """
return Object.fromEntries([...document.querySelectorAll("#gradients li")].map((item) => [
  item.dataset.gradient,
  [...item.querySelector("figure").querySelectorAll("b[data-is]")].map((b) => b.textContent),
]));
"""


def test_final_gradients_are_the_engine_s(page: Page, digits: tuple[Any, Path]) -> None:
    loss, net = digits_loss()
    loss.backward()
    page.open(digits[1])
    page.press(END)
    shown = page.run(STATISTICS)
    assert len(shown) == 10
    for name, parameter in net.named_parameters():
        g = parameter.grad.numpy().astype(np.float64)
        expected = [g.min(), g.mean(), g.max(), np.sqrt((g * g).sum())]
        found = np.array(shown[f"net_{name.replace('.', '_')}"], float)
        # Four digits are shown, and BatchNorm makes the gradient of a bias before it nothing but
        # what rounding leaves.
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=2e-8)


NUMBERS = """
return [...arguments[0].querySelectorAll("td")].map((cell) => Number(cell.title));
"""


def numbers(page: Page, selector: str) -> list[np.ndarray]:
    """The numbers of figures with the selector."""
    figures = page.chromium.find_elements("css selector", selector)
    return [np.array(page.run(NUMBERS, figure)) for figure in figures]


def test_gradients_grow_and_paths_add_up(page: Page, small: tuple[Any, Path]) -> None:
    explained, path = small
    loss, named = small_loss()
    loss.backward()
    page.open(path)
    assert page.text("#gradients li[data-gradient=x] .waiting").endswith("0 of 4 contributions")
    page.press(*[RIGHT] * (len(explained.derivation.steps) + 1))  # to where the walk begins
    grown = np.zeros((5, 3))
    for entry, _ in lines_of(explained)[len(explained.derivation.steps) + 1 :]:
        page.press(RIGHT)
        assert page.all("#step .formula code") == entry
        if entry[-1].startswith("g_x +="):
            contribution, so_far = numbers(page, "#step .formula + h3 + .cards figure")
            grown += contribution.reshape(-1, 3)  # of all rows, or one for all
            np.testing.assert_allclose(so_far, grown.reshape(-1), rtol=1e-12, atol=1e-15)
            np.testing.assert_array_equal(numbers(page, "li[data-gradient=x] figure")[0], so_far)
            assert page.run("return document.querySelector('li.now').dataset.gradient") == "x"
    page.press(END)
    for name, x in named.items():
        (found, *_) = numbers(page, f"li[data-gradient={name}] figure")
        assert x.grad is not None
        np.testing.assert_allclose(found, x.grad.numpy().reshape(-1), rtol=1e-12, atol=1e-15)
    page.run("document.querySelector('li[data-gradient=x] > details > summary').focus()")
    page.press(ENTER)
    page.wait("document.querySelector('li[data-gradient=x].open')")
    total, *parts = numbers(page, "li[data-gradient=x] figure")
    assert len(parts) == len(explained.paths("x")) == 6
    np.testing.assert_allclose(sum(parts), total, rtol=1e-12, atol=1e-15)
    assert page.all("li[data-gradient=x] > details .name") == ways(explained.paths("x"))


# --- folding ------------------------------------------------------------------------------------

BOXES = """
const shown = [...document.querySelectorAll(".minigrad-graph [data-node]")];
return shown.filter((e) => e.getBoundingClientRect().width).map((e) => {
  const box = e.querySelector("rect").getBoundingClientRect();
  return [e.querySelector("text").textContent, box.left, box.top, box.right, box.bottom];
});
"""
ENDS = """
const box = (e) => e.querySelector("rect").getBoundingClientRect();
const all = [...document.querySelectorAll(".minigrad-graph [data-node]")];
const boxes = all.filter((e) => e.getBoundingClientRect().width).map(box);
const on = ({ x, y }) => boxes.some(
  (b) => b.left - 3 < x && x < b.right + 3 && b.top - 3 < y && y < b.bottom + 3
);
return [...document.querySelectorAll(".minigrad-graph .edge")]
  .filter((e) => e.getBoundingClientRect().height)
  .map((e) => [0, e.getTotalLength()].map((at) => {
    return on(e.getPointAtLength(at).matrixTransform(e.getScreenCTM()));
  }));
"""


def test_modules_fold_and_unfold(page: Page, digits: tuple[Any, Path]) -> None:
    page.open(digits[1])
    unfolded = page.run(BOXES)
    page.run("document.querySelector('#modules summary').focus()")
    page.press(ENTER)
    page.run("document.querySelector('[data-fold=\"2\"]').focus()")
    page.press(SPACE)
    assert page.text("#count") == "1 of 40"  # 7 records and 11 rules of net.1 are two stops
    page.press(RIGHT, RIGHT)
    assert page.text("#step h2") == "Forward net.1 BatchNorm1d, folded: 7 records"
    state = page.run(STATE)
    assert state["inside"]
    assert state["record"].startswith("net.1")
    boxes = page.run(BOXES)
    assert "v9 = net.1(...)" in [box[0] for box in boxes]
    assert len(boxes) == len(unfolded) - 9 + 1
    for (_, *a), (_, *b) in itertools.combinations(boxes, 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
    ends = page.run(ENDS)
    assert ends
    assert all(start and end for start, end in ends)
    page.run("document.getElementById('unfold').focus()")
    page.press(ENTER, ESCAPE, HOME)
    assert page.run(BOXES) == unfolded
    assert page.text("#count") == "1 of 56"
    assert not page.run("return document.getElementById('modules').open")


def test_what_is_folded_begins_folded(page: Page, digits: tuple[Any, Path], tmp_path: Path) -> None:
    digits[0].fold("net").save_html(tmp_path / "folded.html")
    page.open(tmp_path / "folded.html")
    assert len(page.run(BOXES)) == 3  # the network, the labels and the loss
    assert page.text("#count") == "1 of 7"
    page.press(*[RIGHT] * 6)
    assert page.text("#step h2").startswith("End")


# --- for everybody ------------------------------------------------------------------------------

FOCUS = """
const e = document.activeElement;
const drawn = e.matches("[data-node]") ? e.querySelector(".box") : e;
const style = getComputedStyle(drawn);
const visible = drawn === e ? style.outlineStyle !== "none" : style.strokeWidth === "3px";
return [e.id || e.dataset.node || e.className || e.tagName, visible];
"""


def test_tab_reaches_everything_and_shows_where_it_is(page: Page, small: tuple[Any, Path]) -> None:
    page.open(small[1])
    page.press(RIGHT, RIGHT)
    count = page.run("return document.querySelectorAll('[data-node]').length")
    reached: list[str] = []
    for _ in range(count + 60):
        page.press(TAB)
        name, visible = page.run(FOCUS)
        if name == "BODY":
            break
        assert visible, name
        reached.append(name)
    assert {"skip", "first", "back", "forth", "last", "slider", "graph"} <= set(reached)
    assert set(map(str, range(count))) <= set(reached)
    assert reached.count("SUMMARY") >= 3  # numbers and paths
    page.run("document.querySelector('[data-node=\"3\"]').focus()")
    page.press(ENTER)
    assert page.run("return document.querySelector('.now[data-node]').dataset.node") == "3"


WIDE = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"


def test_a_phone_need_not_scroll_sideways(page: Page, digits: tuple[Any, Path]) -> None:
    """Nor a narrow one."""
    page.open(digits[1], 320, 700)
    page.press(END)
    page.run("for (const d of document.querySelectorAll('details')) d.open = true")
    assert page.run(WIDE) <= 0
    page.run("document.getElementById('modules').open = false")
    for _ in range(19):
        page.press(LEFT, LEFT, LEFT)
        assert page.run(WIDE) <= 0, page.text("#step h2")


CONTRAST = """
const luminance = (rgb) => rgb.slice(0, 3).map((c) => c / 255)
  .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
  .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
const rgb = (colour) => colour.match(/[\\d.]+/g).map(Number);
const ground = (e) => {
  const found = rgb(getComputedStyle(e).backgroundColor);
  return found.length === 4 && found[3] === 0 && e.parentElement ? ground(e.parentElement) : found;
};
const contrast = (a, b) => {
  const [dark, light] = [a, b].map(luminance).sort((x, y) => x - y);
  return (light + 0.05) / (dark + 0.05);
};
const found = {};
for (const e of document.querySelectorAll(arguments[0])) {
  const box = e.tagName === "text" && e.parentElement.querySelector(":scope > .box");
  const [ink, paper] = box
    ? [getComputedStyle(e).fill, getComputedStyle(box).fill].map(rgb)
    : [rgb(getComputedStyle(e).color), ground(e)];
  found[`${e.tagName} ${e.textContent.slice(0, 20)}`] = contrast(ink, paper);
}
return [luminance(ground(document.body)), found];
"""
TEXTS = "h1, h2, h2 *, h3, p, output, summary, mi, figcaption *, .formula code, svg g > text"


@pytest.mark.parametrize("dark", [False, True])
def test_light_and_dark_can_be_read(page: Page, digits: tuple[Any, Path], dark: bool) -> None:
    page.open(digits[1], dark=dark)
    for key in (HOME, END, LEFT):
        page.press(key)
        ground, contrasts = page.run(CONTRAST, TEXTS)
        assert (ground < 0.05) is dark
        assert len(contrasts) > 30
        assert {text: c for text, c in contrasts.items() if c < 4.5} == {}


@pytest.mark.parametrize("system", [False, True])
@pytest.mark.parametrize("dark", [False, True])
def test_a_notebook_is_read_in_its_own_theme(
    page: Page, digits: tuple[Any, Path], tmp_path: Path, dark: bool, system: bool
) -> None:
    """Whatever that of the system is: JupyterLab tells its own."""
    ground, ink = ("#111111", "#eeeeee") if dark else ("#ffffff", "#111111")
    host = (
        f'data-jp-theme-light="{str(not dark).lower()}" style="background: {ground}; color: {ink}"'
    )
    shown = f"<!doctype html><meta charset=utf-8><body {host}>{digits[0]._repr_html_()}</body>"
    (tmp_path / "notebook.html").write_text(shown, encoding="utf-8")
    page.open(tmp_path / "notebook.html", 390 if system else 1280, dark=system)
    _, contrasts = page.run(CONTRAST, "td, th, summary, mi, svg g > text")
    assert len(contrasts) > 60
    fill = "return getComputedStyle(document.querySelector('.record .box')).fill"
    assert (page.run(fill) == "rgb(31, 38, 48)") is dark
    assert {text: c for text, c in contrasts.items() if c < 4.5} == {}
    assert page.run(WIDE) <= 0


PIXELS = """
window.pixels = () => {
  const canvas = document.querySelector("#step canvas");
  const context = canvas.getContext("2d");
  const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
  return Array.from({ length: canvas.width }, (_, i) => [...data.slice(4 * i, 4 * i + 3)]);
};
return pixels();
"""


def test_heat_maps_follow_the_theme(page: Page, tmp_path: Path) -> None:
    x = mg.tensor([-2.0, 0.0, 1.0, 2.0, np.nan], requires_grad=True)
    mg.explain(x.sum(), names={"x": x}).save_html(tmp_path / "heat.html")
    page.open(tmp_path / "heat.html")
    low, zero, half, high, nan = page.run(PIXELS)
    assert low == [8, 81, 156]
    assert high == [179, 88, 6]
    assert min(zero) > 230
    assert nan == [214, 0, 214]
    np.testing.assert_allclose(half, (np.array(zero) + high) / 2, atol=2)
    page.resize(1280, 900, dark=True)
    page.wait("Math.max(...pixels()[1]) < 60")
    page.chromium.get_log("browser")  # Chromium complains of pixels that are read twice


def test_names_are_escaped(page: Page, tmp_path: Path) -> None:
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    net = nn.Sequential(nn.ReLU())
    loss = (net(x) * x).sum()
    explained = mg.explain(loss, names={EVIL: x, f"{EVIL}net": net, f"{EVIL}loss": loss})
    explained.save_html(tmp_path / "evil.html")
    page.open(tmp_path / "evil.html")
    for _ in range(12):
        assert page.run("return document.scripts.length") == 2
        assert page.run("return document.images.length") == 0
        page.press(RIGHT)
    shown = "<script>alert(1)</script>&<img src=x onerror=alert(2)>\"' </script>"
    assert page.text("h1") == f"{shown}loss: explained"
    assert page.all("#modules label")[0][:45] == f" fold {shown}"[:45]
    page.press(HOME)
    assert page.all("#step figcaption .name")[0].endswith(f", {shown}")


# --- the file -----------------------------------------------------------------------------------


def test_the_page_is_one_small_file_without_a_network(page: Page, digits: tuple[Any, Path]) -> None:
    path = digits[1]
    assert path.stat().st_size < 2_000_000
    text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
    assert "http:" not in text
    assert "https:" not in text
    page.open(path)
    assert page.run("return performance.getEntriesByType('resource').length") == 0


def test_long_tapes_have_smaller_heat_maps(tmp_path: Path) -> None:
    x = mg.tensor(np.ones((64, 64)), requires_grad=True)
    y = x
    for _ in range(300):
        y = (y * x).tanh()
    mg.explain(y.sum()).save_html(tmp_path / "long.html")
    assert (tmp_path / "long.html").stat().st_size < 3_000_000


def test_a_path_that_cannot_be_written_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    explained = mg.explain(small_loss()[0])
    old = tmp_path / "old.html"
    old.write_text("old")

    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(FileError, match=r"save_html: .*old.html.* cannot be written \(No space"):
        explained.save_html(old)
    assert old.read_text() == "old"
    assert os.listdir(tmp_path) == ["old.html"]
    with pytest.raises(FileError, match="give the path of a file in a folder that exists"):
        explained.save_html(tmp_path / "none" / "a.html")
