"""`status`, `verify`, `clean` and `retry`, as far as they need neither Ray nor an engine."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

import pipeline as rackmill
from pipeline import load_job
from pipeline.errors import RowError, RowErrorType, UsageError
from pipeline.input.changes.increment import Increment
from pipeline.output.growing.growing import GrowingDataset
from tests.support.datasets import begin, commit_unit, finish, rows_of, write_input

pytestmark = pytest.mark.usefixtures("large_units")

_JOB = """\
name: demo
model: gemma-3-270m
input: {path: rows}
prompt: "{text}"
output: {path: out}
engine: {kind: simulated}
"""


@pytest.fixture(autouse=True)
def _job(tmp_path: Path, ask) -> None:
    write_input(tmp_path / "rows", 300)
    (tmp_path / "job.yaml").write_text(_JOB)


@pytest.fixture
def done(tmp_path: Path) -> Path:
    """The output of a finished job; row 7 failed."""
    finish(load_job(Path("job.yaml")), fails=lambda row: row == 7)
    return tmp_path / "out"


@pytest.fixture
def half_done(tmp_path: Path) -> Path:
    plan, dataset = begin(load_job(Path("job.yaml")))
    commit_unit(plan, dataset, plan.units[0])
    return tmp_path / "out"


class TestStatus:
    def test_a_finished_job(self, ask, done: Path) -> None:
        result = ask("status", "out")
        assert result.code == 0, result.err
        assert "out · demo · finished · 300 of 300 rows (100%), 3 of 3 units" in result.out
        assert "SchemaNotMet 1: no schema in row …" in result.out
        assert "rackmill show out --errors" in result.out
        assert "next     raise sampling.max_tokens, or simplify the schema" in result.out

    def test_an_interrupted_job_and_the_command_that_goes_on(self, ask, half_done: Path) -> None:
        told = ask("status", "out", "--json").json
        assert (told["course"], told["rows_done"], told["rows_left"]) == ("interrupted", 128, 172)
        assert told["next"] == "rackmill run out/_rackmill/job.json"
        assert ask("plan", "out/_rackmill/job.json", "--json").json["reused_rows"] == 128

    def test_every_reason_is_told_of_rows_that_failed(self, ask) -> None:
        mistakes = {3: "unknown key 'temprature'", 4: "unknown key 'max_toknes'", 5: "no number"}
        kind = RowErrorType.INVALID_SAMPLING
        errors = {row: RowError(kind, mistake, 0) for row, mistake in mistakes.items()}
        plan, dataset = begin(load_job(Path("job.yaml")))
        commit_unit(plan, dataset, plan.units[0], errors.get)

        said, told = ask("status", "out").out, ask("status", "out", "--json").json
        for mistake in mistakes.values():
            assert f"1  {mistake}" in said
        assert told["error_reasons"]["InvalidSampling"] == dict.fromkeys(mistakes.values(), 1)

    def test_the_first_rows_that_failed_are_named(self, ask, tmp_path: Path) -> None:
        finish(load_job(Path("job.yaml")), fails=lambda row: row % 40 == 39)

        said, told = ask("status", "out").out, ask("status", "out", "--json").json
        file = told["first_failed"][0]["file"]
        assert f"{file}: 39, 79, 119, 159, 199, …" in said
        assert [row["row"] for row in told["first_failed"]] == [39, 79, 119, 159, 199]
        assert told["first_failed"][0]["type"] == "SchemaNotMet"

    def test_python_tells_of_a_schedules_runs(self, tmp_path: Path) -> None:
        dataset = GrowingDataset(str(tmp_path / "out"))
        dataset.begin("2026-11-21T02-00-00Z", "nightly", Increment(()), [], full=False)

        with pytest.raises(UsageError, match="holds the runs of a schedule"):
            rackmill.status(str(tmp_path / "out"))
        assert [run.schedule for run in rackmill.schedule_status(str(tmp_path / "out"))] == [
            "nightly"
        ]

    @pytest.mark.parametrize("published", [True, False])
    def test_of_a_schedules_output_all_runs_are_told(self, ask, tmp_path, published) -> None:
        dataset = GrowingDataset(str(tmp_path / "out"))
        for number in (1, 2):
            dataset.begin(f"2026-11-2{number}T02-00-00Z", "nightly", Increment(()), [], full=False)
        run = load_job(Path("job.yaml"), ["output.path=out/_runs/2026-11-21T02-00-00Z"])
        finish(run, fails=lambda row: row in (3, 8))
        if published:
            dataset.recover()

        said, told = ask("status", "out").out, ask("status", "out", "--json").json
        assert "schedule nightly · 2 runs" in said
        assert "2026-11-22T02-00-00Z · begun, nothing done yet · not published yet" in said
        assert "SchemaNotMet 2: no schema in row …" in said
        assert [run["published"] for run in told["runs"]] == [published, False]
        assert told["runs"][0]["status"]["failed"] == 2

    @pytest.mark.parametrize("command", ["status", "verify", "clean", "retry"])
    def test_a_folder_without_output_is_refused(self, command: str, ask) -> None:
        result = ask(command, "nowhere")
        assert result.code == 2
        assert "nowhere holds no output of rackmill" in result.err
        assert result.out == ""


class TestRun:
    def test_a_run_that_finds_all_rows_done_says_so(self, ask, done: Path) -> None:
        result = ask("run", "job.yaml")

        assert "nothing was to be done: 300 rows are there already, 1 of them failed" in result.err
        assert "see them: rackmill show" in result.err
        assert "rows/s" not in result.err

    @pytest.mark.parametrize(("name", "advised"), [("notes.txt", False), (None, True)])
    def test_starting_over_is_advised_only_where_it_is_possible(
        self, ask, done: Path, name: str | None, advised: bool
    ) -> None:
        if name:
            (done / name).write_text("mine")
        result = ask("plan", "job.yaml", "--set", "prompt={text}, please")

        assert "holds the output of a different job" in result.err
        assert ("--fresh" in result.err) == advised
        assert "give another --output" in result.err


class TestVerify:
    def test_a_whole_dataset(self, ask, done: Path) -> None:
        result = ask("verify", "out")
        assert result.code == 0, result.out
        assert "out is whole and right: 300 rows in 3 files" in result.out

    def test_the_faults_are_listed_with_their_mend(self, ask, done: Path) -> None:
        (done / "00000-000000000128.parquet").unlink()
        result = ask("verify", "out")
        assert result.code == 1
        assert "00000-000000000128.parquet: a committed file is gone" in result.out
        assert "  remove _rackmill/commits/" in result.out
        assert "out is not right: 1 fault" in result.out

    def test_the_mend_mends(self, ask, done: Path) -> None:
        (done / "00000-000000000128.parquet").unlink()
        [fault] = ask("verify", "out", "--json").json["faults"]
        record = fault["fix"].split()[1].rstrip(",")
        (done / record).unlink()
        finish(load_job(Path("job.yaml")))
        assert ask("verify", "out").code == 0

    def test_an_unfinished_dataset_is_not_right(self, ask, half_done: Path) -> None:
        result = ask("verify", "out", "--json")
        assert result.code == 1
        assert [f["what"] for f in result.json["faults"]] == [
            "172 rows of the input have no result"
        ]


class TestClean:
    def test_what_is_removed_is_said(self, ask, done: Path) -> None:
        path = done / "_rackmill/attempts/ab-cd.parquet"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * 3000)
        assert "would remove 1 file, 3 KiB" in ask("clean", "out", "--dry-run").out
        assert path.exists()
        assert "removed 1 file, 3 KiB" in ask("clean", "out").out
        assert not path.exists()
        assert ask("clean", "out", "--json").json["files"] == []


class TestRetry:
    def test_nothing_to_do_needs_no_engine(self, ask, done: Path) -> None:
        result = ask("retry", "out", "--only", "Timeout", "--json")
        assert result.code == 3, result.err
        assert "none of 300 rows has an error (Timeout)" in result.err
        assert result.json["failed"] == 1

    def test_rows_that_would_fail_alike_are_left_and_it_says_what_helps(
        self, ask, tmp_path: Path
    ) -> None:
        finish(load_job(Path("job.yaml")), fails=lambda row: row == 7 and RowErrorType.INVALID_ROW)

        result = ask("retry", "out")

        assert result.code == 3, result.err
        assert "none of 300 rows has an error that a retry can help" in result.err
        assert "InvalidRow would end alike: fix these rows of the input" in result.err

    def test_an_unknown_type_is_refused(self, ask, done: Path) -> None:
        result = ask("retry", "out", "--only", "SchemaNotMat")
        assert result.code == 2
        assert "did you mean SchemaNotMet?" in result.err

    def test_a_setting_that_decides_rows_is_refused(self, ask, done: Path) -> None:
        result = ask("retry", "out", "--set", "sampling.max_tokens=9")
        assert result.code == 2
        assert "sampling decides what the other rows are like" in result.err

    def test_an_unfinished_dataset_is_refused(self, ask, half_done: Path) -> None:
        result = ask("retry", "out")
        assert result.code == 2
        assert "out is not finished: 172 rows have no result yet" in result.err
        assert "rackmill run out/_rackmill/job.json" in result.err

    def test_a_changed_input_is_refused(self, ask, done: Path, tmp_path: Path) -> None:
        pq.write_table(rows_of(0, 299), tmp_path / "rows/a.parquet")
        result = ask("retry", "out")
        assert result.code == 2
        assert "the input has changed since" in result.err

    def test_without_the_job_the_job_file_can_be_named(self, ask, done: Path) -> None:
        (done / "_rackmill/job.json").unlink()
        result = ask("retry", "out", "--only", "Timeout")
        assert result.code == 2
        assert "--job JOB.yaml" in result.err
        assert ask("retry", "out", "--only", "Timeout", "--job", "job.yaml").code == 3

    def test_another_job_file_is_refused(self, ask, done: Path, tmp_path: Path) -> None:
        (tmp_path / "job.yaml").write_text(_JOB.replace('"{text}"', '"{text}!"'))
        result = ask("retry", "out", "--job", "job.yaml")
        assert result.code == 2
        assert "prompt changed" in result.err


def test_a_changed_input_is_shown_by_the_plan(ask, done: Path, tmp_path: Path) -> None:
    pq.write_table(rows_of(300, 310), tmp_path / "rows/b.parquet")
    result = ask("plan", "job.yaml")
    assert result.code == 0, result.err
    assert "changed   new: rows/b.parquet" in result.out


def test_the_job_kept_beside_the_output_is_the_job(ask, done: Path) -> None:
    """Whatever it says: a prompt's spaces, a schema's nulls and the order of its properties."""
    import json

    from pipeline import job_from
    from pipeline.job.fingerprint import fingerprint_parts
    from pipeline.output.runs.job_file import job_content
    from tests.support.samples import job

    schema = {
        "type": "object",
        "properties": {"z": {"type": ["string", "null"], "const": None}, "a": {"type": "integer"}},
    }
    for changes in (
        {"label": {"json_schema": schema}, "sampling": {"stop": ["\n", "é"]}},
        {"prompt": None, "messages": [{"role": "user", "content": "{text} "}]},
        {"prompt": None, "messages": {"column": "chat"}},
        {"examples": [{"text": "x", "answer": None, "more": 1}], "label": {"regex": "a|b"}},
        {"score": {"top_k": 3}, "output": {"path": "o", "keep": []}},
        {"engine": {"kind": "simulated", "simulated": {"output_tokens": 5}}},
    ):
        made = job(**changes)
        again = job_from(json.loads(json.dumps(job_content(made))))
        one, two = (fingerprint_parts(j, model_hash="", input_hash="") for j in (made, again))
        assert json.dumps(one) == json.dumps(two)
