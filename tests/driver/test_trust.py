"""A few right answers, and what they make of an output: written whole, once, and true."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import Job
from pipeline.driver.background.heartbeat import Heartbeat
from pipeline.driver.conclude import RunOutcome, conclude
from pipeline.driver.plan.plan import check_input, make_plan
from pipeline.driver.stop.stop import Stop
from pipeline.driver.trust import gather
from pipeline.driver.trust.settings import TrustOptions
from pipeline.driver.trust.trust import Trusted, trust
from pipeline.errors import AlreadyRunning, Stopped, UsageError
from pipeline.output.dataset import Dataset
from pipeline.output.rows.stored_rows import StoredRows
from pipeline.output.runs.run_log import new_run
from pipeline.output.runs.status import read_status
from pipeline.output.verify.dataset import verify
from pipeline.report.comparison.comparison import compare_outputs
from pipeline.storage.base import open_storage
from tests.datasets import begin, conclude_now
from tests.trusted import (
    CHOICES,
    ROWS,
    bytes_of,
    commit_all,
    job_over,
    table_of,
    trusted,
    world,
    write_rows,
)

_TRUTH, _PROBABILITIES = world(ROWS)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with 120 right answers that has come to its end."""
    folder = tmp_path_factory.mktemp("trusted")
    trusted(folder)
    return folder


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same without any: labels and probabilities are the model's own."""
    folder = tmp_path_factory.mktemp("raw")
    trusted(folder, gold=None)
    return folder


def copy_of(folder: Path, tmp_path: Path) -> Dataset:
    shutil.copytree(folder / "out", tmp_path / "out")
    return Dataset(open_storage(str(tmp_path / "out")))


def the_job(folder: Path, dataset: Dataset, gold: Any = "truth", **changes: Any) -> Job:
    """The job over the rows in ``folder`` whose copied output ``dataset`` is."""
    places = {
        "model": str(folder / "model"),
        "input": {"path": str(folder / "rows")},
        "output": {"path": dataset.storage.address()},
    }
    return job_over(folder, gold, **(places | changes))


def gold_file(tmp_path: Path, rows: Any = range(0, ROWS, 10), name: str = "gold.csv") -> str:
    lines = [f"{row},{_TRUTH[row]}" for row in rows]
    (tmp_path / name).write_text("\n".join(["id,answer", *lines]) + "\n")
    return str(tmp_path / name)


def share_right(table: pa.Table, column: str, where: str | None = None) -> float:
    pairs = zip(table[column].to_pylist(), table["id"].to_pylist(), strict=True)
    chosen = table[where].to_pylist() if where else [True] * len(table)
    right = [
        label == _TRUTH[row]
        for (label, row), one in zip(pairs, chosen, strict=True)
        if one and label is not None
    ]
    return sum(right) / len(right)


class TestAtTheEndOfARun:
    def test_labels_are_calibrated_and_the_models_own_stay_beside(self, made: Path) -> None:
        table = table_of(Dataset(open_storage(str(made / "out"))))

        assert share_right(table, "label") > share_right(table, "completion") + 0.05
        for row in (0, 1, 500):
            pair = _PROBABILITIES[row]
            assert table["probabilities"][row].as_py() == dict(zip(CHOICES, pair, strict=True))
            assert table["raw_confidence"][row].as_py() == max(pair)

    def test_accepted_rows_are_right_as_often_as_is_promised(self, made: Path) -> None:
        table = table_of(Dataset(open_storage(str(made / "out"))))

        assert 200 < table["accepted"].to_pylist().count(True) < ROWS
        assert share_right(table, "label", "accepted") > 0.95
        failed = table["error"].is_valid().to_pylist()
        assert {table["accepted"][n].as_py() for n, wrong in enumerate(failed) if wrong} == {None}

    def test_summary_status_and_records_count_the_labels_that_are_there(self, made: Path) -> None:
        dataset = Dataset(open_storage(str(made / "out")))
        table, summary = table_of(dataset), dataset.summary()
        assert summary is not None
        labels = Counter(label for label in table["label"].to_pylist() if label is not None)
        pairs = zip(table["truth"].to_pylist(), table["label"].to_pylist(), strict=True)
        graded = [(gold, label) for gold, label in pairs if gold and label]

        assert summary["labels"] == labels
        assert summary["graded"] == len(graded)
        assert summary["graded_right"] == sum(gold == label for gold, label in graded)
        assert verify(dataset.storage).faults == verify(dataset.storage).notes == []
        assert read_status(dataset.storage).rows_done == ROWS

    def test_summary_says_what_is_known_on_rows_that_no_fit_had_seen(self, made: Path) -> None:
        summary = Dataset(open_storage(str(made / "out"))).summary()
        assert summary is not None
        block = summary["trust"]["label"]

        assert block["gold"]["rows"] == sum(row % 97 != 5 for row in range(0, ROWS, 10))
        assert block["gold_from"] == ["truth"]
        assert block["after"]["calibration_error"] < block["before"]["calibration_error"]
        assert block["after"]["accuracy"]["value"] > block["before"]["accuracy"]["value"]
        accepted = table_of(Dataset(open_storage(str(made / "out"))))["accepted"]
        assert block["acceptance"]["rows"] == accepted.to_pylist().count(True)

    def test_without_right_answers_nothing_is_looked_at(self, raw: Path) -> None:
        dataset = Dataset(open_storage(str(raw / "out")))
        table, summary = table_of(dataset), dataset.summary()

        assert summary is not None
        assert summary["trust"] == {}
        assert set(table["accepted"].to_pylist()) == {None}
        assert table["label"].equals(table["completion"])

    def test_with_too_few_the_labels_stay_and_it_is_said_how_many_more(
        self, tmp_path: Path
    ) -> None:
        dataset = trusted(tmp_path, rows=200, known=lambda row: row < 12)
        summary, table = dataset.summary(), table_of(dataset)

        assert summary is not None
        assert "9 more" in summary["trust"]["label"]["no_calibration"]
        assert table["label"].equals(table["completion"])
        assert summary["generation"] == 0

    def test_a_run_again_changes_nothing(self, made: Path, tmp_path: Path) -> None:
        dataset = copy_of(made, tmp_path)
        before = bytes_of(dataset)
        plan = make_plan(check_input(the_job(made, dataset)), fetch=False)
        assert plan.missing == ()
        conclude(plan, dataset, RunOutcome(), 0.0)

        after = bytes_of(dataset)
        assert {name for name in before if before[name] != after[name]} <= {
            "_rackmill/manifest.json"
        }


class TestAnew:
    def test_the_same_right_answers_a_second_time_change_no_byte(
        self, made: Path, tmp_path: Path
    ) -> None:
        dataset = copy_of(made, tmp_path)
        before = bytes_of(dataset)

        assert trust(dataset.storage.address()).files_changed == 0
        assert bytes_of(dataset) == before

    def test_a_stricter_promise_accepts_fewer(self, made: Path, tmp_path: Path) -> None:
        dataset = copy_of(made, tmp_path)
        before = table_of(dataset)["accepted"].to_pylist().count(True)

        trust(dataset.storage.address(), TrustOptions(error=0.15))

        after = table_of(dataset)
        assert after["accepted"].to_pylist().count(True) > before
        assert share_right(after, "label", "accepted") > 0.85
        assert verify(dataset.storage).faults == []

    def test_right_answers_in_a_file_do_as_well_as_in_a_column(
        self, made: Path, raw: Path, tmp_path: Path
    ) -> None:
        dataset = copy_of(raw, tmp_path)

        trust(dataset.storage.address(), TrustOptions(gold=(gold_file(tmp_path),)))

        columns = ["label", "confidence", "accepted"]
        other = table_of(Dataset(open_storage(str(made / "out"))))
        assert table_of(dataset).select(columns).equals(other.select(columns))
        summary = dataset.summary()
        assert summary is not None
        assert summary["gold"] == "gold.csv"
        assert summary["graded"] == sum(row % 97 != 5 for row in range(0, ROWS, 10))
        assert verify(dataset.storage).faults == []

    def test_what_was_asked_for_by_name_holds_from_then_on(self, raw: Path, tmp_path: Path) -> None:
        dataset = copy_of(raw, tmp_path)
        asked = TrustOptions(gold=(gold_file(tmp_path),), error=0.1)
        trust(dataset.storage.address(), asked)
        before = table_of(dataset)

        assert trust(dataset.storage.address()).files_changed == 0
        plan, dataset = begin(the_job(raw, dataset, None))  # a run of the job as its file says it
        conclude_now(plan, dataset)
        assert table_of(dataset).equals(before)
        assert trust(dataset.storage.address()).files_changed == 0

    def test_switched_off_the_models_own_answers_come_back(
        self, made: Path, tmp_path: Path
    ) -> None:
        dataset = copy_of(made, tmp_path)
        off = the_job(made, dataset, trust={"calibrate": "off", "accept": None})
        plan, dataset = begin(off)
        conclude_now(plan, dataset)

        table = table_of(dataset)
        assert table["label"].equals(table["completion"])
        assert table["confidence"].equals(table["raw_confidence"])
        assert set(table["accepted"].to_pylist()) == {None}
        assert verify(dataset.storage).faults == []

    def test_probabilities_that_do_not_fit_into_memory_lie_in_a_file(
        self, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(gather, "_IN_MEMORY_BYTES", 0)
        dataset = copy_of(made, tmp_path)

        assert trust(dataset.storage.address()).files_changed == 0

    def test_another_output_is_compared_by_the_labels_that_are_there(
        self, made: Path, raw: Path
    ) -> None:
        compared = compare_outputs(StoredRows(str(raw / "out")), StoredRows(str(made / "out")), 0)

        table = table_of(Dataset(open_storage(str(made / "out"))))
        same = sum(
            label is not None and label == own
            for label, own in zip(
                table["label"].to_pylist(), table["completion"].to_pylist(), strict=True
            )
        )
        assert compared.same == same


class TestKilled:
    @pytest.mark.parametrize("step", ["recommit", "_publish", "finish", "keep_job"])
    @pytest.mark.parametrize("after", [0, 1, 20])
    def test_at_any_moment_the_same_call_comes_to_the_same_end(
        self,
        raw: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        step: str,
        after: int,
    ) -> None:
        options = TrustOptions(gold=(gold_file(tmp_path),))
        undisturbed = copy_of(raw, tmp_path / "one")
        trust(undisturbed.storage.address(), options)
        dataset = copy_of(raw, tmp_path / "two")
        with monkeypatch.context() as patch:
            patch.setattr(Dataset, step, _killed(getattr(Dataset, step), after))
            try:
                trust(dataset.storage.address(), options)
            except _Killed:
                assert verify(dataset.storage).faults == []
        assert len(table_of(dataset)) == ROWS  # readers see whole files, of then or now

        trust(dataset.storage.address(), options)

        for name, content in bytes_of(undisturbed).items():
            if name.endswith((".parquet", "trust.json")):
                assert bytes_of(dataset)[name] == content, name
        assert verify(dataset.storage).faults == verify(dataset.storage).notes == []

    def test_asked_to_stop_it_stops_between_two_files(self, raw: Path, tmp_path: Path) -> None:
        dataset = copy_of(raw, tmp_path)
        stop = Stop()
        stop.ask()

        with pytest.raises(Stopped, match="goes on from there"):
            trust(dataset.storage.address(), TrustOptions(gold=(gold_file(tmp_path),)), stop=stop)
        assert verify(dataset.storage).faults == []


class _Killed(BaseException):
    """Nothing is cleaned up after it."""


def _killed(real: Callable[..., Any], after: int) -> Callable[..., Any]:
    calls = 0

    def one(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > after:
            raise _Killed
        return real(*args, **kwargs)

    return one


class TestRefused:
    def refused(self, dataset: Dataset, said: str, **options: Any) -> None:
        before = bytes_of(dataset)
        with pytest.raises(UsageError, match=said):
            trust(dataset.storage.address(), TrustOptions(**options))
        assert bytes_of(dataset) == before

    def test_without_right_answers(self, raw: Path, tmp_path: Path) -> None:
        self.refused(copy_of(raw, tmp_path), r"no right answers are known(.|\n)*rackmill review")

    def test_of_one_label_alone(self, raw: Path, tmp_path: Path) -> None:
        good = [row for row in range(200) if _TRUTH[row] == "good"]
        gold = gold_file(tmp_path, good)

        self.refused(copy_of(raw, tmp_path), "right answers of .* are 'good'", gold=(gold,))

    def test_values_that_are_no_choices(self, raw: Path, tmp_path: Path) -> None:
        (tmp_path / "gold.csv").write_text("id,answer\n1,godo\n")

        self.refused(
            copy_of(raw, tmp_path), r"godo.*did you mean good", gold=(str(tmp_path / "gold.csv"),)
        )

    def test_a_column_with_values_that_are_no_choices(self, tmp_path: Path) -> None:
        truth, probabilities = world(100)
        write_rows(tmp_path, ["neutral", *truth[1:]], lambda row: True)
        plan, dataset = begin(job_over(tmp_path))
        commit_all(plan, dataset, probabilities, lambda row: False)
        conclude_now(plan, dataset)

        table = table_of(dataset)
        assert table["label"].equals(table["completion"])
        summary = dataset.summary()
        assert summary is not None
        assert "'neutral' in 1 row" in " ".join(summary["trust"]["label"]["notes"])
        self.refused(dataset, r"label\.gold \(truth\) has 'neutral' in 1 row")

    def test_a_promise_that_cannot_be_kept(self, made: Path, tmp_path: Path) -> None:
        self.refused(
            copy_of(made, tmp_path),
            r"0\.5 % are wrong(.|\n)*the best that these right answers allow: --error 0",
            error=0.005,
        )

    def test_a_column_that_is_none(self, raw: Path, tmp_path: Path) -> None:
        self.refused(copy_of(raw, tmp_path), r"did you mean truth\?", gold=("truht",))

    def test_an_output_of_before_there_were_probabilities(self, tmp_path: Path) -> None:
        from dataclasses import replace

        from pipeline.output.columns.results import output_columns

        truth, probabilities = world(40)
        write_rows(tmp_path, truth, lambda row: True)
        inputs = check_input(job_over(tmp_path, None))
        columns = output_columns(inputs.job, inputs.files.schema, begun=())
        plan = make_plan(replace(inputs, columns=columns), fetch=False)
        dataset = Dataset(open_storage(plan.job.output.path))
        dataset.take_over(plan.manifest)
        plan, dataset = begin(job_over(tmp_path, None))
        commit_all(plan, dataset, probabilities, lambda row: False)
        conclude_now(plan, dataset)

        self.refused(dataset, r"holds no probabilities(.|\n)*--fresh", gold=("truth",))

    def test_labels_that_were_drawn(self, tmp_path: Path) -> None:
        dataset = trusted(tmp_path, rows=60, changes={"sampling": {"temperature": 0.7}})

        table = table_of(dataset)
        assert table["label"].equals(table["completion"])
        self.refused(dataset, "drawn by chance")

    def test_while_a_run_works_there(self, made: Path, tmp_path: Path) -> None:
        dataset = copy_of(made, tmp_path)

        with (
            Heartbeat(dataset.storage, None, Stop(), new_run(), 3),
            pytest.raises(AlreadyRunning, match="another run works"),
        ):
            trust(dataset.storage.address(), TrustOptions(error=0.2))

    def test_an_output_that_is_not_finished(self, tmp_path: Path) -> None:
        truth, _ = world(40)
        write_rows(tmp_path, truth, lambda row: True)
        _, dataset = begin(job_over(tmp_path))

        with pytest.raises(UsageError, match="is not finished"):
            trust(dataset.storage.address())


def test_rows_that_are_examples_of_the_prompt_are_left_out_and_said(tmp_path: Path) -> None:
    examples = [{"text": f"text {row}", "answer": _TRUTH[row]} for row in (0, 10, 21)]
    dataset = trusted(tmp_path, rows=400, changes={"examples": examples, "prompt": "{text}"})
    summary = dataset.summary()
    assert summary is not None
    block = summary["trust"]["label"]

    assert block["gold"]["rows"] == 40 - 2
    assert "2 right answers left out" in block["notes"][0]


def test_people_who_review_are_heard(raw: Path, tmp_path: Path) -> None:
    from pipeline.output.reviews.answers import Answer, ReviewAnswers
    from pipeline.output.reviews.question import question_of
    from pipeline.output.reviews.samples import sample_for

    dataset = copy_of(raw, tmp_path)
    stored = StoredRows(dataset.storage.address())
    sample = sample_for(dataset.storage, stored, question_of(stored, None), 80)
    reviews = ReviewAnswers(dataset.storage)
    for row in sample.rows:
        reviews.append("ann", Answer("label", row.shard, row.row, _TRUTH[row.row], "2026"))

    made: Trusted = trust(dataset.storage.address())

    block = made.questions["label"]
    assert block["gold"]["rows"] == 80
    assert block["gold"]["at_random"] < 80
    assert block["gold_from"] == ["reviews"]
    assert block["weighted_accuracy"]["low"] < share_right(table_of(dataset), "label")
    assert share_right(table_of(dataset), "label") < block["weighted_accuracy"]["high"]
    summary = dataset.summary()
    assert summary is not None
    assert summary["accuracy"] is None  # rows that were chosen for doubt tell no plain share


def test_the_kept_job_is_still_one(made: Path) -> None:
    kept = json.loads((made / "out/_rackmill/job.json").read_text())

    assert kept["label"]["gold"] == "truth"
    assert np.isfinite(_PROBABILITIES).all()
    metadata = pq.read_schema(next((made / "out").glob("*.parquet"))).metadata
    assert metadata[b"rackmill.model"] == b"m"
