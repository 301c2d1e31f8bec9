"""Chromium without a screen, for tests of pages; they are skipped where it is not installed.

MINIGRAD_BROWSER=required, as .ci/run has it, fails them instead.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

RIGHT, LEFT, HOME, END, TAB, SPACE = "\ue014", "\ue012", "\ue011", "\ue010", "\ue004", " "
ENTER, ESCAPE = "\ue007", "\ue00c"

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def start() -> Iterator[Any]:
    """A Chromium, ended when the tests with it are."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which("chromedriver")
    try:
        from selenium import webdriver
    except ImportError:
        webdriver = None
    needed = {"chromium": browser, "chromedriver": driver, "selenium": webdriver}
    missing = [name for name, found in needed.items() if found is None]
    if missing:
        reason = f"{' and '.join(missing)} missing; Debian has chromium and chromium-driver"
        if os.environ.get("MINIGRAD_BROWSER") == "required":
            pytest.fail(f"MINIGRAD_BROWSER=required, but {reason}")
        pytest.skip(reason)
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chromium = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield chromium
    finally:
        chromium.quit()


class Page:
    """An open page: what one does with it, and what it shows."""

    def __init__(self, chromium: Any) -> None:
        self.chromium = chromium

    def open(self, path: Path, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        self.resize(width, height, dark)
        self.chromium.get(path.as_uri())

    def resize(self, width: int, height: int, dark: bool = False) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})

    def press(self, *keys: str) -> None:
        """As on a keyboard, wherever the focus is."""
        self.chromium.switch_to.active_element.send_keys(*keys)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.chromium.execute_script(script, *arguments)

    def all(self, selector: str) -> list[str]:
        """The texts of all elements that a selector means, shown or not."""
        script = "return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent)"
        texts: list[str] = self.run(script, selector)
        return texts

    def text(self, selector: str) -> str:
        (text,) = self.all(selector)
        return text

    def wait(self, condition: str) -> None:
        """Until an expression of JavaScript is true: some events come after what causes them."""
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.chromium, 30, 0.02).until(lambda _: self.run(f"return {condition}"))

    def complaints(self) -> list[str]:
        """Errors and warnings on the console since the last time."""
        return [entry["message"] for entry in self.chromium.get_log("browser")]
