from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline import UsageError
from pipeline.model.families.gemma3.shapes import geometry_of
from pipeline.model.families.registry import read_geometry
from pipeline.model.geometry import Geometry
from tests.support.samples import CONFIG_270M, GEMMA_27B, GEMMA_270M


def config(**changes: Any) -> dict[str, Any]:
    content = CONFIG_270M | changes
    return {k: v for k, v in content.items() if v is not None}


def test_a_text_models_config_gives_its_geometry() -> None:
    assert geometry_of(config()) == GEMMA_270M


def test_a_vision_models_geometry_is_that_of_its_text_part() -> None:
    whole = {"model_type": "gemma3", "text_config": config(), "vision_config": {"hidden_size": 1}}

    assert geometry_of(whole) == GEMMA_270M


@pytest.mark.parametrize("pattern", [None, 6])
def test_without_layer_types_every_sixth_layer_is_global(pattern: int | None) -> None:
    made = geometry_of(config(layer_types=None, sliding_window_pattern=pattern))

    assert (made.n_global, made.n_sliding) == (3, 15)


@pytest.mark.parametrize(
    ("layers", "n_global", "n_sliding"),
    [(18, 3, 15), (26, 4, 22), (34, 5, 29), (48, 8, 40), (62, 10, 52)],
)
def test_the_layer_counts_of_every_size_are_right(
    layers: int, n_global: int, n_sliding: int
) -> None:
    made = geometry_of(config(layer_types=None, num_hidden_layers=layers))

    assert (made.n_global, made.n_sliding, made.layers) == (n_global, n_sliding, layers)


@pytest.mark.parametrize(("geometry", "bytes_"), [(GEMMA_270M, 1024), (GEMMA_27B, 8192)])
def test_a_tokens_keys_and_values_in_one_layer(geometry: Geometry, bytes_: int) -> None:
    assert geometry.kv_bytes_per_token_per_layer() == bytes_
    assert geometry.kv_bytes_per_token_per_layer(dtype_bytes=1) == bytes_ // 2


def test_a_folders_config_is_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config()))

    assert read_geometry(tmp_path) == GEMMA_270M


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "cannot be read"),
        (json.dumps(config(model_type="llama")), "holds a llama model"),
        (json.dumps(config(model_type=None)), "holds a nothing model"),
        (json.dumps(config(head_dim=None)), "lacks 'head_dim'"),
    ],
)
def test_a_folder_that_holds_no_gemma_3_is_refused(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "config.json").write_text(content)

    with pytest.raises(UsageError, match=said):
        read_geometry(tmp_path)


def test_a_folder_without_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_geometry(tmp_path)
