"""Pairs of answers on the page, in a real browser and over HTTP."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pipeline.report.comparison.judgement import CRITERIA
from pipeline.service.review.pair_material import LEFT, RIGHT, TIE, open_pairs
from pipeline.service.review.pairs import PairSession
from tests.support.browser import Open
from tests.support.driven_page import (
    Reviewer,
    answer_through_kills,
    complaints,
    ended,
    heading,
    styled,
    texts,
    until,
)
from tests.support.driven_page import (
    answered as pressed,
)
from tests.support.labelled import answered
from tests.support.served_review import Served, served

pytestmark = pytest.mark.early

Outputs = list[str]
EVIL = "<script>document.title='gone'</script><img src=x onerror=\"document.title='gone'\">\u202e"
HX = {"HX-Request": "true"}


@pytest.fixture
def outputs(tmp_path: Path) -> Outputs:
    answered(tmp_path, "first", lambda row: f"short {row}")
    answered(tmp_path, "second", lambda row: f"longer {row}")
    return [str(tmp_path / "first"), str(tmp_path / "second")]


@pytest.fixture
def serve() -> Iterator[Callable[..., Served]]:
    with ExitStack() as stack:

        def start(outputs: Outputs, reviewer: str = "anna", rows: int = 20) -> Served:
            session = PairSession(open_pairs(outputs, CRITERIA, rows), reviewer)
            return stack.enter_context(served(session))

        yield start


class TestKeys:
    def test_digits_arrows_letters_and_clicks(
        self, open_browser: Open, serve: Callable[..., Served], outputs: Outputs
    ) -> None:
        from selenium.webdriver import Keys

        page = serve(outputs)
        browser = open_browser()
        browser.get(page.address)
        assert heading(browser) == "Pair 1 of 20"
        for keys in ("1", "2", "0", "t", "T", Keys.ARROW_LEFT, Keys.ARROW_RIGHT, "u"):
            pressed(browser, keys)
        before = heading(browser)
        browser.find_elements("css selector", "button.choice")[1].click()
        until(lambda: heading(browser) != before, "the next pair")
        pressed(browser, "u")
        pressed(browser, "z")
        assert heading(browser) == "Pair 10 of 20"
        given = page.session.by_reviewer()["anna"].values()
        said = [LEFT, RIGHT, TIE, TIE, TIE, LEFT, RIGHT, None, RIGHT]
        assert [answer.value for answer in given] == said
        assert complaints(browser) == []

    def test_no_output_is_named_before_the_end(
        self, open_browser: Open, serve: Callable[..., Served], outputs: Outputs
    ) -> None:
        page = serve(outputs, rows=4)
        browser = open_browser()
        browser.get(page.address)
        for _ in range(4):
            assert not any(output in browser.page_source for output in outputs)
            short = texts(browser, "pre.text")[1].startswith("short")
            pressed(browser, "1" if short else "2")
        assert heading(browser) == "All 4 pairs are answered"
        found = texts(browser, ".result dd")
        assert found[:4] == ["4", outputs[0], "0", outputs[1]]


class TestScreens:
    @pytest.mark.parametrize(("width", "beside"), [(1000, True), (360, False)])
    def test_answers_stand_side_by_side_where_there_is_room(
        self,
        open_browser: Open,
        serve: Callable[..., Served],
        tmp_path: Path,
        width: int,
        beside: bool,
    ) -> None:
        answered(tmp_path, "a", lambda row: "w" * 500 + str(row))
        answered(tmp_path, "b", lambda row: "word " * 900)
        page = serve([str(tmp_path / "a"), str(tmp_path / "b")])
        browser = open_browser()
        size = {"width": width, "height": 700, "deviceScaleFactor": 1, "mobile": width < 500}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.get(page.address)
        styled(browser)
        tops = browser.execute_script(
            "return [...document.querySelectorAll('.sides section')]"
            ".map(e => e.getBoundingClientRect().top)"
        )
        assert (tops[0] == tops[1]) is beside
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width

    def test_hostile_answers_are_text(
        self, open_browser: Open, serve: Callable[..., Served], tmp_path: Path
    ) -> None:
        answered(tmp_path, "a", lambda row: EVIL + str(row), texts=[EVIL] * 60)
        answered(tmp_path, "b", lambda row: "x" * 1_000_000, texts=[EVIL] * 60)
        page = serve([str(tmp_path / "a"), str(tmp_path / "b")])
        browser = open_browser()
        browser.get(page.address)
        for _ in range(3):
            shown = texts(browser, "pre.text")
            assert shown[0].startswith(EVIL[:30])
            assert any(one.startswith(EVIL[:30]) for one in shown[1:])
            pressed(browser, "1")
        assert browser.title == "review · rackmill"
        assert complaints(browser) == []
        client = page.client()
        assert len(client.get("/").text) < 60_000
        wholes = {client.get(f"/text/3/{field}").text for field in (1, 2)}
        assert "x" * 1_000_000 in wholes


@pytest.mark.parametrize(
    "form", [{"row": "0", "value": "3"}, {"row": "20", "value": "1"}, {"row": "0", "value": "left"}]
)
def test_what_no_page_of_ours_sends_is_refused(
    serve: Callable[..., Served], outputs: Outputs, form: dict[str, str]
) -> None:
    page = serve(outputs)
    assert page.client().post("/answer", data=form, headers=HX).status_code == 400
    assert page.session.by_reviewer() == {}


def key(name: str, shown: str) -> str:
    """What a reviewer presses for the row with this text: always the same, unlike the other's."""
    return "120"[int(shown.rsplit(" ", 1)[1]) * (1 if name == "anna" else 2) % 3]


@pytest.mark.parametrize(("rows", "kills"), [(9, 2), pytest.param(50, 12, marks=pytest.mark.long)])
def test_of_two_reviewers_whose_servers_are_killed_no_verdict_is_lost_or_doubled(
    open_browser: Open, outputs: Outputs, tmp_path: Path, rows: int, kills: int
) -> None:
    words = ["judge", *outputs, "--human", "--rows", str(rows)]
    anna = Reviewer("anna", words, tmp_path, open_browser(), lambda shown: key("anna", shown))
    ben = Reviewer("ben", words, tmp_path, open_browser(), lambda shown: key("ben", shown))
    with ended(anna, ben):
        answer_through_kills((anna, ben), rows, kills)

    session = PairSession(open_pairs(outputs, CRITERIA, rows), "anna")
    said = {"1": LEFT, "2": RIGHT, "0": TIE}
    for name in ("anna", "ben"):
        standing = session.by_reviewer()[name]
        assert [standing[one].value for one in session.keys] == [
            said[key(name, f"text {row}")] for _, (_, row) in session.keys
        ]
        lines = (tmp_path / f"first/_rackmill/reviews/{name}.jsonl").read_text().splitlines()
        assert len(lines) == rows
        assert max(Counter(json.loads(line)["row"] for line in lines).values()) == 1
    assert session.result().counted.rows == rows
