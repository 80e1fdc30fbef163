"""One label job from end to end as a user runs it, in a Ray of its own, with two workers."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytestmark = pytest.mark.ray

_JOB = """\
name: label
model: gemma-3-270m
input: {path: rows/*.parquet}
prompt: "Tweet: {text}\\nSentiment:"
label: {choices: [negative, very negative, positive], gold: sentiment}
output: {path: out, keep: [sentiment, id]}
engine: {kind: simulated, simulated: {step_seconds: 0.2}, max_num_seqs: 64}
resources: {workers: 2}
"""
_ROWS = (300, 212)
_KEYS = {
    "rows",
    "succeeded",
    "failed",
    "reused",
    "prompt_tokens",
    "completion_tokens",
    "seconds",
    "rows_per_second",
    "completion_tokens_per_second",
    "preemptions",
    "output",
}


@dataclass(frozen=True)
class Run:
    """A finished run: its folder, how the command ended, which processes outlived it."""

    folder: Path
    code: int
    out: str
    err: str
    left: list[str]

    @property
    def output(self) -> Path:
        return self.folder / "out"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, launcher, write_shards) -> Run:
    folder = tmp_path_factory.mktemp("label")
    write_shards(folder / "rows", *_ROWS)
    (folder / "job.yaml").write_text(_JOB)
    started = launcher.start("run", "job.yaml", "--json", cwd=folder)
    finished = started.wait()
    assert finished.code == 0, finished.err
    return Run(folder, finished.code, finished.out, finished.err, started.gone(20))


@pytest.fixture(scope="module")
def table(run: Run, read_output) -> pa.Table:
    return read_output(run.output)


def test_every_row_is_there_once_and_in_input_order(table: pa.Table) -> None:
    assert table["id"].to_pylist() == list(range(sum(_ROWS)))


def test_the_output_has_several_files_and_their_names_sort_in_input_order(run: Run) -> None:
    firsts = [pq.read_table(p)["id"][0].as_py() for p in sorted(run.output.glob("*.parquet"))]
    assert len(firsts) > 2
    assert firsts == sorted(firsts)


def test_a_file_holds_rows_of_one_shard(run: Run) -> None:
    for path in run.output.glob("*.parquet"):
        ids = pq.read_table(path)["id"].to_pylist()
        assert (ids[0] < _ROWS[0]) == (ids[-1] < _ROWS[0])


def test_pandas_opens_the_folder(run: Run) -> None:
    assert len(pandas.read_parquet(run.output)) == sum(_ROWS)


def test_kept_columns_come_first_in_the_order_of_the_job_file(table: pa.Table) -> None:
    assert table.column_names == [
        "sentiment",
        "id",
        "completion",
        "label",
        "confidence",
        "accepted",
        "raw_confidence",
        "probabilities",
        "finish_reason",
        "prompt_tokens",
        "completion_tokens",
        "error",
    ]


def test_kept_columns_have_the_inputs_values(table: pa.Table, make_tweets) -> None:
    expected = make_tweets(sum(_ROWS))["sentiment"].to_pylist()
    assert table["sentiment"].to_pylist() == expected


def test_labels_are_choices(table: pa.Table) -> None:
    assert set(table["label"].to_pylist()) <= {"negative", "very negative", "positive"}
    assert set(table["completion"].to_pylist()) <= {"negative", "very negative", "positive"}


def test_confidence_is_at_least_an_even_share(table: pa.Table) -> None:
    """The label is the most probable of three choices whose probabilities add up to one."""
    assert all(1 / 3 <= c <= 1 for c in table["confidence"].to_pylist())


def test_no_row_has_an_error(table: pa.Table) -> None:
    assert table["error"].null_count == sum(_ROWS)


def test_every_file_says_where_it_comes_from(run: Run, model) -> None:
    manifest = json.loads((run.output / "_rackmill/manifest.json").read_text())
    for path in run.output.glob("*.parquet"):
        facts = pq.read_schema(path).metadata
        assert facts[b"rackmill.job"] == b"label"
        assert facts[b"rackmill.fingerprint"].decode() == manifest["fingerprint"]
        assert facts[b"rackmill.model"] == b"gemma-3-270m"
        assert facts[b"rackmill.model_hash"].decode() == model.hash
        assert facts[b"rackmill.rackmill_version"]
        assert facts[b"rackmill.ray_version"]


def test_stdout_is_one_json_object_with_the_promised_keys(run: Run) -> None:
    assert set(json.loads(run.out)) >= _KEYS


def test_the_json_counts_add_up(run: Run, table: pa.Table) -> None:
    facts = json.loads(run.out)
    assert (facts["rows"], facts["succeeded"]) == (sum(_ROWS), sum(_ROWS))
    assert (facts["failed"], facts["reused"]) == (0, 0)
    assert facts["prompt_tokens"] == sum(table["prompt_tokens"].to_pylist())
    assert facts["completion_tokens"] == sum(table["completion_tokens"].to_pylist())
    assert facts["output"] == "out"


def test_the_accuracy_is_the_share_of_rows_whose_label_is_the_gold_one(
    run: Run, table: pa.Table
) -> None:
    pairs = zip(table["label"].to_pylist(), table["sentiment"].to_pylist(), strict=True)
    agreement = sum(label == gold for label, gold in pairs) / len(table)
    assert json.loads(run.out)["accuracy"] == pytest.approx(agreement, abs=1e-4)


def test_the_summary_beside_the_output_is_what_json_printed(run: Run) -> None:
    assert json.loads((run.output / "_rackmill/summary.json").read_text()) == json.loads(run.out)


@pytest.mark.parametrize(
    "words",
    ["gemma-3-270m", "512", "negative", "sentiment ↓, label →", "## 10 rows", "Gemma Terms of Use"],
)
def test_the_report_tells_what_ran(words: str, run: Run) -> None:
    assert words in (run.output / "_rackmill/report.md").read_text()


def test_progress_goes_to_stderr(run: Run) -> None:
    assert "512 rows in 2 shards" in run.err
    assert "2 engines" in run.err
    assert "Traceback" not in run.err


def test_two_engines_ran(run: Run) -> None:
    assert len(json.loads(run.out)["engines"]) == 2


def test_ray_starts_no_process_that_nobody_asked_for(run: Run) -> None:
    """It would start one for each core, which loads half of what a worker does and is ended."""
    [log] = run.output.glob("_rackmill/logs/*.driver.*")
    [folder] = re.findall('print is in ([^"]+)', log.read_text())
    assert len(list(Path(folder).glob("worker-*.out"))) == 3  # two workers and the coordinator


def test_no_process_outlives_the_run(run: Run) -> None:
    assert run.left == []


def test_no_attempts_are_left_lying(run: Run) -> None:
    assert list((run.output / "_rackmill/attempts").glob("*")) == []


def test_run_again_reuses_everything_without_ray(run: Run, ask, monkeypatch, files_of) -> None:
    monkeypatch.chdir(run.folder)
    before = files_of(run.output)
    result = ask("run", "job.yaml", "--json")
    assert result.code == 0, result.err
    assert result.json["reused"] == result.json["rows"] == sum(_ROWS)
    assert files_of(run.output) == before


def test_run_again_leaves_the_report_of_the_run_that_did_the_work(
    run: Run, ask, monkeypatch
) -> None:
    monkeypatch.chdir(run.folder)
    before = (run.output / "_rackmill/report.md").read_text()
    ask("run", "job.yaml")
    assert (run.output / "_rackmill/report.md").read_text() == before


def test_plan_after_the_run_has_nothing_left_to_do(run: Run, ask, monkeypatch) -> None:
    monkeypatch.chdir(run.folder)
    facts = ask("plan", "job.yaml", "--json").json
    assert facts["reused_rows"] == facts["rows"] == sum(_ROWS)


def test_plan_counted_the_tokens_that_the_run_used(run: Run, ask, monkeypatch) -> None:
    monkeypatch.chdir(run.folder)
    planned = ask("plan", "job.yaml", "--json").json["prompt_tokens"]
    assert planned == pytest.approx(json.loads(run.out)["prompt_tokens"], rel=0.05)
