"""Several questions of a row in a job file: what may be asked, and what is refused in which
words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline import Job, UsageError, load_job
from pipeline.job.answer.questions import LABEL_COLUMNS
from pipeline.job.fingerprint import fingerprint_parts
from tests.support.samples import job

MOOD = {"ask": "Mood:", "choices": ["good", "bad"]}
URGENT = {"predicate": "Is it urgent?"}
QUALITY = {"ask": "Quality:", "score": ["poor", "fair", "good"]}
ALL = {"mood": MOOD, "urgent": URGENT, "quality": QUALITY}


def refusal(questions: Any, **changes: Any) -> str:
    with pytest.raises(UsageError) as caught:
        job(questions=questions, **changes)
    return str(caught.value)


def written(folder: Path, questions: str, *settings: str) -> Job:
    """The job of a file with these lines under ``questions``."""
    text = (
        "name: q\nmodel: m\ninput: {path: in.csv}\noutput: {path: out}\n"
        f"prompt: '{{text}}'\nquestions:\n{questions}"
    )
    (folder / "job.yaml").write_text(text)
    return load_job(folder / "job.yaml", settings)


def parts(made: Job) -> dict[str, Any]:
    return fingerprint_parts(made, model_hash="m", input_hash="i")


def test_all_kinds_of_questions_are_asked_in_their_order() -> None:
    asked = job(questions=ALL).asked

    assert [(one.name, one.kind, one.text, one.choices) for one in asked] == [
        ("mood", "choice", "Mood:", ("good", "bad")),
        ("urgent", "predicate", "Is it urgent? Yes or no:", ("no", "yes")),
        ("quality", "score", "Quality:", ("poor", "fair", "good")),
    ]


def test_columns_are_named_after_their_question() -> None:
    mood, urgent, quality = (list(one.columns) for one in job(questions=ALL).asked)
    sure = ("accepted", "raw_confidence", "probabilities")

    assert mood == ["mood", "mood_confidence", *(f"mood_{one}" for one in sure)]
    assert urgent == ["urgent", "urgent_probability", *(f"urgent_{one}" for one in sure)]
    assert quality[:3] == ["quality", "quality_confidence", "quality_expectation"]


def test_a_label_of_choices_is_one_question_without_a_text() -> None:
    [asked] = job(label={"choices": ["a", "b"]}).asked

    assert (asked.name, asked.text, asked.columns) == ("label", None, LABEL_COLUMNS)
    assert job(label={"regex": "a"}).asked == ()


def test_nothing_is_generated_for_questions() -> None:
    made = job(questions=ALL)

    assert (made.generates, made.longest_answer, made.answers) == (False, 1, 1)


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ({"ask": "A:"}, "exactly one of choices, predicate and score"),
        ({**MOOD, "predicate": "Is it?"}, "exactly one of choices, predicate and score"),
        ({"choices": ["a", "b"]}, "say what is asked"),
        ({**URGENT, "ask": "A:"}, "leave ask away"),
        ({"ask": " ", "choices": ["a", "b"]}, "the text is empty"),
        ({"ask": "A:", "choices": ["a"]}, "at least two choices"),
        ({"ask": "A:", "choices": ["a", "b", "a"]}, "names one choice twice"),
        ({"ask": "A:", "choices": ["a", " "]}, "a choice is empty"),
        ({"ask": "A:", "choices": ["a", True]}, "a choice is true or false"),
        ({"ask": "A:", "choices": [f"c{n}" for n in range(256)]}, "255 entries or fewer"),
        ({"ask": "A:", "score": ["a"]}, "at least two levels"),
        ({"ask": "A:", "score": [f"l{n}" for n in range(11)]}, "10 entries or fewer"),
        ({**MOOD, "chioces": ["a"]}, "did you mean 'choices'?"),
        ({**MOOD, "gold": {"column": "g", "values": {"0": "goood"}}}, "which is no choice"),
        ("Mood:", "give a mapping"),
    ],
)
def test_a_question_that_cannot_be_asked_is_refused_with_its_place(
    question: Any, said: str
) -> None:
    found = refusal({"mood": question})

    assert "questions.mood" in found
    assert said in found


@pytest.mark.parametrize("name", ["", "1st", "a b", "a.b", "a-b", "x" * 65])
def test_a_name_that_could_be_no_column_is_refused(name: str) -> None:
    assert "give text of the form" in refusal({name: MOOD})


@pytest.mark.parametrize(
    "questions",
    [
        {"mood": MOOD, "mood_confidence": URGENT},
        {"urgent_probabilities": MOOD, "urgent": URGENT},
        {"error": MOOD},
        {"prompt_tokens": MOOD},
    ],
)
def test_two_columns_of_one_name_are_refused(questions: dict[str, Any]) -> None:
    assert "give it another name" in refusal(questions)


def test_there_are_one_to_two_hundred_questions() -> None:
    assert len(job(questions={f"q{n}": URGENT for n in range(200)}).asked) == 200
    assert "200 entries or fewer" in refusal({f"q{n}": URGENT for n in range(201)})
    assert "1 entries or more" in refusal({})


def test_questions_are_all_that_is_asked() -> None:
    assert "either label or questions" in refusal(ALL, label={"choices": ["a", "b"]})
    assert "either score or questions" in refusal(ALL, score={"completion": "text"})
    assert "sampling.n: 2" in refusal(ALL, sampling={"n": 2, "temperature": 1.0})


def test_choices_are_what_is_written(tmp_path: Path) -> None:
    made = written(tmp_path, "  v: {ask: 'V:', choices: [1.10, yes, 012, 10:30, null word]}\n")

    assert made.asked[0].choices == ("1.10", "yes", "012", "10:30", "null word")


def test_levels_and_names_of_gold_values_are_what_is_written(tmp_path: Path) -> None:
    made = written(
        tmp_path,
        "  on: {ask: 'V:', score: [no, yes], gold: {column: g, values: {0: no, 1: yes}}}\n",
    )

    [asked] = made.asked
    assert (asked.name, asked.choices) == ("on", ("no", "yes"))
    assert asked.graded.gold_values == {"0": "no", "1": "yes"}


def test_a_key_of_one_question_can_be_set(tmp_path: Path) -> None:
    lines = "  mood: {ask: 'Mood:', choices: [a, b]}\n  urgent: {predicate: 'Is it?'}\n"
    made = written(tmp_path, lines, "questions.mood.choices=[1.0, 2.0]", "questions.urgent.gold=g")

    assert made.asked[0].choices == ("1.0", "2.0")
    assert made.gold_columns == ("g",)


def test_a_wrong_key_is_named_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"line 7: unknown key 'questions\.mood\.asks'.*'ask'"):
        written(tmp_path, "  mood: {asks: 'Mood:', choices: [a, b]}\n")


class TestFingerprint:
    def test_order_and_texts_make_another_job(self) -> None:
        made = job(questions=ALL)

        assert parts(made) == parts(job(questions=ALL))
        assert parts(made) != parts(job(questions=dict(reversed(ALL.items()))))
        assert parts(made) != parts(job(questions={**ALL, "urgent": {"predicate": "Urgent?"}}))

    def test_right_answers_do_not(self) -> None:
        graded = {**ALL, "mood": {**MOOD, "gold": {"column": "g", "values": {"0": "bad"}}}}

        assert parts(job(questions=graded)) == parts(job(questions=ALL))

    def test_jobs_without_questions_are_the_jobs_they_were(self) -> None:
        assert "questions" not in parts(job(label={"choices": ["a", "b"]}))


class TestExamples:
    def refused(self, answer: object) -> str:
        return refusal(ALL, examples=[{"text": "x", "answer": answer}])

    def test_an_example_answers_some_of_the_questions(self) -> None:
        answer = {"mood": "bad", "urgent": True}
        made = job(questions=ALL, examples=[{"text": "x", "answer": answer}])

        assert made.examples[0]["answer"] == answer

    def test_an_answer_without_a_question_is_refused(self) -> None:
        assert "example 1: of a job with questions say which it answers" in self.refused("bad")

    def test_an_unknown_question_is_named_with_the_nearest(self) -> None:
        assert "'moood', which is no question; did you mean 'mood'?" in self.refused(
            {"moood": "bad"}
        )

    def test_an_answer_that_is_no_choice_is_refused(self) -> None:
        assert "its answer to 'quality' is not one of poor, fair, good" in self.refused(
            {"quality": "great"}
        )
