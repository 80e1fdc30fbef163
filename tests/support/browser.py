"""A real browser for tests of pages: Debian's chromium without a screen, driven by selenium."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
NEEDED = "needs chromium and its driver: apt-get install chromium chromium-driver"
Open = Callable[..., "Chrome"]


@pytest.fixture
def open_browser(tmp_path: Path) -> Iterator[Open]:
    """Starts a browser, of ``width`` times ``height`` pixels."""
    if CHROMIUM is None or DRIVER is None:
        pytest.skip(NEEDED)
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    with ExitStack() as stack:
        number = 0

        def start(width: int = 900, height: int = 800) -> Chrome:
            nonlocal number
            number += 1
            options = ChromeOptions()
            options.binary_location = str(CHROMIUM)
            options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
            for argument in (
                "--headless=new",
                "--no-sandbox",  # as root
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--disable-background-networking",
                "--no-first-run",
                f"--user-data-dir={tmp_path / f'browser-{number}'}",
                f"--window-size={width},{height}",
            ):
                options.add_argument(argument)
            service = Service(str(DRIVER), env=os.environ | {"HOME": str(tmp_path)})
            browser = Chrome(options=options, service=service)
            stack.callback(browser.quit)
            browser.set_page_load_timeout(60)
            return browser

        yield start
