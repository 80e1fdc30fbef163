"""`rackmill retry` with a real Ray: killed in between, stopped, and gone on with to the end."""

from __future__ import annotations

import json
import signal
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import verify
from pipeline.output.verify.dataset import Verification
from tests.support.processes import Finished
from tests.support.samples import write_model

pytestmark = pytest.mark.ray

_JOB = """\
name: some-fail
model: models/tiny
input: {path: rows.parquet}
prompt: "Continue: {text}"
sampling: {max_tokens: 8}
output: {path: out, keep: [id]}
engine:
  kind: simulated
  max_num_seqs: 8
  simulated: {faults: {refuse_on: BAD}}
resources: {workers: 1}
"""
_ROWS = 1000
_NO_FAULTS = ("--set", "engine.simulated.faults.refuse_on=WORSE")
_SLOWLY = ("--set", "engine.simulated.step_seconds=0.15")


def _is_bad(row: int) -> bool:
    return row % 3 == 0


def _text(row: int) -> str:
    if row in (6, 600):
        return f"row {row}, the WORSE kind of BAD"
    return f"row {row}" + (" is BAD" if _is_bad(row) else "")


@dataclass(frozen=True)
class Story:
    """A run, a retry whose driver was killed, one that was stopped, and one that came to its end;
    after each what `verify` said, and the rows that a reader saw."""

    folder: Path
    ends: dict[str, Finished]
    verified: dict[str, Verification]
    tables: dict[str, pa.Table]
    generations: int  # that the killed retry left
    left: list[str]  # processes


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, launcher, read_output, shared_ray) -> Story:
    folder = tmp_path_factory.mktemp("retry")
    ids = list(range(_ROWS))
    pq.write_table(pa.table({"id": ids, "text": [_text(i) for i in ids]}), folder / "rows.parquet")
    write_model(folder / "models/tiny")
    (folder / "job.yaml").write_text(_JOB)
    ends: dict[str, Finished] = {}
    verified: dict[str, Verification] = {}
    tables: dict[str, pa.Table] = {}
    joined = ("--address", shared_ray.address)

    def note(what: str) -> None:
        verified[what] = verify(str(folder / "out"))
        tables[what] = read_output(folder / "out")

    def start(*arguments: object):
        return launcher.start(*arguments, *joined, cwd=folder, **shared_ray.environment)

    def later_records() -> int:
        return len(list((folder / "out/_rackmill/commits").glob("*.1.json")))

    ends["run"] = start("run", "job.yaml", "--json").wait()
    note("run")
    killed = start("retry", "out", *_NO_FAULTS, *_SLOWLY)
    killed.wait_until(lambda: later_records() >= 2, "two units")
    killed.kill_driver()
    generations = later_records()
    note("killed")
    stopped = start("retry", "out", *_NO_FAULTS, *_SLOWLY)
    seen = later_records() + 1
    stopped.wait_until(lambda: later_records() >= seen, "another unit")
    stopped.process.send_signal(signal.SIGINT)
    ends["stopped"] = stopped.wait()
    note("stopped")
    ends["retry"] = start("retry", "out", *_NO_FAULTS, "--json").wait()
    note("retry")
    ends["run again"] = start("run", "job.yaml", "--json").wait()
    note("run again")
    return Story(folder, ends, verified, tables, generations, killed.gone(20) + stopped.gone(20))


def failed(table: pa.Table) -> list[int]:
    rows = zip(table["id"].to_pylist(), table["error"].to_pylist(), strict=True)
    return [row for row, error in rows if error is not None]


def test_the_run_ends_with_the_error_rows(story: Story) -> None:
    assert story.ends["run"].code == 3, story.ends["run"].err
    assert failed(story.tables["run"]) == [i for i in range(_ROWS) if _is_bad(i)]


@pytest.mark.parametrize("after", ["run", "killed", "stopped", "retry", "run again"])
def test_the_dataset_is_right_at_any_time(after: str, story: Story) -> None:
    verdict = story.verified[after]
    assert verdict.faults == []
    assert verdict.compared_rows == _ROWS


@pytest.mark.parametrize("after", ["killed", "stopped", "retry"])
def test_rows_without_an_error_never_change(after: str, story: Story) -> None:
    good = [i for i in range(_ROWS) if not _is_bad(i)]
    assert story.tables[after].take(good).equals(story.tables["run"].take(good))


def test_a_retry_that_was_stopped_says_how_to_go_on(story: Story) -> None:
    assert story.ends["stopped"].code == 130, story.ends["stopped"].err
    assert "rackmill retry out goes on" in story.ends["stopped"].err


def test_what_an_interrupted_retry_did_is_not_done_again(story: Story) -> None:
    assert story.generations >= 2
    assert "334 error rows" not in story.ends["retry"].err


def test_in_the_end_only_those_that_fail_again_have_an_error(story: Story) -> None:
    assert story.ends["retry"].code == 3, story.ends["retry"].err
    assert failed(story.tables["retry"]) == [6, 600]


def test_attempts_are_counted_on(story: Story) -> None:
    attempts = [e["attempts"] for e in story.tables["retry"]["error"].to_pylist() if e]
    first = [e["attempts"] for e in story.tables["run"]["error"].to_pylist() if e]
    assert all(n > first[0] for n in attempts)


def test_the_summary_is_that_of_the_whole_dataset(story: Story) -> None:
    facts = json.loads(story.ends["retry"].out)
    assert (facts["rows"], facts["failed"], facts["errors"]) == (_ROWS, 2, {"EngineFailure": 2})
    assert facts["reused"] >= _ROWS - len(failed(story.tables["run"]))


def test_a_run_afterwards_has_nothing_to_do(story: Story) -> None:
    facts = json.loads(story.ends["run again"].out)
    assert (facts["reused"], facts["failed"]) == (_ROWS, 2)
    assert story.tables["run again"].equals(story.tables["retry"])


def test_no_process_outlives_it(story: Story) -> None:
    assert story.left == []
