"""Several answers of a row: how they are drawn, kept together, and what they vote for."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pyarrow as pa
import pytest

from pipeline import UsageError
from pipeline.errors import RowError, RowErrorType
from pipeline.job.fingerprint import fingerprint_parts
from pipeline.job.sampling import Sampling
from pipeline.model.tokenizer import Tokenizer
from pipeline.output.columns.answers_as_rows import by_row
from pipeline.output.columns.results import RowResult, output_columns, tally, to_table
from pipeline.output.rows.redo import retally
from pipeline.output.tally import Tally
from pipeline.prompt.answers import Answers
from pipeline.prompt.builder import PromptBuilder
from pipeline.prompt.join import Prompt
from pipeline.prompt.seed import answer_seed
from pipeline.rows.request import Completion
from pipeline.rows.workload import RequestShape, requests
from tests.support.samples import job

THREE = {"n": 3, "temperature": 1.0}
DRAWN = {"temperature": 1.0}
OBJECT = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
INPUT = pa.schema([("text", pa.string())])


def prompt(tokenizer: Tokenizer, row: dict[str, Any] | None = None, **changes: Any) -> Prompt:
    [built] = PromptBuilder(job(**changes), tokenizer).build([{"text": "a"} | (row or {})])
    assert isinstance(built, Prompt)
    return built


def result(tokenizer: Tokenizer, texts: list[str], **changes: Any) -> RowResult:
    """Of a row whose answers are ``texts``, which come in the other order."""
    answers = Answers(job(**changes), tokenizer, max_model_len=100)
    one = answers.answer(prompt(tokenizer, **changes))
    asked = list(zip(one.start(), texts, strict=True))
    for request, text in reversed(asked):
        assert one.result is None
        assert one.receive(Completion(request.id, text, len(text), "stop")) == []
    assert one.result is not None
    return one.result


class TestDraws:
    def seeds(self, tokenizer: Tokenizer, seed: int | None, n: int) -> list[int | None]:
        sampling = {"n": n, "temperature": 1.0, "seed": seed}
        answers = Answers(job(sampling=sampling), tokenizer, max_model_len=100)
        row = {} if seed is None else {"sampling_params": {"seed": seed}}
        made = answers.answer(prompt(tokenizer, row, sampling=sampling))
        return [request.sampling.seed for request in made.start()]

    def test_each_answer_has_a_seed_of_its_own_and_the_first_the_rows(
        self, tokenizer: Tokenizer
    ) -> None:
        seeds = self.seeds(tokenizer, 7, 4)

        assert seeds == [answer_seed(7, number) for number in range(4)]
        assert seeds[0] == 7
        assert len(set(seeds)) == 4

    def test_more_answers_leave_the_first_ones_as_they_are(self, tokenizer: Tokenizer) -> None:
        assert self.seeds(tokenizer, 7, 9)[:4] == self.seeds(tokenizer, 7, 4)

    def test_without_a_seed_none_has_one(self, tokenizer: Tokenizer) -> None:
        assert self.seeds(tokenizer, None, 3) == [None] * 3

    def test_rows_with_several_answers_are_never_answered_by_others(
        self, tokenizer: Tokenizer
    ) -> None:
        """Nor where the row brings a seed: an answer that is kept is one, not a list."""
        answers = Answers(job(sampling=THREE), tokenizer, max_model_len=100)
        row = {"sampling_params": {"seed": 3}}

        assert answers.key(prompt(tokenizer, row, sampling=THREE)) is None

    def test_the_engine_is_asked_for_one_answer_at_a_time(self) -> None:
        assert "n" not in Sampling(**THREE).as_vllm()

    @pytest.mark.parametrize("params", [{"n": 2}, {"temperature": 0}])
    def test_a_row_cannot_change_how_many_there_are_nor_make_them_equal(
        self, tokenizer: Tokenizer, params: dict[str, Any]
    ) -> None:
        [error] = PromptBuilder(job(sampling=THREE), tokenizer).build(
            [{"text": "a", "sampling_params": params}]
        )
        assert isinstance(error, RowError)
        assert error.type is RowErrorType.INVALID_SAMPLING

    def test_one_answer_is_the_job_that_it_was(self) -> None:
        parts = fingerprint_parts(job(), model_hash="", input_hash="")
        several = fingerprint_parts(job(sampling=THREE), model_hash="", input_hash="")

        assert "n" not in parts["sampling"]
        assert several["sampling"]["n"] == 3


class TestLists:
    def table(self, results: list[RowResult], **changes: Any) -> pa.Table:
        inputs = pa.table({"text": ["x"] * len(results)}, INPUT)
        return to_table(inputs, results, output_columns(job(sampling=THREE, **changes), INPUT))

    def test_answers_stand_in_the_order_of_their_numbers(self, tokenizer: Tokenizer) -> None:
        made = result(tokenizer, ["a", "bb", "ccc"], sampling=THREE)

        [row] = self.table([made]).to_pylist()

        assert row["completions"] == ["a", "bb", "ccc"]
        assert row["finish_reasons"] == ["stop"] * 3
        assert row["completion_tokens"] == [1, 2, 3]
        assert row["prompt_tokens"] == 2
        assert row["error"] is None

    def test_properties_of_a_schema_are_lists_too(self, tokenizer: Tokenizer) -> None:
        label = {"json_schema": OBJECT}
        texts = [json.dumps({"n": n}) for n in (3, 1, 2)]
        made = result(tokenizer, texts, sampling=THREE, label=label)

        table = self.table([made], label=label)

        assert table.schema.field("n").type == pa.list_(pa.int64())
        assert table["n"].to_pylist() == [[3, 1, 2]]

    def test_an_answer_that_is_none_makes_an_error_that_names_it_and_all_are_kept(
        self, tokenizer: Tokenizer
    ) -> None:
        label = {"regex": "a+"}
        made = result(tokenizer, ["a", "b", "a"], sampling=THREE, label=label)

        [row] = self.table([made], label=label).to_pylist()

        assert row["error"]["type"] == "SchemaNotMet"
        assert row["error"]["message"].startswith("answer 2 of 3: ")
        assert row["completions"] == ["a", "b", "a"]

    def test_what_the_engine_refuses_is_an_error_without_answers(
        self, tokenizer: Tokenizer
    ) -> None:
        answers = Answers(job(sampling=THREE), tokenizer, max_model_len=100)
        one = answers.answer(prompt(tokenizer, sampling=THREE))
        first, *_ = one.start()
        error = RowError(RowErrorType.ENGINE_FAILURE, "no", 1)

        one.receive(Completion(first.id, error=error))

        assert one.result is not None
        [row] = self.table([one.result]).to_pylist()
        assert row["error"]["message"] == "no"
        assert row["completions"] is None

    def test_they_are_counted_each(self, tokenizer: Tokenizer) -> None:
        made = result(tokenizer, ["a", "bb", "ccc"], sampling=THREE)
        inputs = pa.table({"text": ["x"]}, INPUT)

        total = tally(inputs, [made], output_columns(job(sampling=THREE), INPUT))

        assert (total.rows, total.requests, total.completion_tokens) == (1, 3, 6)
        assert total.finish_reasons == Counter(stop=3)
        assert total.longest_completion == 3


class TestRows:
    def test_an_error_is_that_of_its_answer_alone(self, tokenizer: Tokenizer) -> None:
        changes: dict[str, Any] = {
            "sampling": THREE,
            "label": {"regex": "a+"},
            "output": {"path": "out", "n": "rows"},
        }
        made = result(tokenizer, ["a", "b", "aa"], **changes)
        inputs = pa.table({"text": ["x"]}, INPUT)
        columns = output_columns(job(**changes), INPUT)

        table = to_table(inputs, [made], columns)

        assert table["answer"].to_pylist() == [0, 1, 2]
        assert table["completion"].to_pylist() == ["a", "b", "aa"]
        assert [e and e["type"] for e in table["error"].to_pylist()] == [None, "SchemaNotMet", None]
        [row] = by_row(table, 3).to_pylist()
        assert row["error"]["type"] == "SchemaNotMet"
        assert row["completion_tokens"] == [1, 1, 2]
        total = tally(inputs, [made], columns)
        assert total.failed == 1
        # what a retry takes away again
        after = retally(total, by_row(table, 3), Tally(rows=1), columns.results)
        assert not after.error_reasons.total()

    def test_a_kept_column_of_that_name_gets_another(self) -> None:
        schema = pa.schema([("answer", pa.string())])
        changes = {"sampling": THREE, "output": {"path": "out", "n": "rows"}}

        assert output_columns(job(**changes), schema).kept == (("answer", "input_answer"),)


class TestVotes:
    def test_the_answer_that_most_give_wins_with_its_share(self, tokenizer: Tokenizer) -> None:
        label = {"regex": "[ab]", "votes": 5}
        made = result(tokenizer, ["b", "a", "b", "a", "b"], sampling=DRAWN, label=label)

        assert (made.completion, made.confidence) == ("b", 0.6)

    def test_of_two_as_frequent_the_first_wins(self, tokenizer: Tokenizer) -> None:
        label = {"regex": "[ab]", "votes": 4}
        made = result(tokenizer, ["b", "a", "a", "b"], sampling=DRAWN, label=label)

        assert (made.completion, made.confidence) == ("b", 0.5)

    def test_values_of_json_count_not_how_they_are_written(self, tokenizer: Tokenizer) -> None:
        label = {"json_schema": OBJECT, "votes": 3}
        texts = ['{"n": 1}', '{"n": 2}', '{"n":2}']
        made = result(tokenizer, texts, sampling=DRAWN, label=label)

        assert made.fields == {"n": 2}
        assert made.confidence == pytest.approx(2 / 3)

    def test_what_is_no_answer_has_no_vote_and_lowers_the_share(self, tokenizer: Tokenizer) -> None:
        label = {"regex": "[ab]", "votes": 4}
        made = result(tokenizer, ["x", "x", "a", "x"], sampling=DRAWN, label=label)

        assert (made.completion, made.confidence, made.error) == ("a", 0.25, None)

    def test_without_any_answer_the_row_fails(self, tokenizer: Tokenizer) -> None:
        label = {"regex": "[ab]", "votes": 2}
        made = result(tokenizer, ["x", "y"], sampling=DRAWN, label=label)

        assert made.error is not None
        assert made.error.type is RowErrorType.SCHEMA_NOT_MET

    def test_votes_for_choices_are_drawn_from_their_probabilities(
        self, tokenizer: Tokenizer
    ) -> None:
        changes: dict[str, Any] = {
            "label": {"choices": ["yes", "no"], "votes": 200},
            "sampling": {"temperature": 1.0},
        }
        answers = Answers(job(**changes), tokenizer, max_model_len=100)
        one = answers.answer(prompt(tokenizer, {"sampling_params": {"seed": 1}}, **changes))
        asked = one.start()
        assert len(asked) == 1
        while asked:
            request = asked.pop()
            scores = {t: float(-i) for i, t in enumerate(request.logprob_ids)}
            asked += one.receive(Completion(request.id, "", 1, "length", scores))

        assert one.result is not None
        assert one.result.label in ("yes", "no")
        assert one.result.confidence == pytest.approx(0.73, abs=0.08)  # 1 / (1 + 1/e)

    def test_the_share_is_a_column_and_a_schema_cannot_have_its_name(self) -> None:
        schema = {"type": "object", "properties": {"confidence": {"type": "number"}}}
        label = {"json_schema": schema, "votes": 3}
        with pytest.raises(UsageError, match="confidence"):
            output_columns(job(sampling=DRAWN, label=label), INPUT)


@pytest.mark.parametrize(
    ("changes", "fix"),
    [
        ({"sampling": {"n": 4}}, "give a temperature"),
        ({"sampling": {"n": 10**9, "temperature": 1}}, "256"),
        ({"sampling": THREE, "label": {"choices": ["a", "b"]}}, "label: {votes: 3}"),
        ({"sampling": THREE, "label": {"regex": "a", "votes": 3}}, "either"),
        ({"label": {"regex": "a", "votes": 3}}, "give sampling.temperature"),
        ({"sampling": DRAWN, "label": {"regex": "a", "votes": 1}}, "2"),
        ({"sampling": THREE, "score": {}}, "does not go with score"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_mend(changes: dict[str, Any], fix: str) -> None:
    with pytest.raises(UsageError) as caught:
        job(**changes)

    assert fix in " ".join([caught.value.message, *caught.value.hints])


def test_a_row_with_several_answers_is_as_many_requests_that_share_its_prompt() -> None:
    shape = RequestShape(common_tokens=16, answers=3)

    made = requests(shape, [(64, 5), (64, 6), (64, 7), (64, 8), (64, 9), (64, 10)])

    keys = [row.keys(16) for row in made]
    assert [row.output_tokens for row in made] == [5, 6, 7, 8, 9, 10]
    assert keys[0] == keys[1] == keys[2] != keys[3]
    assert keys[0][0] == keys[3][0]
    assert len(keys[0]) == 4
