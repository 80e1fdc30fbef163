"""Rows to prompts: what stands before a row, and what a row may bring along."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import RowError, RowErrorType
from pipeline.model.tokenizer import Tokenizer
from pipeline.prompt.builder import PromptBuilder, prompt_columns
from pipeline.prompt.join import Prompt, continuation, open_ended, reply
from tests.support.samples import job, quick

CHAT = {"prompt": None, "messages": {"column": "chat"}}
TURNS = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes?"}]


def text_of(row: dict[str, Any], tokenizer: Tokenizer, **changes: Any) -> str:
    rendered = PromptBuilder(job(**changes), tokenizer).render(row)
    assert isinstance(rendered, str)
    return rendered


def build(row: dict[str, Any], tokenizer: Tokenizer, **changes: Any) -> Prompt | RowError:
    [built] = PromptBuilder(job(**changes), tokenizer).build([row])
    return built


def refusal(row: dict[str, Any], tokenizer: Tokenizer, **changes: Any) -> RowError:
    built = build(row, tokenizer, **changes)
    assert isinstance(built, RowError)
    return built


class TestSeam:
    @quick
    @given(st.text(" ab\n"))
    def test_a_prompt_ends_in_no_space_and_loses_nothing_else(self, prompt: str) -> None:
        ended = open_ended(prompt)

        assert not ended.endswith(" ")
        assert ended + " " * (len(prompt) - len(ended)) == prompt

    @pytest.mark.parametrize(
        ("prompt", "answer"),
        [("Label:", " good"), ("Label: ", " good"), ("L:\n", "good"), ("", "good")],
    )
    def test_an_answer_is_set_apart_unless_a_line_break_does_it(
        self, prompt: str, answer: str
    ) -> None:
        assert continuation(prompt, "good") == answer

    def test_a_reply_begins_the_models_turn(self) -> None:
        assert reply("[model]", "good") == "good"


class TestHead:
    def test_a_bare_prompt_is_the_template(self, tokenizer: Tokenizer) -> None:
        assert text_of({"text": "x"}, tokenizer, prompt="Q: {text}\nA:") == "Q: x\nA:"

    def test_trailing_spaces_are_left_to_the_answer(self, tokenizer: Tokenizer) -> None:
        assert text_of({"text": "x"}, tokenizer, prompt="Q: {text}\nA: ") == "Q: x\nA:"

    def test_a_trailing_line_break_stays(self, tokenizer: Tokenizer) -> None:
        assert text_of({"text": "x"}, tokenizer, prompt="{text}\n") == "x\n"

    def test_instructions_stand_first_set_apart_by_a_blank_line(self, tokenizer: Tokenizer) -> None:
        assert text_of({"text": "x"}, tokenizer, instructions="Be brief.") == "Be brief.\n\nx"

    def test_examples_stand_between_answered_as_the_model_should(
        self, tokenizer: Tokenizer
    ) -> None:
        """With a space before the answer, as tokens of words begin with one."""
        made = text_of(
            {"text": "x"},
            tokenizer,
            prompt="Q: {text}\nA: ",
            instructions="Be brief.",
            examples=[{"text": "one", "answer": "yes"}, {"text": "two", "answer": 2}],
        )

        assert made == "Be brief.\n\nQ: one\nA: yes\n\nQ: two\nA: 2\n\nQ: x\nA:"

    def test_an_example_after_a_line_break_needs_no_space(self, tokenizer: Tokenizer) -> None:
        examples = [{"text": "one", "answer": "yes"}]

        assert text_of({"text": "x"}, tokenizer, prompt="{text}\n", examples=examples) == (
            "one\nyes\n\nx\n"
        )

    def test_all_rows_share_the_head(self, tokenizer: Tokenizer) -> None:
        builder = PromptBuilder(job(instructions="Be brief."), tokenizer)
        one, two = builder.build([{"text": "a"}, {"text": "b"}])

        assert isinstance(one, Prompt)
        assert isinstance(two, Prompt)
        assert one.ids[:-1] == two.ids[:-1]


class TestRows:
    def test_each_row_gets_its_prompt_or_its_error_in_order(self, tokenizer: Tokenizer) -> None:
        rows = [{"text": "a"}, {"text": None}, {"text": "b"}, {"text": "c", "sampling_params": "x"}]

        built = PromptBuilder(job(), tokenizer).build(rows)

        assert [b.tail if isinstance(b, Prompt) else b.type.value for b in built] == [
            "a",
            "InvalidRow",
            "b",
            "InvalidSampling",
        ]

    def test_a_prompt_begins_with_bos_once(self, tokenizer: Tokenizer) -> None:
        built = build({"text": "a"}, tokenizer)

        assert isinstance(built, Prompt)
        assert built.ids == [2, *tokenizer.encode_plain("a")]

    def test_a_rows_sampling_lies_over_the_jobs(self, tokenizer: Tokenizer) -> None:
        row = {"text": "a", "sampling_params": '{"temperature": 0.5}'}
        built = build(row, tokenizer, sampling={"top_p": 0.3})

        assert isinstance(built, Prompt)
        assert (built.sampling.temperature, built.sampling.top_p) == (0.5, 0.3)

    def test_a_null_sampling_is_the_jobs(self, tokenizer: Tokenizer) -> None:
        built = build({"text": "a", "sampling_params": None}, tokenizer, sampling={"top_p": 0.3})

        assert isinstance(built, Prompt)
        assert built.sampling.top_p == 0.3

    def test_a_column_may_hold_the_text(self, tokenizer: Tokenizer) -> None:
        built = build({"text": "né"}, tokenizer, prompt={"column": "text"})

        assert isinstance(built, Prompt)
        assert built.tail == "né"

    def test_a_column_may_hold_token_ids_which_are_taken_as_they_are(
        self, tokenizer: Tokenizer
    ) -> None:
        built = build({"ids": [7, 8, 9]}, tokenizer, prompt={"column": "ids"})

        assert isinstance(built, Prompt)
        assert (built.ids, built.tail) == ([7, 8, 9], "")

    @pytest.mark.parametrize("value", [None, [], ["a"], [True], [1.0], 5, {"a": 1}])
    def test_what_is_neither_text_nor_token_ids_is_an_invalid_row(
        self, tokenizer: Tokenizer, value: object
    ) -> None:
        error = refusal({"ids": value}, tokenizer, prompt={"column": "ids"})

        assert error.type is RowErrorType.INVALID_ROW

    def test_only_the_columns_that_prompts_need_are_wanted(self) -> None:
        made = job(prompt="{a} {s.x} {d.t}")

        assert prompt_columns(made, ["s", "b", "d.t", "a"]) == ["a", "s", "d.t"]
        assert prompt_columns(made, ["a", "s", "d.t", "sampling_params"])[-1] == "sampling_params"


class TestMessages:
    @pytest.mark.parametrize(
        "value",
        [TURNS, '[{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes?"}]'],
    )
    def test_a_column_holds_them_as_a_list_or_as_json_text(
        self, chat_tokenizer: Tokenizer, value: object
    ) -> None:
        made = text_of({"chat": value}, chat_tokenizer, **CHAT)

        assert made == "<bos>[user]hi\n[assistant]yes?\n[model]"

    @pytest.mark.parametrize(
        "value",
        [
            None,
            [],
            "not json",
            '{"role": "user"}',
            ["hi"],
            [{"role": "user"}],
            [{"role": "", "content": "x"}],
            [{"role": "user", "content": None}],
            [{"role": "user", "content": 5}],
        ],
    )
    def test_a_column_of_another_shape_is_an_invalid_row(
        self, chat_tokenizer: Tokenizer, value: object
    ) -> None:
        error = refusal({"chat": value}, chat_tokenizer, **CHAT)

        assert error.type is RowErrorType.INVALID_ROW
        assert "chat" in error.message

    def test_messages_that_the_template_refuses_are_an_invalid_row(
        self, chat_tokenizer: Tokenizer
    ) -> None:
        error = refusal({"chat": [{"role": "robot", "content": "x"}]}, chat_tokenizer, **CHAT)

        assert error.type is RowErrorType.INVALID_ROW
        assert "a role nobody has" in error.message

    def test_instructions_are_the_system_message(self, chat_tokenizer: Tokenizer) -> None:
        made = text_of({"chat": TURNS[:1]}, chat_tokenizer, instructions="Be brief.", **CHAT)

        assert made == "<bos>[system]Be brief.\n[user]hi\n[model]"

    def test_written_messages_are_templates(self, chat_tokenizer: Tokenizer) -> None:
        messages = [
            {"role": "user", "content": "Q: {text}"},
            {"role": "assistant", "content": {"jinja": "{{ n + 1 }}"}},
            {"role": "user", "content": {"column": "n"}},
        ]
        made = text_of({"text": "x", "n": 1}, chat_tokenizer, prompt=None, messages=messages)

        assert made == "<bos>[user]Q: x\n[assistant]2\n[user]1\n[model]"

    def test_a_null_in_a_written_message_is_an_invalid_row(self, chat_tokenizer: Tokenizer) -> None:
        messages = [{"role": "user", "content": {"column": "text"}}]
        error = refusal({"text": None}, chat_tokenizer, prompt=None, messages=messages)

        assert error.type is RowErrorType.INVALID_ROW

    def test_bos_that_the_template_writes_is_not_doubled(self, chat_tokenizer: Tokenizer) -> None:
        built = build({"chat": TURNS}, chat_tokenizer, **CHAT)

        assert isinstance(built, Prompt)
        assert built.ids.count(2) == 1
        assert built.ids[0] == 2
