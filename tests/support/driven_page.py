"""The page of reviewers, driven by keys in a real browser."""

from __future__ import annotations

import random
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.processes import Started

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

_PATIENCE_SECONDS, _AGAIN_SECONDS = 60.0, 5.0


def press(browser: Chrome, keys: str) -> None:
    from selenium.webdriver import ActionChains

    ActionChains(browser).send_keys(keys).perform()


def texts(browser: Chrome, selector: str) -> list[str]:
    return browser.execute_script(
        "return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)", selector
    )


def heading(browser: Chrome) -> str:
    return "".join(texts(browser, "#row"))


def until(reached: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not reached():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def press_until(browser: Chrome, keys: str, reached: Callable[[], bool]) -> bool:
    """Press them, and again now and then: a busy machine's browser may not have the focus yet."""
    for _ in range(int(_PATIENCE_SECONDS // _AGAIN_SECONDS)):
        press(browser, keys)
        again = time.monotonic() + _AGAIN_SECONDS
        while time.monotonic() < again:
            if reached():
                return True
            time.sleep(0.02)
    return False


def answered(browser: Chrome, keys: str) -> None:
    """Press them, and wait for the next row."""
    before = heading(browser)
    press(browser, keys)
    until(lambda: heading(browser) != before, f"{before} stays")


def styled(browser: Chrome) -> None:
    """Wait for the stylesheet, which on a busy machine comes after the page."""
    from selenium.webdriver.support.ui import WebDriverWait

    there = "return document.readyState === 'complete' && document.styleSheets.length > 0"
    WebDriverWait(browser, 60).until(lambda one: one.execute_script(there))


def complaints(browser: Chrome) -> list[str]:
    """What the browser's console holds: scripts that fail, and what the page's policy refused."""
    return [entry["message"] for entry in browser.get_log("browser")]


class Reviewer:
    """A command, killed and started again, and the browser that speaks to it. ``words``: of the
    command, run in ``folder``. ``key``: what is pressed, by the text that is shown first."""

    def __init__(
        self, name: str, words: list[str], folder: Path, browser: Chrome, key: Callable[[str], str]
    ) -> None:
        self.name, self.browser = name, browser
        self._words, self._folder, self._key = words, folder, key
        self.starts = 0
        self.command = self._start()

    def _start(self) -> Started:
        self.starts += 1
        arguments = [sys.executable, "-m", "pipeline.cli.main", *self._words]
        options = ["--reviewer", self.name, "--no-browser"]
        command = Started([*arguments, *options], self._folder, {})
        command.wait_until(lambda: "?token=" in command.output, "the address is printed")
        address = re.search(r"http://\S+", command.output)
        assert address is not None
        self.browser.get(address.group())
        return command

    def kill(self) -> None:
        self.command.kill_driver()
        self.command = self._start()

    @property
    def done(self) -> bool:
        return heading(self.browser).startswith("All")

    def press(self) -> str:
        """The key for what is shown. Returns its heading."""
        at = heading(self.browser)
        assert at, f"{self.browser.current_url}: {self.browser.page_source}"
        press(self.browser, self._key(texts(self.browser, "pre.text")[0]))
        return at

    def answer(self) -> None:
        at = self.press()
        until(lambda: heading(self.browser) != at, f"{self.name}: {at} stays")


def answer_through_kills(reviewers: Sequence[Reviewer], things: int, kills: int) -> None:
    """Each answers all ``things`` that there are, in turns; so many times one's server is killed
    while an answer is under way, and started again."""
    chance = random.Random(7)
    turns = things * len(reviewers)
    killed = set(chance.sample(range(turns), kills))
    for turn in range(turns):
        one = reviewers[turn % len(reviewers)]
        if one.done:
            continue
        if turn in killed:
            one.press()
            time.sleep(chance.choice([0.0, 0.002, 0.01, 0.03]))
            one.kill()
        else:
            one.answer()
    for one in reviewers:  # those whose answer was not saved when the kill came
        while not one.done:
            one.answer()
    assert sum(one.starts for one in reviewers) == len(reviewers) + kills


@contextmanager
def ended(*reviewers: Reviewer) -> Iterator[None]:
    try:
        yield
    finally:
        for one in reviewers:
            one.command.kill_all()
