"""What an engine is loaded with where rows have several questions."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.engine.vllm import kind
from tests.support.samples import job


@pytest.mark.parametrize(
    ("asked", "given", "dense"),
    [
        ({"questions": {"urgent": {"predicate": "Urgent?"}}}, {}, True),
        ({"questions": {"urgent": {"predicate": "?"}}}, {"enable_prefix_caching": False}, False),
        ({"label": {"choices": ["a", "b"]}}, {}, False),
    ],
)
def test_all_blocks_of_a_rows_text_are_kept_for_its_next_question(
    asked: dict[str, Any], given: dict[str, Any], dense: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[dict[str, Any]] = []
    module = SimpleNamespace(VllmEngine=lambda model, arguments, *a, **k: loaded.append(arguments))
    monkeypatch.setitem(sys.modules, "pipeline.engine.vllm.engine", module)
    model: Any = None
    kind.load(job(**asked), given, model, lambda line: None)

    [arguments] = loaded
    assert (arguments.get("prefix_cache_retention_interval", 0) is None) == dense
