"""The page in a real browser: keys, clicks, screens, and reviewers whose servers are killed."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.output.reviews.answers import ReviewAnswers
from pipeline.storage.base import Storage
from tests.support.browser import Open
from tests.support.driven_page import (
    Reviewer,
    answer_through_kills,
    answered,
    complaints,
    ended,
    heading,
    press,
    press_until,
    styled,
    texts,
    until,
)
from tests.support.labelled import labelled
from tests.support.served_review import Served

pytestmark = pytest.mark.early

EVIL = "<script>document.title='gone'</script><img src=x onerror=\"document.title='gone'\">\u202e"


class TestKeys:
    def test_digits_answer_u_is_unsure_z_takes_back_m_shows_the_models_answer(
        self, open_browser: Open, serve: Callable[..., Served], tmp_path: Path
    ) -> None:
        page = serve(labelled(tmp_path, 60))
        browser = open_browser()
        browser.get(page.address)
        assert "token" not in browser.current_url
        assert heading(browser) == "Row 1 of 20"

        answered(browser, "1")
        answered(browser, "2")
        answered(browser, "u")
        assert heading(browser) == "Row 4 of 20"
        answered(browser, "z")
        assert heading(browser) == "Row 3 of 20"
        press(browser, "9")  # there is no such choice
        assert texts(browser, "#model") == []
        press(browser, "m")
        until(lambda: texts(browser, "#model") != [], "the model's answer")
        press(browser, "m")
        until(lambda: texts(browser, "#model") == [], "it is hidden again")

        said = [answer.value for answer in page.session.own().values()]
        assert said == ["bad", "good"]
        assert texts(browser, "#count") == ["2 of 20"]
        assert complaints(browser) == []

    def test_a_click_answers_too_and_the_next_row_has_the_focus_so_that_it_is_read_out(
        self, open_browser: Open, serve: Callable[..., Served], tmp_path: Path
    ) -> None:
        page = serve(labelled(tmp_path, 60))
        browser = open_browser()
        browser.get(page.address)
        before = heading(browser)
        browser.find_elements("css selector", "button.choice")[1].click()
        until(lambda: heading(browser) != before, "the next row")
        until(
            lambda: browser.execute_script("return document.activeElement.id") == "row",
            "the heading has the focus",
        )
        assert [answer.value for answer in page.session.own().values()] == ["good"]

    def test_more_than_nine_choices_are_narrowed_by_typing(
        self, open_browser: Open, serve: Callable[..., Served], tmp_path: Path
    ) -> None:
        choices = tuple(f"{word} {n}" for n in range(8) for word in ("topic", "theme"))
        page = serve(labelled(tmp_path, 60, choices=choices))
        browser = open_browser()
        browser.get(page.address)
        press(browser, "/")
        press(browser, "zu")  # keys are letters here
        press(browser, "\b\bTHEME 7")
        shown = "return document.querySelectorAll('button.choice:not([hidden])').length"
        until(lambda: browser.execute_script(shown) == 1, "one choice is left")
        answered(browser, "\n")
        press(browser, "/")
        press(browser, "theme")
        until(lambda: browser.execute_script(shown) == 8, "eight are left")
        browser.find_element("css selector", "h1").click()
        answered(browser, "3")
        assert [a.value for a in page.session.own().values()] == ["theme 7", "theme 2"]

    def test_a_key_that_is_held_answers_one_row(
        self, open_browser: Open, serve: Callable[..., Served], tmp_path: Path
    ) -> None:
        page = serve(labelled(tmp_path, 60))
        browser = open_browser()
        browser.get(page.address)
        browser.execute_script(
            "for (let i = 0; i < 9; i++) document.dispatchEvent(new KeyboardEvent('keydown',"
            " {key: '1', bubbles: true, repeat: i > 0}));"
            "document.querySelector('button.choice').click();"
        )
        until(lambda: heading(browser) == "Row 2 of 20", "the next row")
        time.sleep(0.3)
        assert len(page.session.own()) == 1

    def test_an_answer_that_could_not_be_saved_is_said_and_can_be_given_again(
        self, open_browser: Open, serve: Callable[..., Served], tmp_path: Path
    ) -> None:
        page = serve(labelled(tmp_path, 60))
        browser = open_browser()
        browser.get(page.address)
        blocked = tmp_path / "out/_rackmill/reviews/anna.jsonl"
        blocked.mkdir()
        said = press_until(browser, "1", lambda: "Not saved" in texts(browser, "#problem")[0])
        assert said, "the problem is said"
        assert heading(browser) == "Row 1 of 20"
        blocked.rmdir()
        answered(browser, "1")
        assert texts(browser, "#problem") == [""]


class TestScreens:
    @pytest.mark.parametrize("dark", [False, True])
    def test_light_and_dark_as_the_system_is(
        self, open_browser: Open, serve: Callable[..., Served], tmp_path: Path, dark: bool
    ) -> None:
        page = serve(labelled(tmp_path, 60))
        browser = open_browser()
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        browser.get(page.address)
        styled(browser)
        colour = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        brightness = sum(map(int, re.findall(r"\d+", colour)[:3]))
        assert (brightness < 150) is dark

    def test_a_narrow_screen_needs_no_scrolling_to_the_side(
        self, open_browser: Open, serve: Callable[..., Served], tmp_path: Path
    ) -> None:
        choices = ("a" * 80, "b " * 60)
        page = serve(labelled(tmp_path, 60, texts=["w" * 500] * 60, choices=choices))
        browser = open_browser()
        size = {"width": 320, "height": 600, "deviceScaleFactor": 1, "mobile": True}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.get(page.address)
        styled(browser)
        width = browser.execute_script("return document.documentElement.scrollWidth")
        assert width <= 320

    def test_hostile_text_is_text(
        self, open_browser: Open, serve: Callable[..., Served], tmp_path: Path
    ) -> None:
        rows = [EVIL, "x" * 1_000_000, "שלום עולם"] * 20
        page = serve(labelled(tmp_path, 60, texts=rows, choices=(EVIL + "1", EVIL + "2")))
        browser = open_browser()
        browser.get(page.address)
        while not texts(browser, "pre.text")[0].startswith(EVIL[:30]):
            answered(browser, "1")  # two rows of three are others
        assert browser.title == "review · rackmill"
        assert complaints(browser) == []


# -- two reviewers at once, whose servers are killed


def wanted(reviewer: str, text: str) -> int:
    """Which choice a reviewer presses for a row: always the same, of two, unlike the other's."""
    return (int(text.rsplit(" ", 1)[1]) * (3 if reviewer == "anna" else 5) // 4) % 2


@pytest.mark.parametrize(
    ("rows", "kills"), [(10, 3), pytest.param(100, 24, marks=pytest.mark.long)]
)
def test_of_two_reviewers_whose_servers_are_killed_no_answer_is_lost_or_doubled(
    open_browser: Open, tmp_path: Path, rows: int, kills: int
) -> None:
    output: Storage = labelled(tmp_path, 200)
    folder = tmp_path / "out"

    def reviewer(name: str) -> Reviewer:
        words = ["review", str(folder), "--rows", str(rows)]
        return Reviewer(
            name, words, tmp_path, open_browser(), lambda text: str(wanted(name, text) + 1)
        )

    anna, ben = reviewer("anna"), reviewer("ben")
    with ended(anna, ben):
        answer_through_kills((anna, ben), rows, kills)

    for name in ("anna", "ben"):
        standing = ReviewAnswers(output).current("label")[name]
        assert len(standing) == rows
        assert {row: answer.value for (_, row), answer in standing.items()} == {
            row: ("bad", "good")[wanted(name, f"text {row}")] for _, row in standing
        }
        lines = (folder / f"_rackmill/reviews/{name}.jsonl").read_text().splitlines()
        assert len(lines) == rows
        assert max(Counter(json.loads(line)["row"] for line in lines).values()) == 1
