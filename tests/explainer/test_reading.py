"""The explorer and notebooks can be read on any screen and theme, and used by keyboard."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import END, ENTER, HOME, LEFT, RIGHT, TAB, Page

import minigrad as mg

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
    """A narrow phone need not, either."""
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
    """JupyterLab's theme counts, whatever the theme of the system is."""
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
