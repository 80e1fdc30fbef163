"""Right answers that trust learns from: from where they come, and which are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.driver.trust.settings import TrustOptions
from pipeline.driver.trust.trust import TrustResult, trust
from pipeline.output.dataset import Dataset
from pipeline.output.rows.stored_rows import StoredRows
from pipeline.output.verify.dataset import verify
from pipeline.storage.base import open_storage
from tests.support.datasets import begin, conclude_now
from tests.support.trusted import (
    ROWS,
    TRUTH,
    bytes_of,
    commit_all,
    copy_of,
    gold_file,
    job_over,
    refused,
    share_right,
    table_of,
    trusted,
    world,
    write_rows,
)


class TestTaken:
    def test_with_too_few_the_labels_stay_and_it_is_said_how_many_more(
        self, tmp_path: Path
    ) -> None:
        dataset = trusted(tmp_path, rows=200, known=lambda row: row < 12)
        summary, table = dataset.summary(), table_of(dataset)

        assert summary is not None
        assert "9 more" in summary["trust"]["label"]["no_calibration"]
        assert table["label"].equals(table["completion"])
        assert summary["generation"] == 0

    def test_without_right_answers_nothing_is_looked_at(self, raw: Path) -> None:
        dataset = Dataset(open_storage(str(raw / "out")))
        table, summary = table_of(dataset), dataset.summary()

        assert summary is not None
        assert summary["trust"] == {}
        assert set(table["accepted"].to_pylist()) == {None}
        assert table["label"].equals(table["completion"])

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


def test_rows_that_are_examples_of_the_prompt_are_left_out_and_said(tmp_path: Path) -> None:
    examples = [{"text": f"text {row}", "answer": TRUTH[row]} for row in (0, 10, 21)]
    dataset = trusted(tmp_path, rows=400, changes={"examples": examples, "prompt": "{text}"})
    summary = dataset.summary()
    assert summary is not None
    block = summary["trust"]["label"]

    assert block["gold"]["rows"] == 40 - 2
    assert "2 right answers left out" in block["notes"][0]


def test_people_who_review_are_heard(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.output.reviews.answers import ReviewAnswers, ReviewerAnswer
    from pipeline.output.reviews.question import question_of
    from pipeline.output.reviews.samples import sample_for

    # one in twenty samples has its interval beside the truth
    monkeypatch.setattr("pipeline.output.reviews.samples.secrets.randbits", lambda bits: 7)
    dataset = copy_of(raw, tmp_path)
    stored = StoredRows(dataset.storage.address())
    sample = sample_for(dataset.storage, stored, question_of(stored, None), 80)
    reviews = ReviewAnswers(dataset.storage)
    for row in sample.rows:
        reviews.append("ann", ReviewerAnswer("label", row.shard, row.row, TRUTH[row.row], "2026"))

    made: TrustResult = trust(dataset.storage.address())

    block = made.questions["label"]
    assert block["gold"]["rows"] == 80
    assert block["gold"]["at_random"] < 80
    assert block["gold_from"] == ["reviews"]
    assert block["weighted_accuracy"]["low"] < share_right(table_of(dataset), "label")
    assert share_right(table_of(dataset), "label") < block["weighted_accuracy"]["high"]
    summary = dataset.summary()
    assert summary is not None
    assert summary["accuracy"] is None  # rows that were chosen for doubt tell no plain share


class TestRefused:
    def test_without_right_answers(self, raw: Path, tmp_path: Path) -> None:
        refused(copy_of(raw, tmp_path), r"no right answers are known(.|\n)*rackmill review")

    def test_of_one_label_alone(self, raw: Path, tmp_path: Path) -> None:
        good = [row for row in range(200) if TRUTH[row] == "good"]
        gold = gold_file(tmp_path, good)

        refused(copy_of(raw, tmp_path), "right answers of .* are 'good'", gold=(gold,))

    def test_named_ones_that_are_all_empty(self, raw: Path, tmp_path: Path) -> None:
        (tmp_path / "gold.csv").write_text("id,answer\n1,\n2,\n")
        dataset = copy_of(raw, tmp_path)
        before = bytes_of(dataset)

        refused(dataset, r"no right answers are known", gold=(str(tmp_path / "gold.csv"),))
        assert bytes_of(dataset) == before

    def test_columns_of_a_file_that_is_not_named(self, made: Path, tmp_path: Path) -> None:
        dataset = copy_of(made, tmp_path)

        refused(dataset, "columns of a file .* none is named", key="id")
        refused(dataset, "none is named", gold=("truth",), value="id")

    def test_values_that_are_no_choices(self, raw: Path, tmp_path: Path) -> None:
        (tmp_path / "gold.csv").write_text("id,answer\n1,godo\n")

        refused(
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
        refused(dataset, r"label\.gold \(truth\) has 'neutral' in 1 row")

    def test_a_column_that_is_none(self, raw: Path, tmp_path: Path) -> None:
        refused(copy_of(raw, tmp_path), r"did you mean truth\?", gold=("truht",))
