"""The explorer steps in a real browser, and shows the engine's gradients."""

import itertools
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import END, ENTER, ESCAPE, HOME, LEFT, RIGHT, SPACE, Page
from pages import digits_loss, small_loss

import minigrad as mg
from minigrad import nn
from minigrad.errors import FileError
from minigrad.explainer.analysis.paths import distinct_paths

EVIL = "<script>alert(1)</script>&<img src=x onerror=alert(2)>\"'\n</script>"

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
    """Return what each step should show: lines, and the record whose node is marked."""
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


@pytest.mark.sampled(2)
@pytest.mark.parametrize("which", ["small", "digits"])
def test_the_keyboard_steps_through_all_records_and_rules(
    page: Page, which: str, request: pytest.FixtureRequest
) -> None:
    explained, path = request.getfixturevalue(which)
    page.open(path)
    expected = lines_of(explained)
    assert len(expected) > len(explained.derivation.steps)  # forward, and a step for each rule
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
    assert len(shown) == len(list(net.parameters()))
    for name, parameter in net.named_parameters():
        g = parameter.grad.numpy().astype(np.float64)
        expected = [g.min(), g.mean(), g.max(), np.sqrt((g * g).sum())]
        found = np.array(shown[f"net_{name.replace('.', '_')}"], float)
        # Four digits are shown, and BatchNorm makes the gradient of a bias before it nothing but
        # what rounding leaves.
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=2e-8)


ROWS = """
return [...document.querySelectorAll("#step .overview tbody tr")].map((row) => row.innerText);
"""
NUMBERS = """
return [...arguments[0].querySelectorAll("td")].map((cell) => Number(cell.title));
"""


def numbers(page: Page, selector: str) -> list[np.ndarray]:
    """Return the numbers of the figures that match the selector."""
    figures = page.chromium.find_elements("css selector", selector)
    return [np.array(page.run(NUMBERS, figure)) for figure in figures]


def test_gradients_grow_and_paths_add_up(page: Page, small: tuple[Any, Path]) -> None:
    explained, path = small
    loss, named = small_loss()
    loss.backward()
    page.open(path)
    assert page.text("#gradients li[data-gradient=x] .waiting").endswith("0 of 4 contributions")
    page.press(*[RIGHT] * (len(explained.derivation.steps) + 1))  # where backward begins
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
    assert page.text("#gradients-title") == "Gradients"
    rows = [row.split() for row in page.run(ROWS)]
    norms = [f"{np.linalg.norm(x.grad.numpy()):.4g}" for x in named.values() if x.grad is not None]
    assert rows == [
        ["g_x", "(5,", "3)", "4", "6", norms[0]],
        ["g_w", "(5,", "3)", "1", "1", norms[1]],
    ]
    for name, x in named.items():
        (found, *_) = numbers(page, f"li[data-gradient={name}] figure")
        assert x.grad is not None
        np.testing.assert_allclose(found, x.grad.numpy().reshape(-1), rtol=1e-12, atol=1e-15)
    page.run("document.querySelector('li[data-gradient=x] > details > summary').focus()")
    page.press(ENTER)
    page.wait("document.querySelector('li[data-gradient=x].open')")
    total, *parts = numbers(page, "li[data-gradient=x] figure")
    assert len(parts) == len(explained.paths("x")) > 1
    np.testing.assert_allclose(sum(parts), total, rtol=1e-12, atol=1e-15)
    assert page.all("li[data-gradient=x] > details .name") == [
        way.text for way in distinct_paths(explained.paths("x"))
    ]


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


CARDS = """
return [...document.querySelectorAll("#step .cards")].at(-1).innerText.split("\\n")
  .map((line) => line.split(" (")[0]);
"""


def test_a_rule_shows_all_that_it_reads(page: Page, tmp_path: Path) -> None:
    """It shows the left side of ==, too, and names in any alphabet."""
    x, y = (mg.tensor(a, requires_grad=True) for a in ([1.0, 5.0], [3.0, 2.0]))
    loss = (x * y).max()
    mg.explain(loss, names={"λ": x, "अंक": y}).save_html(tmp_path / "read.html")
    page.open(tmp_path / "read.html")
    page.press(*[RIGHT] * 4)
    assert page.text("#step h2").strip() == "Backward 1 of 3 from max, w.r.t. a"
    assert {"v1", "v2", "g2"} <= set(page.run(CARDS))
    page.press(RIGHT)
    assert {"g1", "अंक"} <= set(page.run(CARDS))
    page.press(RIGHT)
    assert {"g1", "λ"} <= set(page.run(CARDS))


def test_numbers_are_shown_as_what_they_are(page: Page, tmp_path: Path) -> None:
    """Infinity is not shown as NaN, nor labels as fractions."""
    x = mg.tensor([[1.5, -np.inf], [np.inf, np.nan]], requires_grad=True)
    y = mg.where(np.array([True, False]), x[np.array([1, 0])], 0.0)
    mg.explain(y, np.ones((2, 2), np.float32)).save_html(tmp_path / "numbers.html")
    page.open(tmp_path / "numbers.html")
    cells = page.all("#step .numbers td")
    assert cells[:4] == ["1.500", "-inf", "inf", "nan"]
    assert cells[4:8] == ["1", "0", "True", "False"]


def test_heat_maps_use_the_room_there_is(page: Page, tmp_path: Path) -> None:
    """Many rows of few columns do not make a narrow strip."""
    x = mg.tensor(np.ones((64, 16)), requires_grad=True)
    mg.explain((x * x).sum()).save_html(tmp_path / "sizes.html")
    page.open(tmp_path / "sizes.html")
    size = "const { width, height } = document.querySelector('#step canvas').style;"
    assert page.run(f"{size} return [width, height]") == ["192px", "128px"]
