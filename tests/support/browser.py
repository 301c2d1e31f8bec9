"""Run Chromium without a screen for tests of pages, which are skipped if it is not installed.

With MINIGRAD_BROWSER=required, as .ci/run sets it, they fail instead.
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
    """Yield a Chromium, which is closed after the tests."""
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
    """A Page is open; its methods use it, and read what it shows."""

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
        """Press keys on the element that has the focus."""
        self.chromium.switch_to.active_element.send_keys(*keys)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.chromium.execute_script(script, *arguments)

    def all(self, selector: str) -> list[str]:
        """Return the texts of all elements that match a selector, visible or not."""
        script = "return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent)"
        texts: list[str] = self.run(script, selector)
        return texts

    def text(self, selector: str) -> str:
        (text,) = self.all(selector)
        return text

    def wait(self, condition: str) -> None:
        """Wait until an expression of JavaScript is true, since some events come late."""
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.chromium, 30, 0.02).until(lambda _: self.run(f"return {condition}"))

    def complaints(self) -> list[str]:
        """Return the errors and warnings on the console since the last call."""
        return [entry["message"] for entry in self.chromium.get_log("browser")]
