"""Jobs that score: which tokens count, the columns that come out, and what is summed up."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import UsageError
from pipeline.errors import RowError, RowErrorType
from pipeline.model.tokenizer import Tokenizer
from pipeline.output.columns.results import RowResult, output_columns, tally, to_table
from pipeline.output.commit.records import CommitRecord, decode
from pipeline.output.tally import Tally, perplexity
from pipeline.prompt.answers import Answers
from pipeline.prompt.builder import PromptBuilder, prompt_columns
from pipeline.prompt.join import Prompt
from pipeline.rows.request import Completion, Scores
from tests.support.samples import job, write_tokenizer

BOS = 2
ERROR = RowError(RowErrorType.INVALID_ROW, "the text is empty: nothing to score")
INPUT = pa.schema([("text", pa.string()), ("answer", pa.string())])


def build(row: dict[str, Any], tokenizer: Tokenizer, **changes: Any) -> Prompt | RowError:
    [built] = PromptBuilder(job(**({"score": {}} | changes)), tokenizer).build([row])
    return built


def scored_text(row: dict[str, Any], tokenizer: Tokenizer, **changes: Any) -> tuple[str, str]:
    """What stands before the scored tokens, and they, as text."""
    built = build(row, tokenizer, **changes)
    assert isinstance(built, Prompt)
    assert built.score_from is not None
    return tokenizer.decode(built.ids[: built.score_from]), tokenizer.decode(
        built.ids[built.score_from :]
    )


ANSWER = {"score": {"completion": "answer"}}


class TestWhatIsScored:
    def test_all_of_the_text_but_bos(self, tokenizer: Tokenizer) -> None:
        built = build({"text": "abc"}, tokenizer)

        assert isinstance(built, Prompt)
        assert (built.ids[0], built.score_from, len(built.ids)) == (BOS, 1, 4)

    def test_a_text_is_scored_as_it_stands_trailing_spaces_too(self, tokenizer: Tokenizer) -> None:
        assert scored_text({"text": "a b  "}, tokenizer)[1] == "a b  "

    def test_a_completion_is_scored_after_its_prompt_set_apart_as_a_label_is(
        self, tokenizer: Tokenizer
    ) -> None:
        row = {"text": "x", "answer": "nothing"}

        made = scored_text(row, tokenizer, prompt="Q: {text}\nA: ", **ANSWER)

        assert made[0].endswith("Q: x\nA:")
        assert made[1] == " nothing"

    def test_the_tokens_of_a_completion_are_those_of_the_joined_text(
        self, tokenizer: Tokenizer
    ) -> None:
        built = build({"text": "x", "answer": "nothing"}, tokenizer, **ANSWER)

        assert isinstance(built, Prompt)
        assert built.ids == tokenizer.encode_batch(["x nothing"])[0]

    def test_instructions_and_examples_are_read_but_not_scored(self, tokenizer: Tokenizer) -> None:
        row = {"text": "x", "answer": "yes"}
        examples = [{"text": "y", "answer": "no"}]

        made = scored_text(row, tokenizer, instructions="Be brief.", examples=examples, **ANSWER)

        assert "Be brief." in made[0]
        assert made[1] == " yes"

    def test_a_reply_is_scored_as_it_begins_the_models_turn(
        self, chat_tokenizer: Tokenizer
    ) -> None:
        messages = [{"role": "user", "content": "{text}"}]
        row = {"text": "hi", "answer": "yes"}

        made = scored_text(row, chat_tokenizer, prompt=None, messages=messages, **ANSWER)

        assert made[0].endswith("[model]")
        assert made[1] == "yes"

    def test_token_ids_are_scored_from_the_second_on(self, tokenizer: Tokenizer) -> None:
        built = build({"ids": [BOS, 7, 8]}, tokenizer, prompt={"column": "ids"})

        assert isinstance(built, Prompt)
        assert (built.ids, built.score_from) == ([BOS, 7, 8], 1)

    def test_without_a_bos_the_first_token_has_nothing_before_it(self, tmp_path) -> None:
        bare = Tokenizer(write_tokenizer(tmp_path / "bare", bos=False))

        built = build({"text": "abc"}, bare)

        assert isinstance(built, Prompt)
        assert (len(built.ids), built.score_from) == (3, 1)

    def test_the_columns_read_are_the_prompts_and_the_completion(self) -> None:
        names = ["id", "answer", "text", "sampling_params"]
        assert prompt_columns(job(**ANSWER), names) == ["text", "answer"]

    @pytest.mark.parametrize(
        ("row", "changes", "message"),
        [
            ({"text": ""}, {}, "the text is empty"),
            ({"text": None}, {}, "null"),
            ({"ids": [BOS]}, {"prompt": {"column": "ids"}}, "the text is empty"),
            ({"text": "x", "answer": ""}, ANSWER, "column 'answer' is empty"),
            ({"text": "x", "answer": None}, ANSWER, "column 'answer' is null"),
        ],
    )
    def test_rows_with_nothing_to_score_are_error_rows(
        self, tokenizer: Tokenizer, row: dict[str, Any], changes: dict[str, Any], message: str
    ) -> None:
        built = build(row, tokenizer, **changes)

        assert isinstance(built, RowError)
        assert built.type is RowErrorType.INVALID_ROW
        assert message in built.message


class TestAnswer:
    def test_one_request_brings_the_scores(self, tokenizer: Tokenizer) -> None:
        answers = Answers(job(score={"top_k": 2}), tokenizer, max_model_len=64)
        built = build({"text": "abc"}, tokenizer)
        assert isinstance(built, Prompt)
        answer = answers.answer(built)

        [request] = answer.start()
        assert (request.score_from, request.top_k, request.max_new_tokens) == (1, 2, 1)
        assert answer.receive(Completion(request.id, scores=scores(3))) == []
        assert answer.result is not None
        assert answer.result.scores is not None
        assert answer.result.prompt_tokens == 4

    def test_a_text_that_fills_the_context_is_too_long(self, tokenizer: Tokenizer) -> None:
        answers = Answers(job(score={}), tokenizer, max_model_len=4)
        built = build({"text": "abc"}, tokenizer)
        assert isinstance(built, Prompt)

        with pytest.raises(RowError) as raised:
            answers.answer(built)
        assert raised.value.type is RowErrorType.PROMPT_TOO_LONG


def scores(count: int, k: int = 2, seed: int = 0) -> Scores:
    dice = np.random.default_rng(seed)
    return Scores(
        token_ids=dice.integers(0, 99, count).astype(np.int32),
        logprobs=-dice.random(count).astype(np.float32),
        top_ids=dice.integers(0, 99, (count, k)).astype(np.int32),
        top_logprobs=-dice.random((count, k)).astype(np.float32),
    )


def table_of(results: list[RowResult], **score: Any) -> pa.Table:
    inputs = pa.table({"text": ["x"] * len(results), "answer": ["y"] * len(results)}, INPUT)
    return to_table(inputs, results, output_columns(job(score=score), INPUT))


class TestColumns:
    def test_a_row_has_sum_count_and_perplexity_and_no_completion(self) -> None:
        one = scores(3)

        table = table_of([RowResult(scores=one, prompt_tokens=4)])

        assert table.column_names[2:] == [
            "logprob",
            "tokens",
            "perplexity",
            "prompt_tokens",
            "error",
        ]
        [row] = table.to_pylist()
        assert row["logprob"] == pytest.approx(float(one.logprobs.sum()), rel=1e-6)
        assert row["tokens"] == 3
        assert row["perplexity"] == pytest.approx(math.exp(-row["logprob"] / 3))

    def test_a_failed_row_is_null_in_every_score_column(self) -> None:
        [_, row] = table_of(
            [RowResult(scores=scores(2)), RowResult(error=ERROR)], top_k=2
        ).to_pylist()

        assert row["error"]["type"] == "InvalidRow"
        assert all(
            row[name] is None
            for name in row
            if name not in ("text", "answer", "error", "prompt_tokens")
        )

    def test_list_entries_belong_to_the_rows_tokens_in_order(self, tmp_path) -> None:
        """Through a file, as users read them."""
        given = [scores(3, seed=1), None, scores(1, seed=2), scores(5, seed=3)]
        results = [RowResult(scores=s) if s else RowResult(error=ERROR) for s in given]

        pq.write_table(table_of(results, top_k=2), tmp_path / "scores.parquet")

        table = pq.read_table(tmp_path / "scores.parquet")
        for row, one in zip(table.to_pylist(), given, strict=True):
            if one is None:
                continue
            assert row["token_ids"] == one.token_ids.tolist()
            assert row["token_logprobs"] == one.logprobs.tolist()
            assert row["top_token_ids"] == one.top_ids.tolist()
            assert row["top_logprobs"] == one.top_logprobs.tolist()

    def test_lists_are_typed_those_of_alternatives_by_their_length(self) -> None:
        schema = table_of([], top_k=7).schema

        assert schema.field("token_ids").type == pa.list_(pa.int32())
        assert schema.field("token_logprobs").type == pa.list_(pa.float32())
        assert schema.field("top_token_ids").type == pa.list_(pa.list_(pa.int32(), 7))
        assert schema.field("top_logprobs").type == pa.list_(pa.list_(pa.float32(), 7))

    def test_per_token_alone_leaves_the_alternatives_out(self) -> None:
        names = table_of([], per_token=True).column_names

        assert "token_logprobs" in names
        assert "top_logprobs" not in names

    def test_a_kept_column_whose_name_is_taken_is_renamed(self) -> None:
        made = output_columns(job(score={}), pa.schema([("tokens", pa.string())]))

        assert made.kept == (("tokens", "input_tokens"),)

    def test_a_completion_column_that_is_not_there_is_refused(self) -> None:
        with pytest.raises(UsageError, match=r"score\.completion names 'anwser'") as raised:
            output_columns(job(score={"completion": "anwser"}), INPUT)
        assert "did you mean answer?" in raised.value.hints


class TestTally:
    def tallied(self, *results: RowResult) -> Tally:
        inputs = pa.table({"text": ["x"] * len(results), "answer": ["y"] * len(results)}, INPUT)
        return tally(inputs, results, output_columns(job(score={}), INPUT))

    def test_corpus_perplexity_weighs_tokens_alike_and_leaves_failed_rows_out(self) -> None:
        long, short = scores(30, seed=1), scores(2, seed=2)

        total = self.tallied(
            RowResult(scores=long), RowResult(error=ERROR), RowResult(scores=short)
        )

        together = np.concatenate([long.logprobs, short.logprobs]).astype(np.float64)
        assert total.perplexity == pytest.approx(math.exp(-together.mean()))
        assert (total.scored_tokens, total.failed) == (32, 1)

    def test_units_committed_by_different_runs_add_up(self) -> None:
        """A record goes through JSON between two runs."""
        first = self.tallied(RowResult(scores=scores(4, seed=1)))
        second = self.tallied(RowResult(scores=scores(9, seed=2)))

        total = Tally()
        for one in (first, second):
            record = CommitRecord("u", "a", "00000-000000000000.parquet", 5, "s", one)
            again = decode(record.encode())
            assert isinstance(again, CommitRecord)
            total.add(again.tally)

        assert total.scored_tokens == 13
        assert total.logprob == first.logprob + second.logprob

    def test_there_is_no_perplexity_of_nothing(self) -> None:
        assert perplexity(0.0, 0) is None
        assert Tally().perplexity is None

    def test_an_impossible_token_makes_it_infinite(self) -> None:
        assert perplexity(-math.inf, 3) == math.inf
        assert perplexity(-1e6, 3) == math.inf
