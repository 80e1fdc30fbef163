"""People who say which of two answers is better: what they are asked, and what it comes to."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from pipeline.errors import AlreadyRunning, UsageError
from pipeline.output.reviews.gold import gold_of
from pipeline.output.runs.run_registry import RunRecord, own_process, this_machine
from pipeline.report.comparison.judgement import CRITERIA
from pipeline.service.review.pair_material import CHOICES, LEFT, RIGHT, TIE, open_pairs
from pipeline.service.review.pairs import PairSession
from pipeline.storage.base import open_storage
from tests.support.labelled import answered, labelled

Outputs = list[str]


@pytest.fixture
def outputs(tmp_path: Path) -> Outputs:
    """Of 60 rows; answers to every third are the same."""
    answered(tmp_path, "a", lambda row: f"short {row}")
    answered(tmp_path, "b", lambda row: f"{'short' if row % 3 == 0 else 'longer'} {row}")
    return [str(tmp_path / "a"), str(tmp_path / "b")]


def session_of(
    outputs: Outputs, reviewer: str = "anna", rows: int | None = 20, criteria: str = CRITERIA
) -> PairSession:
    return PairSession(open_pairs(outputs, criteria, rows), reviewer)


def prefer(session: PairSession, word: str, number: int) -> None:
    """Say that the answer that begins with ``word`` is better, wherever it stands."""
    _, (_, left), _ = session.texts(number)
    session.answer(number, LEFT if left.startswith(word) else RIGHT)


class TestWhatIsAsked:
    def test_so_many_rows_whose_answers_differ_and_all_before_the_next_one(
        self, outputs: Outputs
    ) -> None:
        material = session_of(outputs).material
        assert len(material.asked) == 20
        assert all(len(set(one.sides)) == 2 for one in material.asked.values())
        differ = [row[0].differs for row in material.rows]
        assert 20 == sum(differ) < len(differ) < 60
        assert (len(session_of(outputs, rows=None).keys), material.more) == (40, True)
        assert not session_of(outputs, rows=40).material.more

        one_more = session_of(outputs, rows=21).material
        assert one_more.rows[len(material.rows)][0].differs
        assert one_more.rows[: len(material.rows)] == material.rows

    def test_the_same_for_every_reviewer_and_in_whichever_order_outputs_are_named(
        self, outputs: Outputs
    ) -> None:
        one, other = session_of(outputs), session_of(outputs[::-1], "ben")
        assert one.keys == other.keys
        assert [one.texts(n) for n in range(20)] == [other.texts(n) for n in range(20)]

    def test_each_output_stands_left_about_as_often(self, outputs: Outputs) -> None:
        lefts = Counter(
            one.sides[0].split()[0] for one in session_of(outputs, rows=40).material.asked.values()
        )
        assert 10 < lefts["short"] < 30

    def test_other_criteria_are_another_question(self, outputs: Outputs) -> None:
        session_of(outputs).answer(0, LEFT)
        again = session_of(outputs, criteria="Which is shorter?")
        assert again.view().number == 0
        assert session_of(outputs).view().number == 1

    def test_what_was_said_of_other_answers_counts_for_nothing(
        self, outputs: Outputs, tmp_path: Path
    ) -> None:
        session_of(outputs).answer(0, LEFT)
        answered(tmp_path, "c", lambda row: f"other {row}")
        assert session_of([outputs[0], str(tmp_path / "c")]).result().answered == 0
        assert session_of(outputs).result().answered == 1

    def test_the_texts_of_the_row_come_before_the_answers(self, outputs: Outputs) -> None:
        (column, text), (_, left), (_, right) = session_of(outputs).texts(0)
        assert column == "text"
        assert text.split()[1] == left.split()[1] == right.split()[1]

    def test_of_three_outputs_two_same_answers_are_asked_about_once(
        self, outputs: Outputs, tmp_path: Path
    ) -> None:
        answered(tmp_path, "c", lambda row: f"longer {row}")  # two in three are those of b
        session = session_of([*outputs, str(tmp_path / "c")], rows=60)
        assert len(session.keys) == 60
        for number in range(60):
            prefer(session, "longer", number)
        found = session.result().counted
        assert found.judgement is not None
        assert [(m.one, m.other, m.wins, m.losses, m.ties) for m in found.judgement.meetings] == [
            (0, 1, 0, 40, 20),
            (0, 2, 0, 60, 0),
            (1, 2, 0, 20, 40),
        ]


class TestWhatItComesTo:
    def test_the_better_wins_wherever_it_stood_and_same_answers_tie(self, outputs: Outputs) -> None:
        session = session_of(outputs, rows=40)
        for number in range(40):
            prefer(session, "longer", number)
        told = session.as_json()
        [meeting] = told["meetings"]
        assert (meeting["wins"], meeting["losses"], meeting["ties"]) == (0, 40, 20)
        assert meeting["won"]["value"] == 0
        assert told["strengths"][0]["elo"] < 0 < told["strengths"][1]["elo"]
        assert 0.2 < told["shown_first"]["value"] < 0.8
        assert (told["rows"], told["answered"], told["go_on"]) == (60, 40, None)

    def test_the_outputs_named_the_other_way_round_are_another_folder(
        self, outputs: Outputs
    ) -> None:
        session_of(outputs).answer(0, LEFT)
        assert session_of(outputs[::-1]).result().answered == 0

    def test_who_always_says_left_prefers_a_place(self, outputs: Outputs) -> None:
        session = session_of(outputs, rows=40)
        for number in range(40):
            session.answer(number, LEFT)
        judgement = session.result().counted.judgement
        assert judgement is not None
        assert (judgement.shown_first.part, judgement.shown_first.whole) == (40, 40)

    def test_rows_count_up_to_the_first_that_nobody_has_answered(self, outputs: Outputs) -> None:
        session = session_of(outputs)
        for number in (0, 1, 2, 4, 5):
            session.answer(number, TIE)
        found = session.result().counted
        rows = session.material.rows
        fourth = [n for n, row in enumerate(rows) if row[0].differs][3]
        assert (found.rows, found.waiting) == (fourth, 2)
        session_of(outputs, "ben").answer(3, LEFT)
        found = session.result().counted
        assert found.rows > fourth + 2
        assert found.waiting == 0

    def test_a_row_of_which_nobody_is_sure_is_left_out(self, outputs: Outputs) -> None:
        session, other = session_of(outputs), session_of(outputs, "ben")
        for number in range(20):
            session.answer(number, None if number < 4 else TIE)
        whole = len(session.material.rows)
        found = session.result().counted
        assert (found.rows, found.unsure) == (whole - 4, 4)
        other.answer(0, RIGHT)
        found = session.result().counted
        assert (found.rows, found.unsure) == (whole - 3, 3)

    def test_two_reviewers_are_compared_and_contradictions_tie(self, outputs: Outputs) -> None:
        anna, ben = session_of(outputs), session_of(outputs, "ben")
        for number in range(20):
            prefer(anna, "longer", number)
            prefer(ben, "short" if number < 5 else "longer", number)
        told = anna.as_json()
        assert told["reviewers"] == {"anna": 20, "ben": 20}
        [meeting] = told["meetings"]
        assert (meeting["losses"], meeting["unlike"]) == (15, 5)
        assert 0 < told["kappa"] < 1
        assert 0 < told["alpha"] < 1

    def test_before_the_first_verdict_there_is_no_judgement(self, outputs: Outputs) -> None:
        session = session_of(outputs)
        session.answer(0, None)
        told = session.as_json()
        assert told["strengths"] is told["meetings"] is told["shown_first"] is None
        assert told["go_on"] == session.command()


class TestThePage:
    def test_who_is_ahead_and_which_is_which_is_said_at_the_end_alone(
        self, outputs: Outputs
    ) -> None:
        session = session_of(outputs)
        for number in range(20):
            view = session.view()
            shown = repr((session.title, session.subject, view.facts, view.lines))
            assert not any(output in shown for output in outputs)
            assert view.facts["judgement"] is None
            session.answer(number, CHOICES[number % 3])
        view = session.view()
        assert view.facts["outputs"] == tuple(outputs)
        assert view.facts["judgement"] is not None
        assert "--rows 70" in str(view.facts["more"])

    def test_a_second_session_goes_on_and_undo_takes_an_earlier_ones_answer_back(
        self, outputs: Outputs
    ) -> None:
        session = session_of(outputs)
        for number in range(3):
            session.answer(number, LEFT)
        again = session_of(outputs, rows=30)
        assert again.view().number == 3
        assert again.undo() == 2
        assert session_of(outputs).result().answered == 2

    def test_the_command_that_goes_on_asks_the_same(self, outputs: Outputs) -> None:
        plain = session_of(outputs, rows=None)
        assert plain.command() == f"rackmill judge {' '.join(outputs)} --human --reviewer anna"
        other = session_of(outputs, criteria="Which is shorter?").command()
        assert other.endswith("--criteria 'Which is shorter?' --rows 20")


class TestRefusals:
    def test_answers_that_are_all_the_same(self, outputs: Outputs, tmp_path: Path) -> None:
        answered(tmp_path, "c", lambda row: f"short {row}")
        with pytest.raises(UsageError, match="the same answers in all 60 rows"):
            session_of([outputs[0], str(tmp_path / "c")])

    @pytest.mark.parametrize("which", [0, 1])
    def test_an_output_that_is_being_written(self, outputs: Outputs, which: int) -> None:
        pid, started = own_process()
        record = RunRecord("r", "host", this_machine(), pid, started, started, started)
        open_storage(outputs[which]).replace(record.path, record.encode())
        with pytest.raises(AlreadyRunning, match="another run works on"):
            session_of(outputs)

    def test_an_output_that_is_not_finished(self, outputs: Outputs, tmp_path: Path) -> None:
        answered(tmp_path, "c", lambda row: f"other {row}", rows=300, finished=False)
        with pytest.raises(UsageError, match="not finished: 128 of 300 rows"):
            session_of([outputs[0], str(tmp_path / "c")])

    def test_a_name_that_is_none_for_a_file(self, outputs: Outputs) -> None:
        with pytest.raises(UsageError, match="not a name for a file"):
            session_of(outputs, "../anna")


def test_labels_and_pairs_of_one_output_do_not_mix(tmp_path: Path) -> None:
    labelled(tmp_path, 40, output="a")
    labelled(tmp_path, 40, output="b", choices=("x", "y"))
    outputs = [str(tmp_path / name) for name in "ab"]
    session = session_of(outputs)
    for number in range(20):
        session.answer(number, TIE)
    assert gold_of(session.material.storage, "label") == []
    assert session_of(outputs).result().answered == 20


def test_the_first_output_may_lie_on_an_object_store(tmp_path: Path, memory: str) -> None:
    answered(tmp_path, memory, lambda row: f"short {row}")
    answered(tmp_path, "b", lambda row: f"longer {row}")
    outputs = [memory, str(tmp_path / "b")]
    session = session_of(outputs)
    for number in range(4):
        session.answer(number, LEFT)
    session.undo()
    assert session_of(outputs).result().answered == 3
