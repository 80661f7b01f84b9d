"""Chromium without a window, driven by selenium; it talks to nobody but the address it is given."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

LIMIT = 60.0  # seconds that anything may take on a busy machine
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars",
)  # fmt: skip


def missing() -> str:
    """What is not installed; empty = a browser can be started."""
    if not any(map(shutil.which, BROWSERS)):
        return "no Chromium is installed: the console is not tested in a browser"
    return (
        "" if shutil.which("chromedriver") else "chromedriver is not installed: the console is not tested in a browser"
    )


class Window:
    """One browser with one window on one console."""

    def __init__(self, driver: webdriver.Chrome, base: str) -> None:
        self.driver = driver
        self.base = base

    def go(self, path: str) -> None:
        self.driver.get(self.base + path)

    def one(self, selector: str) -> WebElement:
        """Waits until it is there."""
        return self.until(lambda: next(iter(self.all(selector)), None), f"there is {selector}")

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        """What stands there now; empty while it is being replaced."""
        return str(self.run("return document.querySelector(arguments[0])?.innerText ?? ''", selector))

    def texts(self, selector: str) -> list[str]:
        return list(self.run("return [...document.querySelectorAll(arguments[0])].map(e => e.innerText)", selector))

    def run(self, script: str, *values: object) -> Any:
        return self.driver.execute_script(script, *values)

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        """Asks again while the page under the question is being replaced: its elements are stale then, not wrong."""
        waiting = WebDriverWait(
            self.driver, LIMIT, poll_frequency=0.05, ignored_exceptions=(StaleElementReferenceException,)
        )
        return waiting.until(lambda _: condition(), f"not in time: {what}")

    def click(self, find: Callable[[], WebElement]) -> None:
        """Again when live refresh has just put another in its place."""

        def clicked() -> bool:
            find().click()
            return True

        self.until(clicked, "it can be clicked")

    def press(self, *keys: str) -> None:
        for key in keys:
            self.driver.switch_to.active_element.send_keys(key)

    def log_in(self, email: str, password: str) -> None:
        self.go("/console/")
        self.one("#email").send_keys(email)
        self.one("#password").send_keys(password, Keys.ENTER)
        self.one("#list")

    def complaints(self) -> list[str]:
        """What the browser has complained of since it was last asked: errors, refused content."""
        return [f"{line['level']}: {line['message']}" for line in self.driver.get_log("browser")]

    def size(self, width: int, height: int, *, scale: float = 1, phone: bool = False) -> None:
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": phone},
        )

    def prefers(self, scheme: str) -> None:
        self.driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        )

    def scripts(self, allowed: bool) -> None:
        self.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not allowed})


@contextmanager
def window(base: str) -> Iterator[Window]:
    """Fails: AssertionError when `missing()` says something."""
    assert not missing(), missing()
    options = webdriver.ChromeOptions()
    options.binary_location = next(filter(None, map(shutil.which, BROWSERS)))
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with tempfile.TemporaryDirectory(prefix="postroom-browser-", ignore_cleanup_errors=True) as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
        try:
            opened = Window(driver, base)
            opened.size(1440, 900)
            yield opened
        finally:
            driver.quit()
