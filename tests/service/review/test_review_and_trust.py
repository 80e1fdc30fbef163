"""What people say on the page is what `rackmill trust` calibrates by."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq

from pipeline.service.review.labels import LabelSession, numbers_of, open_material
from tests.support.labelled import labelled
from tests.support.processes import Finished


def session_of(output: str) -> LabelSession:
    return LabelSession(open_material(output, None, 120), "anna")


def test_reviews_calibrate_and_the_page_goes_on_judging_the_models_own_answers(
    ask: Callable[..., Finished], tmp_path: Path
) -> None:
    output = labelled(tmp_path, 300).address()
    session = session_of(output)
    for number, (_, row) in enumerate(session.places):
        model = session.material.rows[session.places[number]].answer
        wrong = row % 7 == 0
        session.answer(number, ("bad" if model == "good" else "good") if wrong else model)
    before = numbers_of(session.material, session.answers())

    told = ask("trust", output, "--json")

    assert told.code == 0, told.err
    random = sum(one.random for one in session.material.sample.asked())
    gold = told.json["questions"]["label"]["gold"]
    assert gold == {"rows": 120, "at_random": random, "probabilities_known": True}
    assert pq.read_table(output)["confidence"] != pq.read_table(output)["raw_confidence"]
    again = session_of(output)
    assert again.places == session.places
    assert numbers_of(again.material, again.answers()) == before


class TestWhatReviewsCannotTell:
    """Nothing is written, and what is missing is said."""

    @staticmethod
    def reviewed(tmp_path: Path, rows: int, say: Callable[[int, str], str]) -> str:
        output = labelled(tmp_path, 300).address()
        session = LabelSession(open_material(output, None, rows), "anna")
        for number, place in enumerate(session.places):
            model = session.material.rows[place].answer
            session.answer(number, say(place[1], str(model)))
        return output

    def test_of_one_label_alone(self, ask: Callable[..., Finished], tmp_path: Path) -> None:
        output = self.reviewed(tmp_path, 60, lambda row, model: "good")
        told = ask("trust", output)
        assert told.code == 2
        assert "are 'good': nothing can be learned from one label alone" in told.err
        assert f"rackmill review {output}" in told.err

    def test_an_error_that_cannot_be_promised_says_the_best_that_can(
        self, ask: Callable[..., Finished], tmp_path: Path
    ) -> None:
        def say(row: int, model: str) -> str:
            return ("bad" if model == "good" else "good") if row % 7 == 0 else model

        output = self.reviewed(tmp_path, 200, say)
        told = ask("trust", output, "--error", "0.001")
        assert told.code == 2
        assert "can be promised of no rows yet" in told.err
        assert "the best that these right answers allow: --error 0." in told.err

    def test_a_promise_of_a_few_rows_says_how_many_more_it_needs(
        self, ask: Callable[..., Finished], tmp_path: Path
    ) -> None:
        output = self.reviewed(tmp_path, 30, lambda row, model: model)
        told = ask("trust", output, "--error", "0.01")
        assert told.code == 2
        assert "can be promised of no rows" in told.err
        assert "more right answers, at least" in told.err
