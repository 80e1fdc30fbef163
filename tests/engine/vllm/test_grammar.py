"""What vLLM's compilers of grammars know, with the compilers themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline import UsageError
from pipeline.engine.load import check_answer_shape
from pipeline.engine.vllm import grammar
from pipeline.engine.vllm.grammar_compilers import (
    UNHEEDED,
    Unsupported,
    find_fault,
    structured_output_settings,
)
from tests.support.samples import job

pytestmark = [
    pytest.mark.early,
    pytest.mark.filterwarnings("ignore"),  # of what vLLM imports
]


def obj(part: Any, **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"p": part}, "required": ["p"], **more}


@pytest.mark.parametrize(
    ("part", "backend"),
    [
        ({"type": "string"}, "xgrammar"),
        ({"type": "string", "pattern": "^[0-9]{5}$"}, "xgrammar"),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, "xgrammar"),
        ({"type": "integer", "multipleOf": 5}, "guidance"),
    ],
)
def test_the_backend_is_one_that_heeds_all_keys(part: Any, backend: str) -> None:
    assert structured_output_settings(obj(part))["backend"] == backend


def test_a_regex_is_for_xgrammar() -> None:
    assert structured_output_settings(None, "yes|no")["backend"] == "xgrammar"
    with pytest.raises(Unsupported):
        structured_output_settings(None, "(?i:yes)|no")


@pytest.mark.parametrize("key", UNHEEDED)
def test_no_key_that_xgrammar_leaves_unheeded_is_taken(key: str) -> None:
    values: dict[str, Any] = {"dependentRequired": {}, "uniqueItems": True}
    with pytest.raises(Unsupported):
        structured_output_settings(obj({"type": "array", key: values.get(key, {})}))


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        (obj({"type": "array", "uniqueItems": True}), "properties.p.uniqueItems"),
        (obj({"$ref": "#/$defs/a"}, **{"$defs": {"a": {"not": {}}}}), "$defs.a.not"),
        (obj({"type": "string"}, **{"if": {}, "then": {}}), "if"),
        (obj({"items": {"type": "string", "format": "odd"}}), "properties.p.items.format"),
    ],
)
def test_the_key_at_fault_is_named_as_the_job_file_has_it(schema: Any, place: str) -> None:
    fault = find_fault(schema, None)

    assert fault is not None
    assert fault["place"] == f"label.json_schema.{place}"


def test_what_the_compilers_said_is_asked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RACKMILL_HOME", str(tmp_path))
    refused = job(label={"regex": r"\bfoo"})
    for _ in range(2):
        with pytest.raises(UsageError, match=r"label\.regex"):
            check_answer_shape(refused)
        monkeypatch.setattr(grammar, "_ask", None)


def test_a_rehearsal_without_an_answer_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RACKMILL_HOME", str(tmp_path))
    schema = obj({"type": "string", "pattern": "^(a|b){400}$", "maxLength": 3})
    with pytest.raises(UsageError, match="simulated engine"):
        check_answer_shape(job(label={"json_schema": schema}, engine={"kind": "simulated"}))
