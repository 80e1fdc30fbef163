"""What a job may say: the rules of the model itself."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline import UsageError
from tests.support.samples import job

OBJECT = {"type": "object", "properties": {"topic": {"type": "string"}}}


def refusal(**changes: Any) -> str:
    with pytest.raises(UsageError) as caught:
        job(**changes)
    return str(caught.value)


def test_the_smallest_job_has_repeatable_defaults() -> None:
    made = job()

    assert (made.sampling.temperature, made.sampling.max_tokens) == (0.0, 256)
    assert (made.engine.kind, made.resources.workers) == ("vllm", "auto")


@pytest.mark.parametrize("missing", ["name", "model", "input", "output"])
def test_a_required_key_that_is_missing_is_named(missing: str) -> None:
    assert f"{missing!r} is missing" in refusal(**{missing: None})


def test_a_job_has_a_prompt_or_messages() -> None:
    assert "give either prompt or messages" in refusal(prompt=None)


def test_a_job_has_not_both_a_prompt_and_messages() -> None:
    messages = [{"role": "user", "content": "{text}"}]

    assert "give either prompt or messages" in refusal(messages=messages)


def test_a_text_is_only_one_of_template_jinja_and_column() -> None:
    assert "exactly one of" in refusal(prompt={"jinja": "{{ text }}", "column": "text"})


@pytest.mark.parametrize("prompt", ["{", "a } b", "{}", {"jinja": "{% if %}"}])
def test_a_template_with_bad_syntax_is_refused_before_any_row(prompt: object) -> None:
    assert "prompt" in refusal(prompt=prompt)


def test_a_message_role_is_one_of_three() -> None:
    assert "messages.0.role" in refusal(prompt=None, messages=[{"role": "robot", "content": "x"}])


def test_messages_may_come_from_a_column() -> None:
    assert job(prompt=None, messages={"column": "chat"}).prompt_fields == ("chat",)


def test_prompt_fields_come_once_each_in_order_of_first_use() -> None:
    messages = [
        {"role": "system", "content": "{b} {a}"},
        {"role": "user", "content": "{a} {c.d}"},
    ]

    assert job(prompt=None, messages=messages).prompt_fields == ("b", "a", "c.d")


def test_a_label_has_exactly_one_shape() -> None:
    assert "exactly one of" in refusal(label={"choices": ["a", "b"], "regex": "a|b"})
    assert "exactly one of" in refusal(label={"gold": "truth"})


def test_choices_are_no_truths() -> None:
    """From Python; what stands in a file is text: see ``test_as_written``."""
    assert "a choice is true or false" in refusal(label={"choices": [True, False]})


def test_numbers_among_choices_are_text() -> None:
    assert job(label={"choices": [1, 2.5, "three"]}).label.choices == ("1", "2.5", "three")


@pytest.mark.parametrize(
    ("choices", "said"),
    [(["a"], "at least two"), (["a", "a"], "twice"), (["a", " "], "empty"), ([1, "1"], "twice")],
)
def test_choices_are_two_or_more_different_texts(choices: list[object], said: str) -> None:
    assert said in refusal(label={"choices": choices})


def test_a_json_schema_that_is_none_is_refused() -> None:
    assert "not a JSON schema" in refusal(label={"json_schema": {"type": "objekt"}})


@pytest.mark.parametrize("schema", [{"type": "string"}, {"type": "object"}, {}])
def test_a_json_schema_is_an_object_with_properties(schema: dict[str, Any]) -> None:
    assert "type object with properties" in refusal(label={"json_schema": schema})


def test_a_json_schema_is_kept_as_it_is_written() -> None:
    assert job(label={"json_schema": OBJECT}).label.json_schema == OBJECT


def test_a_regex_must_compile() -> None:
    assert "not a regular expression" in refusal(label={"regex": "(a"})


def test_an_example_has_an_answer() -> None:
    assert "example 1 has no 'answer'" in refusal(examples=[{"text": "x"}])


def test_an_example_has_the_fields_of_the_prompt() -> None:
    said = refusal(examples=[{"text": "x", "answer": "a"}, {"txt": "y", "answer": "b"}])

    assert "example 2 lacks the prompt's field 'text'" in said


def test_an_example_answers_with_one_of_the_choices() -> None:
    said = refusal(
        examples=[{"text": "x", "answer": "maybe"}], label={"choices": ["certain", "never"]}
    )

    assert "example 1" in said
    assert "not one of the choices" in said


def test_an_example_may_answer_a_numeric_choice_with_a_number() -> None:
    examples = [{"text": "x", "answer": 1}]

    assert job(examples=examples, label={"choices": [1, 2]}).examples[0]["answer"] == 1


def test_an_example_whose_field_is_empty_is_refused() -> None:
    """It could not be rendered, for no row at all."""
    assert "example 1" in refusal(examples=[{"text": None, "answer": "a"}])


def test_an_example_that_lacks_a_nested_field_is_refused() -> None:
    examples = [{"post": {"title": "x"}, "answer": "a"}]

    assert "example 1" in refusal(prompt="{post.body}", examples=examples)


def test_examples_need_a_prompt_template() -> None:
    said = refusal(prompt={"column": "text"}, examples=[{"text": "x", "answer": "a"}])

    assert "examples need a prompt template" in said


def test_an_input_names_at_least_one_path() -> None:
    assert "input.path" in refusal(input={"path": []})


@pytest.mark.parametrize("name", ["data", "dask", "reference", "./data", "data/tweets"])
def test_a_folder_may_be_called_as_a_protocol_is(name: str) -> None:
    assert job(input={"path": name}).input.path == name


@pytest.mark.parametrize("address", ["data://x", "dask://worker/x", "reference::s3://a/b"])
def test_what_is_no_place_for_data_is_not_read(address: str) -> None:
    assert "copy the files first" in refusal(input={"path": address})


@pytest.mark.parametrize("workers", [0, -1, 5000, "many", True, 1.5])
def test_workers_is_auto_or_a_sensible_number(workers: object) -> None:
    assert "give auto, or a number" in refusal(resources={"workers": workers})


@pytest.mark.parametrize("name", ["", "a b", "../up", ".hidden", "x" * 101])
def test_a_name_is_a_plain_word(name: str) -> None:
    assert "name" in refusal(name=name)


def test_engine_arguments_are_those_given_and_no_others() -> None:
    engine = job(engine={"max_num_seqs": 8, "enforce_eager": False}).engine

    assert engine.vllm_arguments() == {"max_num_seqs": 8, "enforce_eager": False}


def test_a_seed_of_engines_is_refused_with_the_one_of_rows() -> None:
    assert "sampling.seed gives every row one of its own" in refusal(engine={"seed": 1})


def test_duplicates_are_answered_once_unless_switched_off() -> None:
    assert job().duplicates.answer_once
    assert not job(duplicates={"answer_once": False}).duplicates.answer_once


def test_a_store_is_of_no_use_when_every_row_is_computed() -> None:
    assert "answer_once" in refusal(duplicates={"answer_once": False, "store": "answers"})


@pytest.mark.parametrize("store", ["out", "out/", "out/answers", "./out", "x/../out/answers"])
def test_a_shared_store_lies_outside_of_the_output(store: str) -> None:
    assert "outside of output.path" in refusal(duplicates={"store": store})


@pytest.mark.parametrize("store", ["answers", "out-answers", "s3://bucket/answers"])
def test_a_shared_store_may_lie_anywhere_else(store: str) -> None:
    assert job(duplicates={"store": store}).duplicates.store == store


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"pipeline_parallel_size": 2}, "engine.tensor_parallel_size says how many"),
        ({"data_parallel_size": 2}, "to limit their number: resources.workers"),
        ({"distributed_executor_backend": "ray"}, "an engine's cards are those of one machine"),
        ({"enable_expert_parallel": True}, "Gemma 3 has no experts"),
    ],
)
def test_vllms_other_ways_to_use_several_cards_are_refused_with_the_reason(
    given: dict[str, Any], says: str
) -> None:
    refused = refusal(engine=given)

    assert f"{next(iter(given))} is not for a job to give" in refused
    assert says in refused
