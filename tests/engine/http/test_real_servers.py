"""The demo over servers that others make: `vllm serve`, and mlx_lm.server."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pytest

from pipeline.engine.machine.host import cpu_environment
from pipeline.engine.vllm.engine import environment
from pipeline.model.folder import ModelFolder
from pipeline.model.store.resolve import resolve
from tests.chaos.in_process import run_here
from tests.support.engine_probe import JSON_SCHEMA, REGEX
from tests.support.servers import demo_job, free_port, mlx_server, serving, vllm_server

pytestmark = [pytest.mark.engine, pytest.mark.long]

_ROWS = 64


def rows_over(folder: Path, kind: str, url: str, rows: int, **changes: Any) -> dict[str, Any]:
    run_here(demo_job(folder, rows, {"kind": kind, "url": url}, **changes))
    found: dict[str, Any] = ds.dataset(folder / "out").to_table().to_pydict()
    assert [error for error in found["error"] if error is not None] == []
    return found


def assert_labelled(rows: dict[str, Any]) -> None:
    assert len(rows["label"]) == _ROWS
    assert all(0.5 <= confidence <= 1 for confidence in rows["confidence"])
    assert len(set(rows["confidence"])) > _ROWS / 8  # mlx rounds log-probabilities to bf16
    right = [a == b for a, b in zip(rows["label"], rows["sentiment"], strict=True)]
    assert sum(right) / _ROWS > 0.8


@pytest.fixture(scope="module")
def vllm(model: ModelFolder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder, port = tmp_path_factory.mktemp("vllm"), free_port()
    variables = environment(gpu=False, eager=True) | cpu_environment(0, 1)
    limits = ["--max-model-len", 2048, "--kv-cache-memory-bytes", 1 << 29, "--enforce-eager"]
    # else a small model may write blanks without end, as JSON may have them anywhere
    shapes = {"backend": "xgrammar", "disable_any_whitespace": True}
    limits += ["--structured-outputs-config", json.dumps(shapes)]
    where = ["--host", "127.0.0.1", "--port", port]
    command = [*vllm_server(), "--model", model.path, *where, *limits]
    with serving(command, port, folder / "log", **variables) as url:
        yield url


def test_vllms_own_server_labels_as_an_engine_does(vllm: str, tmp_path: Path) -> None:
    assert_labelled(rows_over(tmp_path, "openai", vllm, _ROWS))


def test_vllms_own_server_holds_answers_to_shapes(vllm: str, tmp_path: Path) -> None:
    (tmp_path / "json").mkdir()
    (tmp_path / "regex").mkdir()
    plain = {"examples": None, "sampling": {"max_tokens": 60}}
    held = {"label": {"json_schema": JSON_SCHEMA}, "prompt": "Tweet: {text}\nIts mood:"}
    rows = rows_over(tmp_path / "json", "openai", vllm, 8, **plain | held)
    assert all(json.loads(one)["mood"] in ("glad", "sad") for one in rows["completion"])

    held = {"label": {"regex": REGEX}, "prompt": "Tweet: {text}\nIts flight:"}
    rows = rows_over(tmp_path / "regex", "openai", vllm, 8, **plain | held)
    assert all(re.fullmatch(REGEX, one) for one in rows["completion"])


def test_mlx_labels_from_its_log_probabilities(tmp_path: Path) -> None:
    (tmp_path / "hub").mkdir()
    weights, port = resolve("gemma-3-270m-bf16"), free_port()
    command = [mlx_server(), "--model", weights.path, "--host", "127.0.0.1", "--port", port]
    with serving(command, port, tmp_path / "log", HF_HUB_CACHE=str(tmp_path / "hub")) as url:
        assert_labelled(rows_over(tmp_path, "mlx", url, _ROWS))
