"""Output rows: which columns, of which types, and what is counted."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import UsageError
from pipeline.errors import RowError, RowErrorType
from pipeline.output.columns.json_columns import arrow_type, coerce
from pipeline.output.columns.results import (
    OutputColumns,
    RowResult,
    output_columns,
    tally,
    to_table,
)
from tests.support.samples import job, quick

RESULT = ["completion", "finish_reason", "prompt_tokens", "completion_tokens", "error"]
CHOICES = {"choices": ["good", "bad"]}
SURE = ["accepted", "raw_confidence", "probabilities"]
GOOD = RowResult("good", "good", 0.75, finish_reason="stop", probabilities=(0.75, 0.25))
ERROR = RowError(RowErrorType.SCHEMA_NOT_MET, "no JSON", attempts=1)


def columns(schema: dict[str, pa.DataType], **changes: Any) -> OutputColumns:
    return output_columns(job(**changes), pa.schema(list(schema.items())))


def keep(*names: str) -> dict[str, Any]:
    return {"output": {"path": "out", "keep": list(names)}}


def json_label(**properties: Any) -> dict[str, Any]:
    return {"label": {"json_schema": {"type": "object", "properties": properties}}}


class TestColumns:
    def test_all_input_columns_are_kept_and_results_follow(self) -> None:
        made = columns({"id": pa.int64(), "text": pa.string()})

        assert made.schema.names == ["id", "text", *RESULT]
        assert made.schema.field("id").type == pa.int64()

    def test_only_the_columns_named_are_kept_in_that_order(self) -> None:
        schema = {"a": pa.int64(), "b": pa.int64(), "c": pa.int64()}

        assert columns(schema, **keep("c", "a")).schema.names == ["c", "a", *RESULT]
        assert columns(schema, **keep()).schema.names == RESULT

    def test_choices_add_label_confidence_and_what_they_stand_on(self) -> None:
        schema = columns({}, label=CHOICES).schema

        assert schema.names == ["completion", "label", "confidence", *SURE, *RESULT[1:]]
        assert schema.field("probabilities").type == pa.struct(
            {"good": pa.float64(), "bad": pa.float64()}
        )

    def test_an_output_of_before_there_were_probabilities_has_none(self) -> None:
        before = {"completion", "label", "confidence", *RESULT}
        made = output_columns(job(label=CHOICES), pa.schema({"accepted": pa.int64()}), before)

        assert made.schema.names == ["accepted", "completion", "label", "confidence", *RESULT[1:]]
        table = to_table(pa.table({"accepted": [1]}), [GOOD], made)
        assert table.to_pylist()[0]["accepted"] == 1

    def test_a_kept_column_whose_name_is_taken_is_renamed(self) -> None:
        made = columns({"label": pa.int64(), "error": pa.string()}, label=CHOICES)

        assert made.kept == (("label", "input_label"), ("error", "input_error"))
        assert made.schema.field("input_label").type == pa.int64()

    def test_a_name_that_no_result_takes_stays(self) -> None:
        assert "label" in columns({"label": pa.int64()}).schema.names

    @pytest.mark.parametrize("schema", [["label", "input_label"], ["input_label", "label"]])
    def test_renaming_never_makes_two_columns_of_one_name(self, schema: list[str]) -> None:
        names = columns(dict.fromkeys(schema, pa.int64()), label=CHOICES).schema.names

        assert len(set(names)) == len(names)

    def test_keeping_a_column_twice_makes_no_two_columns_of_one_name(self) -> None:
        try:
            names = columns({"a": pa.int64()}, **keep("a", "a")).schema.names
        except UsageError:
            return
        assert len(set(names)) == len(names)

    def test_a_kept_column_that_is_not_there_is_refused_with_the_nearest(self) -> None:
        with pytest.raises(UsageError, match=r"output\.keep names 'txt'") as caught:
            columns({"text": pa.string()}, **keep("txt"))
        assert "did you mean text?" in str(caught.value)

    def test_a_gold_column_that_is_not_there_is_refused(self) -> None:
        with pytest.raises(UsageError, match=r"label\.gold names 'truth'"):
            columns({"text": pa.string()}, label=CHOICES | {"gold": "truth"})

    def test_a_property_named_like_a_result_is_refused(self) -> None:
        with pytest.raises(UsageError, match="property 'error'"):
            columns({}, **json_label(error={"type": "string"}))

    def test_properties_are_typed_columns_in_schema_order(self) -> None:
        made = columns({}, **json_label(z={"type": "integer"}, a={"type": "boolean"}))

        assert made.schema.names == ["completion", "z", "a", *RESULT[1:]]
        assert made.schema.field("z").type == pa.int64()

    def test_a_kept_column_makes_way_for_a_property(self) -> None:
        made = columns({"topic": pa.int64()}, **json_label(topic={"type": "string"}))

        assert made.kept == (("topic", "input_topic"),)


NESTED = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "tags": {"type": "array", "items": {"type": ["integer", "null"]}},
    },
}


class TestJsonColumns:
    @pytest.mark.parametrize(
        ("schema", "kind"),
        [
            ({"type": "string"}, pa.string()),
            ({"type": "integer"}, pa.int64()),
            ({"type": "number"}, pa.float64()),
            ({"type": "boolean"}, pa.bool_()),
            ({"type": ["integer", "null"]}, pa.int64()),
            ({"enum": ["a", "b"]}, pa.string()),
            ({"type": "array", "items": {"type": "number"}}, pa.list_(pa.float64())),
            (
                NESTED,
                pa.struct([("name", pa.string()), ("tags", pa.list_(pa.int64()))]),
            ),
            ({"type": ["string", "integer"]}, pa.string()),
            ({"type": "object"}, pa.string()),
            ({"type": "array"}, pa.string()),
            ({}, pa.string()),
        ],
    )
    def test_a_property_has_the_arrow_type_that_holds_it(
        self, schema: dict[str, Any], kind: pa.DataType
    ) -> None:
        assert arrow_type(schema) == kind

    @pytest.mark.parametrize(
        ("schema", "value", "stored"),
        [
            ({"type": "integer"}, 3.0, 3),
            ({"type": "number"}, 3, 3.0),
            ({"type": ["integer", "null"]}, None, None),
            ({"type": "array", "items": {"type": "number"}}, [1, 2.5], [1.0, 2.5]),
            (NESTED, {"name": "x", "tags": [1, None]}, {"name": "x", "tags": [1, None]}),
            (NESTED, {"name": "x", "more": 1}, {"name": "x", "tags": None}),
            ({"type": ["string", "integer"]}, 3, "3"),
            ({"type": ["string", "integer"]}, "3", "3"),
            ({}, {"é": [1]}, '{"é": [1]}'),
            ({"enum": [1, "a"]}, 1, "1"),
        ],
    )
    def test_a_valid_value_is_stored_as_its_column_wants_it(
        self, schema: dict[str, Any], value: object, stored: object
    ) -> None:
        assert pa.array([coerce(value, schema)], arrow_type(schema)).to_pylist() == [stored]

    @pytest.mark.parametrize("kind", ["integer", "number"])
    @pytest.mark.parametrize(
        "value", [2**63, -(2**63) - 1, 10**400], ids=["2^63", "-2^63-1", "10^400"]
    )
    def test_a_number_that_no_column_holds_fails_no_unit(self, kind: str, value: int) -> None:
        """A model that gets stuck writes one digit after another."""
        pa.array([coerce(value, {"type": kind})], arrow_type({"type": kind}))


RESULTS = st.lists(
    st.one_of(
        st.builds(
            RowResult,
            completion=st.text(st.characters(codec="utf-8"), max_size=5),
            finish_reason=st.sampled_from(["stop", "length"]),
            prompt_tokens=st.integers(1, 100),
            completion_tokens=st.integers(0, 100),
        ),
        st.just(RowResult(error=ERROR, prompt_tokens=3)),
    ),
    max_size=20,
)


@quick
@given(RESULTS)
def test_there_is_one_output_row_per_input_row_in_order(results: list[RowResult]) -> None:
    inputs = pa.table({"id": pa.array(range(len(results)), pa.int64())})

    rows = to_table(inputs, results, columns({"id": pa.int64()})).to_pylist()

    assert [r["id"] for r in rows] == list(range(len(results)))
    assert [r["completion"] for r in rows] == [r.completion for r in results]
    assert [r["error"] is None for r in rows] == [r.error is None for r in results]


@quick
@given(RESULTS)
def test_rows_and_tokens_add_up(results: list[RowResult]) -> None:
    inputs = pa.table({"id": pa.array(range(len(results)), pa.int64())})

    total = tally(inputs, results, columns({"id": pa.int64()}))

    assert total.rows == len(results)
    assert total.failed == sum(r.error is not None for r in results) == total.errors.total()
    assert total.succeeded == total.finish_reasons.total() == total.completion_lengths.total()
    assert total.prompt_tokens == sum(r.prompt_tokens for r in results)


def test_an_error_is_a_struct_of_type_message_and_attempts() -> None:
    made = columns({})
    table = to_table(pa.table({}), [RowResult(error=ERROR)], made)

    assert table.column("error").to_pylist() == [
        {"type": "SchemaNotMet", "message": "no JSON", "attempts": 1}
    ]


def test_json_fields_become_values_of_their_columns() -> None:
    label = json_label(n={"type": "integer"}, nested=NESTED)
    results = [
        RowResult(completion="{}", fields={"n": 1, "nested": {"name": "x", "tags": []}}),
        RowResult(completion="{}", fields={"n": 2}),
        RowResult(error=ERROR),
    ]
    inputs = pa.table({"id": [1, 2, 3]})

    table = to_table(inputs, results, columns({"id": pa.int64()}, **label))

    assert table.column("n").to_pylist() == [1, 2, None]
    assert table.column("nested").to_pylist() == [{"name": "x", "tags": []}, None, None]


def test_the_models_own_probabilities_are_kept_by_choice() -> None:
    table = to_table(
        pa.table({}), [GOOD, RowResult(error=ERROR)], columns({}, label=CHOICES)
    ).select(SURE)

    assert table.to_pylist() == [
        {
            "accepted": None,
            "raw_confidence": 0.75,
            "probabilities": {"good": 0.75, "bad": 0.25},
        },
        dict.fromkeys(SURE),
    ]


def test_labels_are_counted_against_the_gold_column() -> None:
    made = columns({"truth": pa.string()}, label=CHOICES | {"gold": "truth"})
    inputs = pa.table({"truth": ["good", "bad", None, "good"]})
    good = RowResult("good", "good", 0.9, finish_reason="stop", prompt_tokens=1)

    total = tally(inputs, [good, good, good, RowResult(error=ERROR)], made)

    assert total.labels == {"good": 3}
    assert total.confusion == {"good\tgood": 1, "bad\tgood": 1}


def test_free_text_against_a_gold_column_is_right_or_wrong() -> None:
    made = columns({"truth": pa.int64()}, label={"regex": " ?[0-9]+", "gold": "truth"})
    inputs = pa.table({"truth": [1, 2]})

    total = tally(inputs, [RowResult(" 1"), RowResult("3")], made)

    assert total.confusion == {"right": 1, "wrong": 1}


def test_an_error_keeps_an_example_of_its_message() -> None:
    total = tally(pa.table({}), [RowResult(error=ERROR)], columns({}))

    assert total.error_examples == {"SchemaNotMet": "no JSON"}


_NAMES = ("answer", "label", "confidence", "accepted", "probabilities", "raw_confidence")
_NAMES += ("completion", "completions", "finish_reason", "x")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"label": CHOICES},
        {"label": {"regex": "[0-9]"}},
        {"score": {}},
        {"sampling": {"n": 2, "temperature": 1.0}},
        {"sampling": {"n": 2, "temperature": 1.0}, "output": {"path": "o", "n": "rows"}},
    ],
)
def test_columns_of_the_input_stay_whatever_they_are_called(changes: dict[str, Any]) -> None:
    """Also those that have the name of a column which only other jobs' results have."""
    made = columns(dict.fromkeys(_NAMES, pa.int64()), **changes)
    inputs = pa.table({name: [place] for place, name in enumerate(_NAMES)})
    failed = RowResult(error=ERROR)

    table = to_table(inputs, [failed], made)

    for place, name in enumerate(_NAMES):
        [(_, new)] = [pair for pair in made.kept if pair[0] == name]
        assert set(table.column(new).to_pylist()) == {place}
