"""A row's way from prompt to result, with an engine's completions made up."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from pipeline.errors import RowError, RowErrorType
from pipeline.job.sampling import Sampling
from pipeline.model.tokenizer import Tokenizer
from pipeline.output.columns.results import RowResult, output_columns, to_table
from pipeline.prompt.answer import Answer
from pipeline.prompt.answers import Answers
from pipeline.prompt.choices import ChoiceTree
from pipeline.prompt.join import Prompt
from pipeline.rows.request import Completion, Request
from tests.support.samples import job

OBJECT = {
    "type": "object",
    "properties": {"n": {"type": "integer"}, "s": {"type": "string"}, "free": {}},
    "required": ["n"],
}
YES_NO = {"choices": ["yes", "no"]}


def prompt(tokenizer: Tokenizer, text: str = "Q\nA:", **sampling: Any) -> Prompt:
    return Prompt([2, *tokenizer.encode_plain(text)], text, Sampling(**sampling))


def answer(
    tokenizer: Tokenizer,
    label: dict[str, Any] | None = None,
    max_model_len: int = 100,
    **sampling: Any,
) -> Answer:
    made = Answers(job(label=label), tokenizer, max_model_len=max_model_len)
    return made.answer(prompt(tokenizer, **sampling))


def completed(one: Answer, text: str, reason: str = "stop") -> RowResult:
    [request] = one.start()
    assert one.receive(Completion(request.id, text, 7, reason)) == []
    assert one.result is not None
    return one.result


def walk(one: Answer, probabilities: dict[int, float]) -> RowResult:
    """Answer every request with these probabilities of single tokens."""
    requests = one.start()
    while requests:
        request = requests.pop(0)
        scores = {t: math.log(probabilities.get(t, 1e-3)) for t in request.logprob_ids}
        requests += one.receive(Completion(request.id, "", 1, "length", scores))
    assert one.result is not None
    return one.result


class TestText:
    def test_free_text_is_the_completion(self, tokenizer: Tokenizer) -> None:
        result = completed(answer(tokenizer), " hello", "length")

        assert (result.completion, result.finish_reason) == (" hello", "length")
        assert (result.prompt_tokens, result.completion_tokens) == (5, 7)
        assert result.error is None

    def test_there_is_no_result_before_the_completion(self, tokenizer: Tokenizer) -> None:
        one = answer(tokenizer)
        one.start()

        assert one.result is None

    def test_requests_have_ids_of_their_own(self, tokenizer: Tokenizer) -> None:
        answers = Answers(job(label=YES_NO), tokenizer, max_model_len=100)
        asked = [r for _ in range(3) for r in answers.answer(prompt(tokenizer)).start()]

        assert len({r.id for r in asked}) == len(asked) == 3

    def test_what_an_engine_refuses_is_an_error_row(self, tokenizer: Tokenizer) -> None:
        one = answer(tokenizer)
        [request] = one.start()
        error = RowError(RowErrorType.ENGINE_FAILURE, "no", attempts=2)
        one.receive(Completion(request.id, error=error))

        assert one.result is not None
        assert one.result.error == error

    @pytest.mark.parametrize("label", [None, YES_NO, {"regex": "a"}])
    def test_a_prompt_that_fills_the_context_is_too_long(
        self, tokenizer: Tokenizer, label: dict[str, Any] | None
    ) -> None:
        with pytest.raises(RowError) as caught:
            answer(tokenizer, label, max_model_len=5)
        assert caught.value.type is RowErrorType.PROMPT_TOO_LONG
        assert "5 tokens" in caught.value.message

    def test_a_completion_is_limited_to_the_room_that_is_left(self, tokenizer: Tokenizer) -> None:
        [request] = answer(tokenizer, max_model_len=15, max_tokens=256).start()
        assert request.max_new_tokens == 10

        [request] = answer(tokenizer, max_model_len=15, max_tokens=3).start()
        assert request.max_new_tokens == 3

    def test_prompt_that_leaves_room_for_one_token_is_asked(self, tokenizer: Tokenizer) -> None:
        [request] = answer(tokenizer, max_model_len=6).start()

        assert request.max_new_tokens == 1


class TestJson:
    label = {"json_schema": OBJECT}  # noqa: RUF012

    def test_the_engine_is_told_the_schema(self, tokenizer: Tokenizer) -> None:
        [request] = answer(tokenizer, self.label).start()

        assert request.structure is not None
        assert json.loads(request.structure.json_schema or "") == OBJECT

    def test_a_valid_object_gives_its_fields(self, tokenizer: Tokenizer) -> None:
        result = completed(answer(tokenizer, self.label), '{"n": 3, "s": "x"}')

        assert result.fields == {"n": 3, "s": "x"}
        assert result.error is None

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("not json", "not JSON"),
            ("[1]", "is not of type 'object'"),
            ('{"n": "3"}', "$.n"),
            ("{}", "'n' is a required property"),
            ("", "not JSON"),
            ("[" * 100_000, ""),
        ],
    )
    def test_another_text_does_not_meet_the_schema(
        self, tokenizer: Tokenizer, text: str, said: str
    ) -> None:
        result = completed(answer(tokenizer, self.label), text)

        assert result.error is not None
        assert result.error.type is RowErrorType.SCHEMA_NOT_MET
        assert result.error.attempts == 1
        assert said in result.error.message
        assert result.fields == {}
        assert result.completion == text

    def test_json_that_is_cut_off_names_the_limit(self, tokenizer: Tokenizer) -> None:
        one = answer(tokenizer, self.label, max_tokens=7)
        result = completed(one, '{"n": 3', "length")

        assert result.error is not None
        assert result.error.type is RowErrorType.SCHEMA_NOT_MET
        assert "sampling.max_tokens (7)" in result.error.message

    def test_json_that_is_whole_at_the_limit_is_no_error(self, tokenizer: Tokenizer) -> None:
        assert completed(answer(tokenizer, self.label), '{"n": 3}', "length").error is None

    @pytest.mark.parametrize(
        "field", ['"s": "\\ud83d"', '"free": {"a": "\\ud83d"}', '"s": "\\u0000"']
    )
    def test_any_text_that_json_can_say_becomes_an_output_row(
        self, tokenizer: Tokenizer, field: str
    ) -> None:
        """Half a surrogate pair is JSON, and no UTF-8."""
        result = completed(answer(tokenizer, self.label), f'{{"n": 3, {field}}}')
        schema = pa.schema([("id", pa.int64())])

        columns = output_columns(job(label=self.label), schema)
        assert to_table(pa.table({"id": [1]}), [result], columns).num_rows == 1


class TestRegex:
    label = {"regex": "[a-c]+"}  # noqa: RUF012

    def test_the_engine_is_told_the_regex(self, tokenizer: Tokenizer) -> None:
        [request] = answer(tokenizer, self.label).start()

        assert request.structure is not None
        assert request.structure.regex == "[a-c]+"

    def test_a_match_is_the_completion(self, tokenizer: Tokenizer) -> None:
        assert completed(answer(tokenizer, self.label), "abc").error is None

    @pytest.mark.parametrize("text", ["", "abcd", "xabc", "abc\n"])
    def test_a_text_that_does_not_match_in_full_does_not_meet_it(
        self, tokenizer: Tokenizer, text: str
    ) -> None:
        result = completed(answer(tokenizer, self.label), text)

        assert result.error is not None
        assert result.error.type is RowErrorType.SCHEMA_NOT_MET

    def test_a_text_that_is_cut_off_names_the_limit(self, tokenizer: Tokenizer) -> None:
        result = completed(answer(tokenizer, {"regex": "a{9}"}, max_tokens=2), "aa", "length")

        assert result.error is not None
        assert "sampling.max_tokens (2)" in result.error.message


class TestChoices:
    def token(self, tokenizer: Tokenizer, text: str) -> int:
        [token] = tokenizer.encode_plain(text)
        return token

    def test_one_request_asks_for_the_first_tokens_that_differ(self, tokenizer: Tokenizer) -> None:
        [request] = answer(tokenizer, YES_NO).start()

        assert request.logprob_ids == (
            self.token(tokenizer, " yes"),
            self.token(tokenizer, " no"),
        )
        assert request.max_new_tokens == 1

    def test_the_most_probable_choice_is_the_label(self, tokenizer: Tokenizer) -> None:
        odds = {self.token(tokenizer, " yes"): 0.2, self.token(tokenizer, " no"): 0.6}
        result = walk(answer(tokenizer, YES_NO), odds)

        assert (result.label, result.completion, result.finish_reason) == ("no", "no", "stop")
        assert result.confidence == pytest.approx(0.75)
        assert result.probabilities == pytest.approx((0.25, 0.75))
        assert result.raw_confidence == pytest.approx(0.75)
        assert (result.prompt_tokens, result.completion_tokens) == (5, 1)

    def test_a_shared_first_token_is_part_of_the_request(self, tokenizer: Tokenizer) -> None:
        one = answer(tokenizer, {"choices": ["negative", "negutral"]})
        [request] = one.start()

        assert request.prompt_ids[-1] == self.token(tokenizer, " neg")
        assert len(request.logprob_ids) == 2

    def test_a_choice_of_several_tokens_is_followed_to_its_end(self, tokenizer: Tokenizer) -> None:
        one = answer(tokenizer, {"choices": ["positive", "negative", "negutral"]})
        odds = {
            self.token(tokenizer, " pos"): 0.3,
            self.token(tokenizer, " neg"): 0.6,
            self.token(tokenizer, "ative"): 0.25,
            self.token(tokenizer, "utral"): 0.75,
            self.token(tokenizer, "itive"): 1.0,
        }
        result = walk(one, odds)

        assert result.label == "negutral"
        assert result.confidence == pytest.approx(0.5)

    def test_a_choice_that_begins_another_can_win(self, tokenizer: Tokenizer) -> None:
        one = answer(tokenizer, {"choices": ["no", "nothing"]})
        result = walk(one, {self.token(tokenizer, "thing"): 0.25})

        assert result.label == "no"
        assert result.confidence == pytest.approx(0.75)

    def test_more_choices_than_vllm_takes_at_once_are_asked_in_parts(
        self, tokenizer: Tokenizer
    ) -> None:
        """It refuses more than 128 tokens of one request; their probabilities are of the whole
        vocabulary, so parts of a node are as exact."""
        choices = [f"choice {n}" for n in range(300)]
        made = Answers(job(label={"choices": choices}), tokenizer, max_model_len=100)
        tree = ChoiceTree([(t,) for t in range(300)])
        tokens: Any = SimpleNamespace(tree_for=lambda tail: tree)
        made._asked = [replace(one, tokens=tokens) for one in made._asked]
        one = made.answer(prompt(tokenizer))
        requests = one.start()
        assert [len(r.logprob_ids) for r in requests] == [128, 128, 44]
        assert sorted(t for r in requests for t in r.logprob_ids) == list(range(300))
        for request in reversed(requests):
            assert one.result is None
            scores = {t: math.log(0.5 if t == 200 else 0.5 / 299) for t in request.logprob_ids}
            assert one.receive(Completion(request.id, "", 1, "length", scores)) == []
        assert one.result is not None
        assert one.result.label == "choice 200"
        assert one.result.confidence == pytest.approx(0.5)

    def test_choices_that_do_not_fit_the_context_are_too_long(self, tokenizer: Tokenizer) -> None:
        with pytest.raises(RowError) as caught:
            answer(tokenizer, {"choices": ["negative", "no"]}, max_model_len=6)
        assert caught.value.type is RowErrorType.PROMPT_TOO_LONG

    def test_choices_that_just_fit_are_asked(self, tokenizer: Tokenizer) -> None:
        assert answer(tokenizer, {"choices": ["negative", "no"]}, max_model_len=7).start()

    def test_choices_of_the_same_tokens_are_an_invalid_row(self, tokenizer: Tokenizer) -> None:
        with pytest.raises(RowError) as caught:
            answer(tokenizer, {"choices": ["é", "è"]})
        assert caught.value.type is RowErrorType.INVALID_ROW
        assert "label.choices" in caught.value.message

    def test_a_draw_repeats_with_its_seed(self, tokenizer: Tokenizer) -> None:
        results = [
            walk(answer(tokenizer, YES_NO, temperature=1.0, seed=seed), {}).label
            for seed in (1, 1, 2, 3, 4, 5, 6)
        ]

        assert results[0] == results[1]
        assert set(results) == {"yes", "no"}

    def test_without_a_seed_every_draw_is_another(self, tokenizer: Tokenizer) -> None:
        drawn = {walk(answer(tokenizer, YES_NO, temperature=1.0), {}).label for _ in range(64)}
        assert drawn == {"yes", "no"}

    @pytest.mark.parametrize("temperature", [1e-3, 1e-6, 1e-300])
    def test_a_temperature_near_zero_draws_the_most_probable(
        self, tokenizer: Tokenizer, temperature: float
    ) -> None:
        choices = ["yes", "no", "positive"]
        one = answer(tokenizer, {"choices": choices}, temperature=temperature)
        odds = {self.token(tokenizer, f" {c}"): p for c, p in (("yes", 0.3), ("no", 0.4))}
        odds[self.token(tokenizer, " pos")] = 0.3

        assert walk(one, odds | {self.token(tokenizer, "itive"): 1.0}).label == "no"

    def test_a_request_that_the_engine_refuses_is_an_error_row(self, tokenizer: Tokenizer) -> None:
        one = answer(tokenizer, YES_NO)
        [request] = one.start()
        assert isinstance(request, Request)
        error = RowError(RowErrorType.ENGINE_FAILURE, "no")
        one.receive(Completion(request.id, error=error))

        assert one.result is not None
        assert one.result.error == error
