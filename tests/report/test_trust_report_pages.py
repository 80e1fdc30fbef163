"""What right answers say of labels, as people read it: reports, pictures, sentences."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.report.trust.picture import draw_trust
from pipeline.report.trust.section import sentences, tables
from pipeline.report.trust.words import gold_words, lines, promise_words
from tests.support.trusted import trusted


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("trusted")
    trusted(made, rows=600)
    return made / "out" / "_rackmill"


@pytest.fixture(scope="module")
def block(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "summary.json").read_text())["trust"]["label"]
    return found


@pytest.mark.parametrize("name", ["report.md", "report.html"])
def test_both_reports_say_all_of_it(folder: Path, block: dict[str, Any], name: str) -> None:
    text = (folder / name).read_text()

    for line in sentences(block):
        assert line.replace("'", "&#39;") in text or line in text
    for table in tables(block):
        assert table.title in text
        for cell in (cell for row in table.rows for cell in row):
            assert cell in text
    titles = [table.title for table in tables(block)]
    assert titles == [
        "Label by label",
        "Gold and label",
        "Shares of the labels",
        "How often a confidence is right",
        "If more or fewer rows were accepted",
    ]


def test_the_page_holds_the_picture_and_the_report_names_it(folder: Path) -> None:
    assert (folder / "trust.png").read_bytes().startswith(b"\x89PNG")
    assert "(trust.png)" in (folder / "report.md").read_text()
    assert "data:image/png;base64,iVBOR" in (folder / "report.html").read_text()


def test_the_summary_holds_what_the_tables_show(block: dict[str, Any]) -> None:
    rows = sum(sum(line.values()) for line in block["confusion"].values())

    assert rows == block["gold"]["at_random"] == block["after"]["rows"]
    assert sum(one["labelled"] for one in block["shares"]) == block["rows"]
    assert sum(one["rows"] for one in block["after"]["reliability"]) == block["after"]["rows"]


def test_the_same_numbers_make_the_same_picture(block: dict[str, Any]) -> None:
    assert draw_trust({"label": block}) == draw_trust({"label": block})
    assert draw_trust({"label": block | {"before": None}}) is None


def accepted(**changes: Any) -> dict[str, Any]:
    made = {
        "rows": 20_000,
        "gold": {"rows": 310, "at_random": 310, "probabilities_known": True},
        "gold_from": ["reviews"],
        "promise": {"error": 0.05, "confidence": 0.95},
        "acceptance": {"threshold": 0.9, "rows": 12_431, "reviewed": 200, "wrong": 4},
        "more_review": {"rows": 310, "gain": 2_000},
    }
    return made | changes


def test_the_promise_is_one_sentence_and_what_more_review_gains_another() -> None:
    assert sentences(accepted())[0] == (
        "12 431 of 20 000 rows are accepted: at most 5 % of them wrong, with 95 % confidence. "
        "Reviewing 310 more would gain about 2 000."
    )
    assert "rackmill review runs/x --rows 620" in " ".join(lines(accepted(), "runs/x"))


def test_where_nothing_can_be_promised_the_best_possible_is_said() -> None:
    none = {"best_error": 0.08, "best_rows": 900, "more": 0}

    said = promise_words(accepted(acceptance=none)) or ""
    assert said.startswith("None of 20 000 rows is accepted")
    assert "8 % could be promised for 900 rows" in said
    short = promise_words(accepted(acceptance=none | {"more": 39, "best_error": None})) or ""
    assert "39 more gold rows at least" in short
    assert promise_words(accepted(promise=None)) is None


@pytest.mark.parametrize(
    ("gold", "said"),
    [
        ({"rows": 9, "at_random": 9, "probabilities_known": True}, "(drawn at random)"),
        ({"rows": 9, "at_random": 9, "probabilities_known": False}, "taken for rows drawn at ran"),
        ({"rows": 9, "at_random": 7, "probabilities_known": True}, "7 drawn at random, 2 uncert"),
    ],
)
def test_how_the_gold_rows_were_drawn_is_said(gold: dict[str, Any], said: str) -> None:
    assert said in gold_words(accepted(gold=gold))
