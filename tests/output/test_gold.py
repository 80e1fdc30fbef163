"""Gold values are choices under the names they have there, or it is said that none can match."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest

from pipeline import job_from
from pipeline.errors import UsageError
from pipeline.job.answer.label import Label
from pipeline.output.columns.gold import mismatch, names_of, truth
from tests.support.samples import BASE_JOB

_CLASSES = {"info": {"features": {"y": {"names": ["negative", "positive"], "_type": "ClassLabel"}}}}


def label(gold: Any = "y", *choices: str) -> Label:
    return Label(choices=choices or ("negative", "positive"), gold=gold)


def test_values_stand_for_the_choices_that_the_job_names() -> None:
    made = label({"column": "y", "values": {"0": "negative", "1": "positive"}})

    names = names_of(made, pa.schema([("y", pa.int64())]))
    assert [truth(value, names) for value in (0, 1, 2)] == ["negative", "positive", "2"]


def test_names_of_classes_come_with_the_data() -> None:
    metadata = {b"huggingface": json.dumps(_CLASSES).encode()}

    names = names_of(label(), pa.schema([("y", pa.int64())], metadata))
    assert truth(1, names) == "positive"


@pytest.mark.parametrize("metadata", [b"no json", b"[]", b'{"info": null}', b"\xff"])
def test_metadata_that_is_not_theirs_says_nothing(metadata: bytes) -> None:
    assert names_of(label(), pa.schema([("y", pa.int64())], {b"huggingface": metadata})) == {}


@pytest.mark.parametrize(("value", "choice"), [(True, "True"), (True, "true")])
def test_a_truth_has_either_name(value: bool, choice: str) -> None:
    assert truth(value, {choice: "yes"}) == "yes"


@pytest.mark.parametrize(
    ("seen", "values"),
    [
        ({"0", "1"}, "{0: negative, 1: positive}"),
        ({"Negative", "POSITIVE"}, "{Negative: negative, POSITIVE: positive}"),
        ({"a", "b", "c"}, "{a: …, b: …, c: …}"),
    ],
)
def test_gold_that_never_matches_is_said_with_the_mapping(seen: set[str], values: str) -> None:
    wrong, fix = mismatch(label(), "label.gold", seen) or ("", "")

    assert "none of the choices" in wrong
    assert fix == f"say which is which: label: {{gold: {{column: y, values: {values}}}}}"


@pytest.mark.parametrize("seen", [{"negative"}, {"negative", "other"}, set()])
def test_gold_that_may_match_is_fine(seen: set[str]) -> None:
    assert mismatch(label(), "label.gold", seen) is None


def test_a_mapping_to_no_choice_is_refused() -> None:
    gold = {"column": "y", "values": {"0": "neutral"}}

    with pytest.raises(UsageError, match="'0' stands for 'neutral', which is no choice"):
        job_from(BASE_JOB | {"label": {"choices": ["a", "b"], "gold": gold}})
