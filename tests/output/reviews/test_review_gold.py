"""What the answers of one or more reviewers come to."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.errors import UsageError
from pipeline.output.reviews.answers import ReviewAnswers, ReviewerAnswer
from pipeline.output.reviews.gold import gold_of
from pipeline.output.reviews.question import question_of
from pipeline.output.reviews.sample import ReviewSample
from pipeline.output.reviews.samples import sample_for
from pipeline.output.rows.stored_rows import StoredRows
from pipeline.storage.base import Storage, open_storage
from tests.support.labelled import labelled

pytestmark = pytest.mark.usefixtures("large_units")


def sample_of(storage: Storage, rows: int = 20) -> ReviewSample:
    stored = StoredRows(storage.address())
    return sample_for(storage, stored, question_of(stored, None), rows)


def answer(storage: Storage, sample: ReviewSample, reviewer: str, *values: str | None) -> None:
    """To the first rows of the sample."""
    for row, value in zip(sample.rows, values, strict=False):
        given = ReviewerAnswer("label", row.shard, row.row, value, "")
        ReviewAnswers(storage).append(reviewer, given)


@pytest.fixture
def output(tmp_path: Path) -> Storage:
    return labelled(tmp_path, 60)


def test_no_review_is_no_gold(output: Storage) -> None:
    assert gold_of(output, "label") == []
    sample_of(output)
    assert gold_of(output, "label") == []


def test_answers_are_gold_with_the_probabilities_of_those_that_were_asked(output: Storage) -> None:
    sample = sample_of(output)
    answer(output, sample, "anna", *["good", "bad"] * 6)

    gold = gold_of(output, "label")

    assert [(g.shard, g.row) for g in gold] == [r.place for r in sample.rows[:12]]
    assert [g.value for g in gold] == ["good", "bad"] * 6
    asked = sample.asked(12)
    assert [(g.inclusion_probability, g.random) for g in gold] == [
        (one.probability, one.random) for one in asked
    ]
    assert asked[0].probability < sample.asked()[0].probability  # of more rows it is higher


def test_most_reviewers_decide_and_a_tie_decides_nothing(output: Storage) -> None:
    sample = sample_of(output)
    answer(output, sample, "anna", "good", "good", "good", None, "good")
    answer(output, sample, "ben", "good", "bad", "bad", None, None)
    answer(output, sample, "cleo", "bad", "bad", None)

    gold = gold_of(output, "label")

    assert [g.value for g in gold] == ["good", "bad", "good"]
    assert [g.row for g in gold] == [sample.rows[n].row for n in (0, 1, 4)]


def test_a_row_behind_one_that_nobody_answered_waits(output: Storage) -> None:
    sample = sample_of(output)
    answer(output, sample, "anna", *["good"] * 10)
    gone = sample.rows[4]
    ReviewAnswers(output).append(
        "anna", ReviewerAnswer("label", gone.shard, gone.row, None, "", True)
    )

    assert [g.row for g in gold_of(output, "label")] == [r.row for r in sample.rows[:4]]


def test_an_answer_that_is_no_choice_any_more_counts_as_none(output: Storage) -> None:
    sample = sample_of(output)
    answer(output, sample, "anna", "good", "fine", "good")
    assert len(gold_of(output, "label")) == 1


def test_a_row_that_changed_is_left_out_and_one_that_did_not_is_kept(tmp_path: Path) -> None:
    output = labelled(tmp_path, 60)
    sample = sample_of(output, 10)
    answer(output, sample, "anna", *["good"] * 10)
    changed = sample.rows[3].row
    texts = [f"text {i}" if i != changed else "another" for i in range(60)]
    (tmp_path / "out").rename(tmp_path / "before")

    labelled(tmp_path, 60, texts=texts)
    (tmp_path / "before/_rackmill/reviews").rename(tmp_path / "out/_rackmill/reviews")

    gold = gold_of(open_storage(str(tmp_path / "out")), "label")
    assert {g.row for g in gold} == {r.row for r in sample.rows} - {changed}


def test_reviews_survive_starting_over(tmp_path: Path) -> None:
    from pipeline.output.dataset import Dataset

    output = labelled(tmp_path, 60)
    answer(output, sample_of(output), "anna", *["good"] * 5)
    Dataset(output).clear()
    labelled(tmp_path, 60)
    assert len(gold_of(output, "label")) == 5


def test_readers_of_parquet_do_not_see_reviews(output: Storage) -> None:
    answer(output, sample_of(output), "anna", "good")
    assert pq.read_table(output.address()).num_rows == 60


class TestQuestion:
    def test_an_output_without_choices_is_refused(self, tmp_path: Path) -> None:
        from tests.support.datasets import finish, job_in, write_input

        write_input(tmp_path / "rows", 10)
        finish(job_in(tmp_path))
        with pytest.raises(UsageError, match="nothing to review"):
            question_of(StoredRows(str(tmp_path / "out")), None)

    def test_a_question_that_is_not_there_is_named(self, output: Storage) -> None:
        with pytest.raises(UsageError, match="--question lable") as e:
            question_of(StoredRows(output.address()), "lable")
        assert "did you mean label?" in e.value.hints

    def test_the_models_own_confidence_comes_before_a_calibrated_one(self, output: Storage) -> None:
        found = question_of(StoredRows(output.address()), None)
        assert (found.choices, found.confidences) == (("bad", "good"), "raw_confidence")
