"""A reviewer's session: what is asked next, what is saved, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.errors import AlreadyRunning, UsageError
from pipeline.input.changes.increment import Increment
from pipeline.output.growing.growing import GrowingDataset
from pipeline.output.reviews.gold import gold_of
from pipeline.output.runs.run_registry import RunRecord, own_process, this_machine
from pipeline.report.comparison.intervals import Share
from pipeline.service.review.agreement import Agreement
from pipeline.service.review.labels import LabelSession, numbers_of, open_material
from pipeline.storage.base import Storage
from tests.support.labelled import labelled, with_questions
from tests.support.processes import Finished


@pytest.fixture
def output(tmp_path: Path) -> Storage:
    return labelled(tmp_path, 60)


def session_of(output: Storage, reviewer: str = "anna", rows: int = 20) -> LabelSession:
    return LabelSession(open_material(output.address(), None, rows), reviewer)


def test_rows_are_asked_about_one_after_the_other_and_a_second_session_goes_on(
    output: Storage,
) -> None:
    session = session_of(output)
    for number in range(5):
        assert session.view().number == number
        session.answer(number, "good" if number else None)

    again = session_of(output)
    assert again.view().number == 5
    assert (session.saved, again.saved) == (5, 0)
    assert len(gold_of(output, "label")) == 4  # the first is not known


def test_the_same_answer_twice_is_one_and_another_one_replaces_it(output: Storage) -> None:
    session = session_of(output)
    for value in ("good", "good", "bad"):
        session.answer(0, value)
    lines = (output.read("_rackmill/reviews/anna.jsonl") or b"").splitlines()
    assert len(lines) == 2
    assert [a.value for a in session.own().values()] == ["bad"]
    assert session.saved == 1


def test_undo_takes_the_last_answer_back_also_one_of_an_earlier_session(output: Storage) -> None:
    session = session_of(output)
    session.answer(0, "good")
    session.answer(1, "bad")
    again = session_of(output)
    assert again.undo() == 1
    assert again.view().number == 1
    assert again.undo() == 0
    assert again.undo() is None
    lines = (output.read("_rackmill/reviews/anna.jsonl") or b"").splitlines()
    assert len(lines) == 4  # an undo is a line, too


def test_whether_the_models_answer_was_seen_is_kept(output: Storage) -> None:
    session = session_of(output)
    session.answer(0, "good")
    session.shown = True
    session.answer(1, "good")
    assert [answer.seen for answer in session.own().values()] == [False, True]


@pytest.mark.parametrize(("number", "value"), [(20, "good"), (-1, "good"), (0, "fine")])
def test_rows_and_values_that_are_none_are_refused(
    output: Storage, number: int, value: str
) -> None:
    session = session_of(output)
    with pytest.raises(UsageError):
        session.answer(number, value)
    assert session.own() == {}


class TestNumbers:
    def test_the_models_accuracy_counts_random_rows_only(self, output: Storage) -> None:
        session = session_of(output)
        for number, place in enumerate(session.places):
            session.answer(number, session.material.rows[place].answer)
        asked = session.material.sample.asked()
        random = sum(one.random for one in asked)
        assert random < len(asked)
        numbers = numbers_of(session.material, session.answers())
        assert numbers.right == Share(random, random)
        assert numbers.agreement == Agreement({"anna": len(session.places)})

    def test_of_three_reviewers_there_is_alpha_and_no_kappa(self, output: Storage) -> None:
        for name in ("anna", "ben", "cleo"):
            session = session_of(output, name)
            for number in range(4):
                session.answer(number, "good" if number % 2 else "bad")
        numbers = numbers_of(session.material, session.answers())
        assert numbers.agreement == Agreement(
            dict.fromkeys(("anna", "ben", "cleo"), 4), None, 1.0, 4
        )

    def test_two_reviewers_are_compared_on_what_both_labelled(self, output: Storage) -> None:
        anna, ben = session_of(output), session_of(output, "ben")
        for number in range(10):
            anna.answer(number, "good" if number % 2 else "bad")
            if number < 6:
                ben.answer(number, "good" if number % 2 or number == 4 else "bad")
        ben.answer(6, None)
        numbers = numbers_of(anna.material, anna.answers())
        assert numbers.agreement.both == 6
        assert numbers.agreement.reviewers == {"anna": 10, "ben": 7}
        assert numbers.agreement.kappa == pytest.approx(2 / 3)  # 5 of 6 alike, 1/2 by chance
        assert numbers.agreement.alpha is not None


class TestRefusals:
    def test_an_output_that_is_being_written(self, output: Storage) -> None:
        pid, started = own_process()
        record = RunRecord("r", "host", this_machine(), pid, started, started, started)
        output.replace(record.path, record.encode())
        with pytest.raises(AlreadyRunning, match="another run works on"):
            open_material(output.address(), None, None)

    def test_an_output_that_is_not_finished(self, tmp_path: Path) -> None:
        output = labelled(tmp_path, 300, finished=False)
        with pytest.raises(UsageError, match=r"not finished: 128 of 300 rows") as e:
            open_material(output.address(), None, None)
        assert any("rackmill run" in hint for hint in e.value.hints)

    def test_an_output_that_kept_nothing_to_show(self, tmp_path: Path) -> None:
        output = labelled(tmp_path, 40, keep=[])
        with pytest.raises(UsageError, match="nothing to show reviewers") as e:
            open_material(output.address(), None, None)
        assert "output: {keep: [text]}" in e.value.hints[0]

    def test_a_folder_that_is_no_output(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="no output of rackmill"):
            open_material(str(tmp_path), None, None)


def test_the_output_may_lie_on_an_object_store(tmp_path: Path, memory: str) -> None:
    session = session_of(labelled(tmp_path, 60, output=memory))
    for number in range(4):
        session.answer(number, "good")
    session.undo()
    assert len(gold_of(session.material.storage, "label")) == 3


def test_one_question_of_several_is_reviewed_a_predicate_by_no_and_yes(tmp_path: Path) -> None:
    output = with_questions(tmp_path, 40)
    with pytest.raises(UsageError, match="answers 2 questions: mood, urgent") as e:
        open_material(output.address(), None, None)
    assert "--question mood" in e.value.hints[0]

    session = LabelSession(open_material(output.address(), "urgent", 20), "anna")
    assert session.material.question.choices == ("no", "yes")
    assert {row.answer for row in session.material.rows.values()} == {"no", "yes"}
    for number, place in enumerate(session.places):
        session.answer(number, session.material.rows[place].answer)
    numbers = numbers_of(session.material, session.answers())
    assert numbers.right is not None
    assert numbers.right.value == 1
    assert {g.value for g in gold_of(output, "urgent")} == {"no", "yes"}
    assert gold_of(output, "mood") == []


def test_the_runs_of_a_schedule_are_reviewed_as_one_dataset(tmp_path: Path) -> None:
    dataset = GrowingDataset(str(tmp_path / "out"))
    for number in (1, 2):
        name = f"2026-11-2{number}T02-00-00Z"
        dataset.begin(name, "nightly", Increment(()), [], full=False)
        output = str(tmp_path / f"out/_runs/{name}")
        labelled(tmp_path / f"night-{number}", 40, output=output, file=f"{number}.parquet")
    dataset.recover()

    session = LabelSession(open_material(str(tmp_path / "out"), None, 60), "anna")
    assert session.material.sample.population == 80
    session.answer(0, "good")
    assert len(gold_of(session.material.storage, "label")) == 1
    assert len(GrowingDataset(str(tmp_path / "out")).published()) == 2


def test_a_reviewed_output_is_still_whole_and_has_nothing_to_clean(
    output: Storage, ask: Callable[..., Finished]
) -> None:
    session_of(output).answer(0, "good")
    assert ask("verify", output.address()).code == 0
    assert "reviews" not in ask("clean", output.address(), "--dry-run").out
    assert len(gold_of(output, "label")) == 1
