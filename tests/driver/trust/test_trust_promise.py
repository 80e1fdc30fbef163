"""Labels and the promise about them: at the end of a run, by another promise, and switched off."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from pipeline.driver.plan.plan import check_input, make_plan
from pipeline.driver.trust.settings import TrustOptions
from pipeline.driver.trust.trust import trust
from pipeline.output.dataset import Dataset
from pipeline.output.rows.stored_rows import StoredRows
from pipeline.output.runs.status import read_status
from pipeline.output.verify.dataset import verify
from pipeline.report.comparison.comparison import compare_outputs
from pipeline.storage.base import open_storage
from tests.support.datasets import begin, conclude_now
from tests.support.trusted import (
    CHOICES,
    PROBABILITIES,
    ROWS,
    commit_all,
    copy_of,
    job_over,
    refused,
    share_right,
    table_of,
    the_job,
    trusted,
    world,
    write_rows,
)


class TestAtTheEndOfARun:
    def test_labels_are_calibrated_and_the_models_own_stay_beside(self, made: Path) -> None:
        table = table_of(Dataset(open_storage(str(made / "out"))))

        assert share_right(table, "label") > share_right(table, "completion") + 0.05
        for row in (0, 1, 500):
            pair = PROBABILITIES[row]
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


def test_the_kept_job_is_still_one(made: Path) -> None:
    kept = json.loads((made / "out/_rackmill/job.json").read_text())

    assert kept["label"]["gold"] == "truth"
    assert np.isfinite(PROBABILITIES).all()
    metadata = pq.read_schema(next((made / "out").glob("*.parquet"))).metadata
    assert metadata[b"rackmill.model"] == b"m"


class TestAnew:
    def test_a_stricter_promise_accepts_fewer(self, made: Path, tmp_path: Path) -> None:
        dataset = copy_of(made, tmp_path)
        before = table_of(dataset)["accepted"].to_pylist().count(True)

        trust(dataset.storage.address(), TrustOptions(error=0.15))

        after = table_of(dataset)
        assert after["accepted"].to_pylist().count(True) > before
        assert share_right(after, "label", "accepted") > 0.85
        assert verify(dataset.storage).faults == []

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


class TestRefused:
    def test_a_promise_that_cannot_be_kept(self, made: Path, tmp_path: Path) -> None:
        refused(
            copy_of(made, tmp_path),
            r"0\.5 % are wrong(.|\n)*the best that these right answers allow: --error 0",
            error=0.005,
        )

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

        refused(dataset, r"holds no probabilities(.|\n)*--fresh", gold=("truth",))

    def test_labels_that_were_drawn(self, tmp_path: Path) -> None:
        dataset = trusted(tmp_path, rows=60, changes={"sampling": {"temperature": 0.7}})

        table = table_of(dataset)
        assert table["label"].equals(table["completion"])
        refused(dataset, "drawn by chance")
