"""Outputs are judged by an ordinary job over pairs of their answers, each in both orders."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import UsageError, job_from
from pipeline.driver.comparison import judge as judging
from pipeline.driver.comparison.judge import JudgeOptions, JudgeResult, judge
from pipeline.driver.progress.watcher import Watcher
from pipeline.errors import AlreadyRunning
from pipeline.output.runs.run_registry import RunRecord, own_process, this_machine
from pipeline.storage.base import open_storage
from tests.chaos.in_process import run_here
from tests.support.labelled import answered
from tests.support.samples import write_model

_ROWS = 6


@pytest.fixture
def outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Of two jobs with other prompts over the same rows."""
    monkeypatch.setattr(judging, "run", lambda job, *_: run_here(job))
    write_model(tmp_path / "model")
    pq.write_table(pa.table({"text": [f"t{n}" for n in range(_ROWS)]}), tmp_path / "rows.parquet")
    made = []
    for name, prompt in (("a", "{text}"), ("b", "{text}, please")):
        job: dict[str, Any] = {
            "name": name,
            "model": str(tmp_path / "model"),
            "input": {"path": str(tmp_path / "rows.parquet")},
            "prompt": prompt,
            "sampling": {"max_tokens": 4},
            "output": {"path": str(tmp_path / name)},
            "engine": {"kind": "simulated"},
        }
        run_here(job_from(job))
        made.append(str(tmp_path / name))
    return made


def judged(outputs: list[str], tmp_path: Path, **options: Any) -> JudgeResult:
    asked = JudgeOptions(
        output=str(tmp_path / "judge"), settings=("engine.kind=simulated",), **options
    )
    return judge(outputs, asked, nullcontext(Watcher()))


def test_every_pair_is_asked_about_in_both_orders(outputs: list[str], tmp_path: Path) -> None:
    found = judged(outputs, tmp_path)

    assert (found.rows, found.failed) == (_ROWS, 0)
    pairs = pq.read_table(tmp_path / "judge/pairs.parquet").to_pylist()
    assert [p["question"] for p in pairs[::2]] == [f"t{n}" for n in range(_ROWS)]
    assert all(
        (one["a"], one["b"]) == (other["b"], other["a"])
        for one, other in zip(pairs[::2], pairs[1::2], strict=True)
    )
    assert sum(meeting.rows for meeting in found.judgement.meetings) == _ROWS


def test_the_same_rows_are_drawn_again(outputs: list[str], tmp_path: Path) -> None:
    first = judged(outputs, tmp_path, rows=3)
    written = (tmp_path / "judge/pairs.parquet").stat().st_mtime_ns

    again = judged(outputs, tmp_path, rows=3)
    assert first.rows == again.rows == 3
    assert first.as_json() == again.as_json()
    assert (tmp_path / "judge/pairs.parquet").stat().st_mtime_ns == written


def test_answers_that_are_the_same_are_a_tie_without_being_asked_about(
    outputs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy"
    (tmp_path / "a").rename(copy)
    (tmp_path / "a").symlink_to(copy)
    monkeypatch.setattr(judging, "run", None)

    found = judged([str(copy), str(tmp_path / "a")], tmp_path)
    assert found.judgement.meetings[0].ties == _ROWS


def test_an_output_is_not_judged_against_itself(outputs: list[str], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="named twice"):
        judged([outputs[0], outputs[0]], tmp_path)


@pytest.mark.parametrize("which", [0, 1])
def test_an_output_that_is_being_written_is_not_judged(
    outputs: list[str], tmp_path: Path, which: int
) -> None:
    pid, started = own_process()
    record = RunRecord("r", "host", this_machine(), pid, started, started, started)
    open_storage(outputs[which]).replace(record.path, record.encode())
    with pytest.raises(AlreadyRunning, match="another run works on"):
        judged(outputs, tmp_path)


def test_an_output_that_is_not_finished_is_not_judged(
    outputs: list[str], tmp_path: Path, large_units: None
) -> None:
    unfinished = answered(tmp_path / "c", "out", lambda row: f"{row}", rows=300, finished=False)
    with pytest.raises(UsageError, match="not finished: 128 of 300 rows"):
        judged([outputs[0], unfinished.address()], tmp_path)


def test_outputs_over_other_rows_are_refused(outputs: list[str], tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["x"]}), tmp_path / "other.parquet")
    job = {
        "name": "c",
        "model": str(tmp_path / "model"),
        "input": {"path": str(tmp_path / "other.parquet")},
        "prompt": "{text}",
        "output": {"path": str(tmp_path / "c")},
        "engine": {"kind": "simulated"},
    }
    run_here(job_from(job))

    with pytest.raises(UsageError, match="no answered row in common"):
        judged([outputs[0], str(tmp_path / "c")], tmp_path)


def test_rows_at_the_same_places_with_other_texts_are_another_input(
    outputs: list[str], tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    texts = [f"t{n}" for n in range(_ROWS - 1)] + ["another"]
    pq.write_table(pa.table({"text": texts}), tmp_path / "other/rows.parquet")
    job = {
        "name": "c",
        "model": str(tmp_path / "model"),
        "input": {"path": str(tmp_path / "other/rows.parquet")},
        "prompt": "{text}",
        "output": {"path": str(tmp_path / "c")},
        "engine": {"kind": "simulated"},
    }
    run_here(job_from(job))

    with pytest.raises(UsageError, match=r"different inputs: row 5 of .* has another text"):
        judged([outputs[0], str(tmp_path / "c")], tmp_path)
