"""Several questions of a row: their prompts, their requests, and the row's result and columns."""

from __future__ import annotations

import io
import math
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.driver.forecast.request_shape import answer_kind
from pipeline.errors import RowError, RowErrorType
from pipeline.model.tokenizer import Tokenizer
from pipeline.output.columns.question_columns import labels_in
from pipeline.output.columns.results import RowResult, output_columns, tally, to_table
from pipeline.output.tally import Tally
from pipeline.output.totals import totals
from pipeline.prompt.answers import Answers
from pipeline.prompt.builder import PromptBuilder
from pipeline.prompt.join import Prompt
from pipeline.rows.request import Completion, Request
from pipeline.rows.workload import RequestShape, requests
from pipeline.worker.answer_cache.file import AnswerFile, encode
from tests.support.samples import job, quick

QUESTIONS: dict[str, Any] = {
    "mood": {"ask": "Mood:", "choices": ["positive", "negative", "negutral"], "gold": "mood"},
    "urgent": {"predicate": "Urgent?", "gold": "urgent"},
    "quality": {"ask": "Quality:", "score": ["no", "nothing"]},
}
NAMES = list(QUESTIONS)
CHAT = {"prompt": None, "messages": [{"role": "user", "content": "{text}"}]}
INPUT = pa.schema([("text", pa.string()), ("mood", pa.string()), ("urgent", pa.bool_())])


def built(tokenizer: Tokenizer, text: str = "a b", **changes: Any) -> Prompt:
    made = job(**{"questions": QUESTIONS} | changes)
    [prompt] = PromptBuilder(made, tokenizer).build([{"text": text}])
    assert isinstance(prompt, Prompt)
    return prompt


def texts(prompt: Prompt, tokenizer: Tokenizer) -> list[str]:
    return [tokenizer.decode(one.ids[1:]) for one in prompt.asked]


class Row:
    """A row on its way, whose completions are made up."""

    def __init__(self, tokenizer: Tokenizer, context: int = 100, **changes: Any) -> None:
        self.prompt = built(tokenizer, **changes)
        made = job(**{"questions": QUESTIONS} | changes)
        self.answer = Answers(made, tokenizer, max_model_len=context).answer(self.prompt)

    def walk(self, odds: dict[int, float]) -> RowResult:
        waiting = self.answer.start()
        while waiting:
            request = waiting.pop()
            waiting += self.answer.receive(completion(request, odds))
        assert self.answer.result is not None
        return self.answer.result


def completion(request: Request, odds: dict[int, float]) -> Completion:
    scores = {t: math.log(odds.get(t, 1e-3)) for t in request.logprob_ids}
    return Completion(request.id, "", 1, "length", scores)


def token(tokenizer: Tokenizer, text: str) -> int:
    [one] = tokenizer.encode_plain(text)
    return one


@pytest.fixture
def odds(tokenizer: Tokenizer) -> dict[int, float]:
    told = {" pos": 0.2, "itive": 1.0, " neg": 0.6, "ative": 0.25, "utral": 0.75, "thing": 0.25}
    return {token(tokenizer, t): p for t, p in told.items()} | {
        token(tokenizer, " yes"): 0.6,
        token(tokenizer, " no"): 0.2,
    }


@pytest.fixture
def result(tokenizer: Tokenizer, odds: dict[int, float]) -> RowResult:
    return Row(tokenizer).walk(odds)


def table(
    *results: RowResult, mood: str | None = "positive", urgent: bool | None = True
) -> tuple[pa.Table, Tally]:
    """Of rows with these right answers."""
    columns = output_columns(job(questions=QUESTIONS), INPUT)
    inputs = pa.table(
        {
            "text": ["a"] * len(results),
            "mood": [mood] * len(results),
            "urgent": [urgent] * len(results),
        },
        schema=INPUT,
    )
    return to_table(inputs, results, columns), tally(inputs, results, columns)


class TestPrompts:
    def test_each_question_is_asked_on_the_line_after_the_rows_text(
        self, tokenizer: Tokenizer
    ) -> None:
        assert texts(built(tokenizer), tokenizer) == [
            "a b\nMood:",
            "a b\nUrgent? Yes or no:",
            "a b\nQuality:",
        ]

    @quick
    @given(st.text(" =no\n", max_size=9))
    def test_all_begin_with_the_tokens_of_the_rows_text(
        self, tokenizer: Tokenizer, text: str
    ) -> None:
        prompt = built(tokenizer, f"x{text}")

        assert tokenizer.decode(prompt.ids[1:]) == f"x{text}".rstrip()
        assert all(one.ids[: len(prompt.ids)] == prompt.ids for one in prompt.asked)
        assert prompt.longest == max(len(one.ids) for one in prompt.asked)
        added = [len(one.ids) - len(prompt.ids) for one in prompt.asked]
        assert prompt.tokens == len(prompt.ids) + sum(added)

    def test_token_ids_from_a_column_are_gone_on_from(self, tokenizer: Tokenizer) -> None:
        made = job(questions=QUESTIONS, prompt={"column": "ids"})
        [prompt] = PromptBuilder(made, tokenizer).build([{"ids": [2, 9, 9]}])

        assert isinstance(prompt, Prompt)
        assert prompt.ids == [2, 9, 9]
        assert tokenizer.decode(prompt.asked[0].ids[3:]) == "\nMood:"

    def test_an_example_stands_once_for_each_question_that_it_answers(
        self, tokenizer: Tokenizer
    ) -> None:
        examples = [{"text": "c", "answer": {"urgent": True, "mood": "negative"}}]
        [mood, _, _] = texts(built(tokenizer, examples=examples, instructions="Say."), tokenizer)

        head = "Say.\n\nc\nUrgent? Yes or no: yes\n\nc\nMood: negative\n\n"
        assert mood == f"{head}a b\nMood:"

    def test_in_a_chat_the_question_ends_the_users_last_message(
        self, chat_tokenizer: Tokenizer
    ) -> None:
        prompt = built(chat_tokenizer, **CHAT)

        assert texts(prompt, chat_tokenizer)[0] == "[user]a b\n\nMood:\n[model]"
        assert chat_tokenizer.decode(prompt.ids[1:]) == "[user]a b\n\n"

    def test_after_a_reply_it_is_a_message_of_its_own(self, chat_tokenizer: Tokenizer) -> None:
        turns = [*CHAT["messages"], {"role": "assistant", "content": "c"}]  # type: ignore[misc]
        prompt = built(chat_tokenizer, prompt=None, messages=turns)

        assert texts(prompt, chat_tokenizer)[0] == "[user]a b\n[assistant]c\n[user]Mood:\n[model]"

    def test_names_of_control_tokens_in_rows_are_text(self, tokenizer: Tokenizer) -> None:
        prompt = built(tokenizer, "a <eos>")

        assert all(one.ids.count(1) == 0 for one in prompt.asked)

    def test_a_row_without_a_text_is_an_error_row(self, tokenizer: Tokenizer) -> None:
        [error] = PromptBuilder(job(questions=QUESTIONS), tokenizer).build([{"text": None}])

        assert isinstance(error, RowError)


class TestAnswers:
    def test_a_rows_questions_are_asked_together(self, tokenizer: Tokenizer) -> None:
        row = Row(tokenizer)
        asked = row.answer.start()

        assert len(asked) == 3
        assert [r.prompt_ids[: len(row.prompt.ids)] for r in asked] == [row.prompt.ids] * 3

    def test_each_has_its_own_answer(self, result: RowResult) -> None:
        mood, urgent, quality = result.answers

        assert (mood.label, urgent.label, quality.label) == ("negutral", "yes", "no")
        assert mood.probabilities == pytest.approx((0.25, 0.1875, 0.5625))
        assert urgent.probabilities == pytest.approx((0.25, 0.75))
        assert quality.probabilities == pytest.approx((0.75, 0.25))

    def test_the_row_counts_its_text_once_and_all_that_was_asked(
        self, tokenizer: Tokenizer, result: RowResult
    ) -> None:
        assert result.prompt_tokens == built(tokenizer).tokens
        assert (result.requests, result.completion_tokens) == (5, 4)

    def test_the_answer_is_that_of_a_job_with_the_question_alone(
        self, tokenizer: Tokenizer, odds: dict[int, float], result: RowResult
    ) -> None:
        for number, name in enumerate(NAMES):
            alone = Row(tokenizer, questions={name: QUESTIONS[name]}).walk(odds)
            assert alone.answers == (result.answers[number],)

    def test_the_error_of_one_question_is_the_rows_and_names_it(self, tokenizer: Tokenizer) -> None:
        row = Row(tokenizer)
        _, second, _ = row.answer.start()
        refused = RowError(RowErrorType.ENGINE_FAILURE, "no", 1)
        assert row.answer.receive(Completion(second.id, error=refused)) == []

        assert row.answer.result is not None
        assert row.answer.result.error == RowError(
            RowErrorType.ENGINE_FAILURE, "question 'urgent': no", 1
        )

    def test_choices_that_do_not_fit_name_their_question(self, tokenizer: Tokenizer) -> None:
        row = built(tokenizer)
        longest = {"ask": "M:", "choices": ["positive positive", "no"]}
        with pytest.raises(RowError) as caught:
            Row(tokenizer, len(row.ids) + 4 + 2, questions={"mood": longest})

        assert caught.value.type is RowErrorType.PROMPT_TOO_LONG
        assert "question 'mood'" in caught.value.message

    def test_a_row_too_long_for_one_of_its_questions_is_an_error(
        self, tokenizer: Tokenizer
    ) -> None:
        with pytest.raises(RowError) as caught:
            Row(tokenizer, built(tokenizer).longest)

        assert caught.value.type is RowErrorType.PROMPT_TOO_LONG

    def test_any_number_of_choices_that_begin_alike(self, tokenizer: Tokenizer) -> None:
        choices = ["c", *(f"c{n}" for n in range(254))]
        row = Row(tokenizer, questions={"many": {"ask": "Q:", "choices": choices}})
        likely = {token(tokenizer, c): 0.5 for c in "123"}
        found = row.walk(likely).answers[0]

        assert found.label in choices
        assert len(found.probabilities) == 255
        assert sum(found.probabilities) == pytest.approx(1)

    def test_equal_rows_have_the_same_key_and_others_another(self, tokenizer: Tokenizer) -> None:
        def key(text: str, **changes: Any) -> bytes | None:
            made = job(**{"questions": QUESTIONS} | changes)
            answers = Answers(made, tokenizer, max_model_len=100)
            return answers.key(built(tokenizer, text, **changes))

        other = {**QUESTIONS, "mood": {**QUESTIONS["mood"], "choices": ["positive", "negative"]}}
        keys = [key("a"), key("b"), key("a", questions=other)]
        assert None not in keys
        assert len(set(keys)) == 3
        assert key("a") == keys[0]

    def test_kept_answers_come_back_as_they_were(self, result: RowResult) -> None:
        known = RowResult(
            **{f: getattr(result, f) for f in result.__slots__} | {"key": b"0" * 16, "requests": 1}
        )
        content, _ = encode([known])
        found = AnswerFile(io.BytesIO(content)).find(b"0" * 16)

        assert found is not None
        told = ("label", "confidence", "probabilities", "completion_tokens")
        assert [[getattr(a, n) for n in told] for a in found.answers] == [
            [getattr(a, n) for n in told] for a in known.answers
        ]


class TestColumns:
    def test_they_are_typed_and_stand_question_by_question(self) -> None:
        schema = output_columns(job(questions=QUESTIONS), INPUT).schema

        assert schema.names[:6] == [
            "text",
            "input_mood",
            "input_urgent",
            "mood",
            "mood_confidence",
            "mood_accepted",
        ]
        assert schema.names[-3:] == ["prompt_tokens", "completion_tokens", "error"]
        assert schema.field("urgent").type == pa.bool_()
        assert schema.field("quality_expectation").type == pa.float64()
        assert schema.field("urgent_probabilities").type == pa.struct(
            {"no": pa.float64(), "yes": pa.float64()}
        )

    def test_a_row_has_every_answer(self, result: RowResult) -> None:
        [row] = table(result)[0].to_pylist()

        assert (row["mood"], row["urgent"], row["quality"]) == ("negutral", True, "no")
        assert row["mood_confidence"] == row["mood_raw_confidence"] == pytest.approx(0.5625)
        assert row["urgent_probability"] == pytest.approx(0.75)
        assert row["quality_expectation"] == pytest.approx(0.25)
        assert row["mood_accepted"] is None
        assert row["quality_probabilities"] == pytest.approx({"no": 0.75, "nothing": 0.25})

    def test_an_error_row_has_none(self) -> None:
        failed = RowResult(error=RowError(RowErrorType.TIMEOUT, "late", 1))
        [row] = table(failed)[0].to_pylist()

        assert [row[name] for name in NAMES] == [None] * 3
        assert row["mood_probabilities"] is None

    def test_each_question_is_counted_against_its_own_gold(self, result: RowResult) -> None:
        written, counted = table(result, result)
        found = totals(counted, graded=False)["questions"]

        assert found["mood"]["labels"] == {"negutral": 2}
        assert (found["mood"]["accuracy"], found["mood"]["graded"]) == (0.0, 2)
        assert (found["urgent"]["accuracy"], found["urgent"]["graded_right"]) == (1.0, 2)
        assert found["urgent"]["confusion"] == {"yes": {"yes": 2}}
        assert found["quality"]["accuracy"] is None
        asked = job(questions=QUESTIONS).asked
        assert labels_in(written, asked) == counted.question_labels

    def test_rows_without_a_right_answer_are_not_graded(self, result: RowResult) -> None:
        _, counted = table(result, mood=None, urgent=None)

        assert counted.question_confusion == {}


class TestWorkload:
    def test_the_rows_text_is_counted_as_shared_by_its_questions(self) -> None:
        shape = RequestShape("choices", 10, asks=(3, 5))
        [first, second] = requests(shape, [(48, 2)], per_row=2.0)

        assert (first.prompt_tokens, second.prompt_tokens) == (43, 45)
        assert first.inner == second.inner == ((-2, 40),)
        assert (first.prefix_tokens, second.prefix_tokens) == (10, 10)

    def test_choices_of_several_tokens_take_more_requests(self) -> None:
        shape = RequestShape("choices", asks=(3, 5))

        assert len(requests(shape, [(48, 2)] * 4, per_row=2.5)) == 10

    def test_it_comes_back_from_its_text(self) -> None:
        shape = RequestShape("choices", 10, asks=(3, 5))

        assert RequestShape.decode(shape.encode()) == shape

    def test_questions_are_of_the_kind_of_choices(self) -> None:
        assert answer_kind(job(questions=QUESTIONS)) == "choices"
