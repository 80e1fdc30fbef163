from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.budget.predict import MeasuredRun, Workload
from pipeline.report import profile
from pipeline.report.profile import (
    ProfileEntry,
    last_workload,
    load_profile,
    profile_path,
    remember,
)


def record(template: str = "t", completion: float = 4.0, rows: int = 10) -> ProfileEntry:
    run = MeasuredRun(Workload("text", rows, 20, 5, completion), 1, 20, 30, 2)
    return ProfileEntry("2026-01-31", "gemma int4", "rtx3090", "vllm 1", template, run, 50.0, 52.0)


def test_what_was_remembered_is_loaded_oldest_first(tmp_path: Path) -> None:
    path = tmp_path / "new" / "profile.jsonl"
    records = [record("a"), record("b")]
    for one in records:
        remember(one, path)

    assert load_profile(path) == records


def test_no_profile_is_an_empty_one(tmp_path: Path) -> None:
    assert load_profile(tmp_path / "none") == []


@pytest.mark.parametrize("line", ["", "{", '{"day": 1}', "[]", '{"run": {"workload": {}}}'])
def test_a_line_that_cannot_be_read_is_passed_over(line: str, tmp_path: Path) -> None:
    path = tmp_path / "profile.jsonl"
    path.write_text(f"{line}\n")
    remember(record(), path)

    assert load_profile(path) == [record()]


def test_a_profile_that_cannot_be_written_is_no_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    remember(record(), tmp_path / "file" / "profile.jsonl")


def test_a_long_profile_keeps_the_newest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile, "_KEPT_RUNS", 3)
    path = tmp_path / "profile.jsonl"
    for number in range(20):
        remember(record(str(number)), path)

    assert [r.template for r in load_profile(path)] == ["17", "18", "19"]
    assert len(path.read_text().splitlines()) < 10


def test_the_profile_lies_where_rackmill_keeps_its_things(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RACKMILL_PROFILE")
    monkeypatch.setenv("RACKMILL_HOME", str(tmp_path))

    assert profile_path() == tmp_path / "profile.jsonl"


def test_the_last_run_of_a_prompt_tells_how_long_its_answers_are() -> None:
    records = [record("a", 3), record("a", 5), record("b", 7), record("a", 9, rows=0)]

    last = last_workload(records, "a")
    assert last is not None
    assert last.completion_tokens == 5
    assert last_workload(records, "c") is None


def test_a_setup_is_model_card_and_engine() -> None:
    assert record().same_setup(model="gemma int4", card="rtx3090", engine="vllm 1")
    assert not record().same_setup(model="gemma int4", card="rtx4090", engine="vllm 1")
