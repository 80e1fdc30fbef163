"""What people say on the page is what `rackmill trust` calibrates by."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq

from pipeline.service.review.material import open_material
from pipeline.service.review.numbers import numbers_of
from pipeline.service.review.session import Session
from tests.labelled import labelled
from tests.processes import Finished


def session_of(output: str) -> Session:
    return Session(open_material(output, None, 120), "anna")


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
