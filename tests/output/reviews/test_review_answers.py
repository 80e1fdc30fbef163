"""Answers of reviewers: none is lost, none is there twice, whenever a process is killed."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from pipeline.errors import CommitFailed, UsageError
from pipeline.output.reviews.answers import ReviewAnswers, ReviewerAnswer, check_reviewer
from pipeline.storage.base import Storage, open_storage


def said(row: int, value: str | None = "good", *, undone: bool = False) -> ReviewerAnswer:
    return ReviewerAnswer("label", "a.parquet", row, value, "2026-11-30T01:00:00Z", undone)


def values(storage: Storage, reviewer: str = "anna") -> dict[int, str | None]:
    answers = ReviewAnswers(storage).current("label").get(reviewer, {})
    return {row: answer.value for (_, row), answer in answers.items()}


def test_the_last_answer_to_a_row_holds_and_nothing_is_ever_deleted(storage: Storage) -> None:
    kept = ReviewAnswers(storage)
    for answer in (said(1), said(2, None), said(3), said(1, "bad"), said(3, undone=True)):
        kept.append("anna", answer)

    assert values(storage) == {2: None, 1: "bad"}
    assert len(ReviewAnswers(storage).every()["anna"]) == 5


def test_reviewers_and_questions_are_kept_apart(storage: Storage) -> None:
    kept = ReviewAnswers(storage)
    kept.append("anna", said(1))
    kept.append("Zoë@home", said(1, "bad"))
    kept.append("anna", ReviewerAnswer("other", "a.parquet", 1, "x", ""))

    current = kept.current("label")
    assert {name: len(answers) for name, answers in current.items()} == {"anna": 1, "Zoë@home": 1}
    assert values(storage, "Zoë@home") == {1: "bad"}


@pytest.mark.parametrize("end", range(1, 40, 3))
def test_half_a_last_line_is_passed_over_and_spoils_no_later_one(tmp_path: Path, end: int) -> None:
    storage = open_storage(str(tmp_path))
    ReviewAnswers(storage).append("anna", said(1))
    path = tmp_path / "_rackmill/reviews/anna.jsonl"
    with path.open("ab") as file:
        file.write(path.read_bytes()[:end])

    assert values(storage) == {1: "good"}
    ReviewAnswers(storage).append("anna", said(2, "bad"))
    assert values(storage) == {1: "good", 2: "bad"}


@pytest.mark.parametrize(
    "line",
    [b"\xff\xfe", b"[]", b"1", b'{"question": "label"}', b"[" * 100_000,
     b'{"question":"label","shard":"a.parquet","row":"1","value":"x","at":""}'],
)  # fmt: skip
def test_lines_that_are_none_of_ours_are_passed_over(tmp_path: Path, line: bytes) -> None:
    storage = open_storage(str(tmp_path))
    ReviewAnswers(storage).append("anna", said(1))
    with (tmp_path / "_rackmill/reviews/anna.jsonl").open("ab") as file:
        file.write(line + b"\n")
    ReviewAnswers(storage).append("anna", said(2))
    assert values(storage) == {1: "good", 2: "good"}


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", ".hidden", "_x", "a" * 65, "a b", "a\n"])
def test_a_name_that_is_none_for_a_file_is_refused(storage: Storage, name: str) -> None:
    with pytest.raises(UsageError, match="--reviewer"):
        check_reviewer(name)
    with pytest.raises(UsageError, match="--reviewer"):
        ReviewAnswers(storage).append(name, said(1))


def test_a_link_that_lies_in_the_folder_is_not_written_through(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("mine")
    folder = tmp_path / "out/_rackmill/reviews"
    folder.mkdir(parents=True)
    (folder / "anna.jsonl").symlink_to(elsewhere)

    with pytest.raises(CommitFailed, match=r"anna\.jsonl cannot be written"):
        ReviewAnswers(open_storage(str(tmp_path / "out"))).append("anna", said(1))
    assert elsewhere.read_text() == "mine"


def test_a_disk_that_is_full_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = open_storage(str(tmp_path))

    def full(file: int, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(CommitFailed, match="No space left"):
            ReviewAnswers(storage).append("anna", said(1))
    assert values(storage) == {}
    ReviewAnswers(storage).append("anna", said(1))
    assert values(storage) == {1: "good"}


def _answer_all(address: str, reviewer: str, start: int, confirmed: str) -> None:
    kept = ReviewAnswers(open_storage(address))
    with open(confirmed, "a", buffering=1) as told:
        for row in range(start, 1_000_000):
            kept.append(reviewer, said(row, str(row)))
            told.write(f"{row}\n")


def test_what_was_confirmed_survives_kills_with_two_writers_of_one_file(tmp_path: Path) -> None:
    """Two processes that write for the same reviewer are killed amid their work, three times."""
    context = multiprocessing.get_context("spawn")
    confirmed: set[int] = set()
    for turn in range(3):
        told = [tmp_path / f"told-{turn}-{n}" for n in (0, 1)]
        writers = [
            context.Process(
                target=_answer_all, args=(str(tmp_path / "out"), "anna", start, str(path))
            )
            for start, path in zip([0, 500_000], told, strict=True)
        ]
        for writer in writers:
            writer.start()
        until = time.monotonic() + 30
        while time.monotonic() < until and not all(
            path.exists() and path.stat().st_size > 20 for path in told
        ):
            time.sleep(0.01)
        for writer in writers:
            os.kill(writer.pid, signal.SIGKILL)  # type: ignore[arg-type]
            writer.join()
        for path in told:
            lines = path.read_text().splitlines()
            confirmed |= {int(line) for line in lines[:-1]}

    found = values(open_storage(str(tmp_path / "out")))
    assert confirmed
    assert confirmed <= set(found)
    assert all(value == str(row) for row, value in found.items())
    for line in (tmp_path / "out/_rackmill/reviews/anna.jsonl").read_bytes().splitlines()[:-1]:
        json.loads(line)  # no line was written into another
