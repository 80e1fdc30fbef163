"""Samples for reviewers: simple random in part, weighted in part, and larger ones go on."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import UsageError
from pipeline.output.reviews.draw import draw
from pipeline.output.reviews.question import question_of
from pipeline.output.reviews.sample import DrawnRow, ReviewSample, numbers
from pipeline.output.reviews.samples import read_sample, sample_for
from pipeline.output.rows.stored_rows import StoredRows
from pipeline.storage.base import Storage
from tests.support.labelled import confidence, labelled

pytestmark = pytest.mark.usefixtures("large_units")


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> StoredRows:
    return StoredRows(labelled(tmp_path_factory.mktemp("labelled")).address())


def drawn(output: StoredRows, rows: int, seed: int = 7) -> ReviewSample:
    return draw(output, question_of(output, None), rows, seed)


def simulated(
    population: int, rows: int, seed: int, confidences: np.ndarray, first: int | None = None
) -> dict[int, tuple[float, bool]]:
    """As ``draw`` does it, without an output: row -> (probability, random)."""
    from pipeline.output.reviews.draw import _Candidates
    from pipeline.output.reviews.sample import asked_order

    known = _Candidates(rows + 1)
    known.add("f", np.arange(population), confidences, seed)
    random, doubtful = known.orders(doubt=True)
    taken, k, gone = asked_order(random, doubtful, rows)
    places = ({row: n for n, row in enumerate(random[:k])},
              {row: n for n, row in enumerate(doubtful[:gone])})  # fmt: skip
    after = known.priority(doubtful[gone]) if gone < len(doubtful) else 0.0
    found = [known.drawn(row, *(place.get(row) for place in places)) for row in taken]
    asked = ReviewSample(seed, found, population, after).asked(first)
    return {one.drawn.row: (one.probability, one.random) for one in asked}


class TestNumbers:
    def test_they_are_spread_evenly_and_differ_by_seed_salt_and_file(self) -> None:
        rows = np.arange(100_000)
        one = numbers(1, 1, 5, rows)
        assert one.min() > 0
        assert one.max() <= 1
        counts = np.histogram(one, 100, (0, 1))[0]
        assert abs(counts - 1000).max() < 160  # five standard deviations
        for other in (numbers(2, 1, 5, rows), numbers(1, 2, 5, rows), numbers(1, 1, 6, rows)):
            assert abs(np.corrcoef(one, other)[0, 1]) < 0.02
        assert abs(np.corrcoef(one[:-1], one[1:])[0, 1]) < 0.02


class TestDraw:
    def test_the_same_seed_gives_the_same_rows_and_another_seed_others(self, output) -> None:
        assert drawn(output, 50) == drawn(output, 50)
        assert {r.row for r in drawn(output, 50).rows} != {r.row for r in drawn(output, 50, 8).rows}

    def test_a_larger_sample_begins_with_the_smaller(self, output) -> None:
        small, large = drawn(output, 40), drawn(output, 110)
        assert [r.place for r in large.rows[:40]] == [r.place for r in small.rows]
        assert large.asked(40) == [
            one.__class__(large.rows[at], one.probability, one.random)
            for at, one in enumerate(small.asked())
        ]

    def test_a_row_is_asked_about_once_and_most_rows_come_at_random(self, output) -> None:
        sample = drawn(output, 100)
        assert len({r.place for r in sample.rows}) == 100
        assert Counter(r.part for r in sample.rows) == {"random": 80, "uncertain": 20} or (
            80 <= sum(one.random for one in sample.asked()) <= 90
        )

    def test_doubtful_rows_are_drawn_where_the_model_was_in_doubt(self, output) -> None:
        rows = drawn(output, 200).rows
        doubtful = [confidence(r.row) for r in rows if r.doubtful is not None]
        random = [confidence(r.row) for r in rows if r.random is not None]
        assert np.mean(doubtful) < np.mean(random) - 0.05

    def test_a_sample_of_all_rows_has_each_with_certainty(self, output) -> None:
        sample = drawn(output, 1000)
        assert len(sample.rows) == sample.population == 300
        assert {(one.probability, one.random) for one in sample.asked()} == {(1.0, True)}

    def test_failed_rows_known_ones_and_examples_are_not_drawn(self, tmp_path: Path) -> None:
        storage = labelled(
            tmp_path,
            60,
            gold=lambda row: "good" if row < 20 else None,
            fails=lambda row: 20 <= row < 30,
            examples=[{"text": "text 31", "answer": "bad"}, {"text": "other", "answer": "good"}],
        )
        sample = drawn(StoredRows(storage.address()), 100)
        assert {r.row for r in sample.rows} == {30, *range(32, 60)}
        assert sample.population == 29

    def test_an_output_in_which_every_row_is_known_is_refused(self, tmp_path: Path) -> None:
        storage = labelled(tmp_path, 20, gold=lambda row: "good")
        with pytest.raises(UsageError, match="no row to review"):
            drawn(StoredRows(storage.address()), 10)


class TestProbabilities:
    """Over many seeds: what a probability says is how often it happens, and sums are unbiased."""

    @pytest.mark.parametrize("first", [None, 13])
    def test_sums_are_estimated_without_bias_and_the_random_part_is_simple(
        self, first: int | None
    ) -> None:
        population, rows, draws = 60, 25, 3000
        confidences = 1 - np.linspace(0, 1, population) ** 3
        values = np.linspace(-1, 2, population)
        estimates, counted = [], np.zeros(population)
        random_rows = 0
        for seed in range(draws):
            found = simulated(population, rows, seed, confidences, first)
            estimates.append(sum(values[row] / p for row, (p, _) in found.items()))
            random_rows += sum(random for _, random in found.values())
            for row, (_, random) in found.items():
                counted[row] += random
        error = np.std(estimates) / np.sqrt(draws)
        assert abs(np.mean(estimates) - values.sum()) < 4 * error
        each = random_rows / draws / population
        assert abs(counted / draws - each).max() < 5 * np.sqrt(each * (1 - each) / draws)


class TestSamples:
    def test_a_second_call_goes_on_with_the_sample_and_makes_it_larger(
        self, tmp_path: Path
    ) -> None:
        storage = labelled(tmp_path)
        stored = StoredRows(storage.address())
        question = question_of(stored, None)
        first = sample_for(storage, stored, question, 30)
        assert sample_for(storage, stored, question, None) == first
        assert sample_for(storage, stored, question, 20) == first
        larger = sample_for(storage, stored, question, 80)
        assert [r.place for r in larger.rows[:30]] == [r.place for r in first.rows]
        assert read_sample(storage, "label") == (larger, stored.input_fingerprint)
        assert sample_for(storage, stored, question, 10_000).population == 300
        count = len(list((tmp_path / "out/_rackmill/reviews").iterdir()))
        sample_for(storage, stored, question, 20_000)  # there are no more rows
        assert len(list((tmp_path / "out/_rackmill/reviews").iterdir())) == count

    def test_the_probabilities_stand_in_the_file(self, tmp_path: Path) -> None:
        storage = labelled(tmp_path)
        stored = StoredRows(storage.address())
        sample = sample_for(storage, stored, question_of(stored, None), 50)
        content = json.loads(storage.read("_rackmill/reviews/sample-label-1.json") or b"")
        assert [row["inclusion_probability"] for row in content["rows"]] == [
            one.probability for one in sample.asked()
        ]
        assert {row["part"] for row in content["rows"]} == {"random", "uncertain"}

    def test_who_draws_second_takes_what_the_first_drew(self, tmp_path: Path, monkeypatch) -> None:
        storage = labelled(tmp_path)
        stored = StoredRows(storage.address())
        question = question_of(stored, None)
        theirs: list[ReviewSample] = []

        def late(*arguments):
            if not theirs:
                theirs.append(ReviewSample(0, (), 1, 0))
                theirs[0] = sample_for(storage, stored, question, 30)
            return draw(*arguments)

        monkeypatch.setattr("pipeline.output.reviews.samples.draw", late)
        assert sample_for(storage, stored, question, 30) == theirs[0]

    @pytest.mark.parametrize(
        "content", [b"", b"[]", b"{}", b'{"rows": [1]}', b"[" * 10_000, b'{"seed": 1e999}']
    )
    def test_a_damaged_sample_is_named(self, tmp_path: Path, content: bytes) -> None:
        storage = labelled(tmp_path, 30)
        storage.replace("_rackmill/reviews/sample-label-1.json", content)
        with pytest.raises(UsageError, match=r"sample-label-1\.json is damaged"):
            read_sample(storage, "label")

    def test_on_an_object_store(self, tmp_path: Path, memory: str) -> None:
        storage: Storage = labelled(tmp_path, 60, output=memory)
        stored = StoredRows(memory)
        sample = sample_for(storage, stored, question_of(stored, None), 20)
        assert read_sample(storage, "label") == (sample, stored.input_fingerprint)


def test_a_row_alone_is_its_own_sample() -> None:
    alone = ReviewSample(1, [DrawnRow("f", 0, 0, None, 1.0, 2.0, "")], 1, 0.0)
    assert [one.probability for one in alone.asked()] == [1.0]
    assert alone.asked(0) == []


def test_rows_that_a_file_of_right_answers_has_are_not_drawn(tmp_path: Path) -> None:
    (tmp_path / "gold.csv").write_text("id,truth\n" + "".join(f"{i},good\n" for i in range(50)))
    gold = {"path": str(tmp_path / "gold.csv"), "key": "id", "value": "truth"}
    label = {"choices": ["bad", "good"], "gold": gold}
    storage = labelled(tmp_path, 60, label=label)
    sample = drawn(StoredRows(storage.address()), 100)
    assert {r.row for r in sample.rows} == set(range(50, 60))
