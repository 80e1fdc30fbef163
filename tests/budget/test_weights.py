"""Weights, against the published figures. (Against engines: tests/engine/test_fit_engine.py.)"""

from __future__ import annotations

import pytest

from pipeline.budget.weights import weight_bytes
from pipeline.model.catalogue import MODELS, Precision


@pytest.mark.parametrize(
    ("size", "text", "vision"),
    [("1b", 1.00, 1.00), ("4b", 3.15, 3.98), ("12b", 8.06, 8.90), ("27b", 17.2, 18.1)],
)
def test_int4_is_as_large_as_the_published_files(size: str, text: float, vision: float) -> None:
    model = MODELS[f"gemma-3-{size}"]
    weights = weight_bytes(model.geometry, "int4", vision=model.vision_parameters)
    assert weights.total() / 1e9 == pytest.approx(text, rel=0.01)
    assert weights.total(vision=True) / 1e9 == pytest.approx(vision, rel=0.01)


def test_only_linear_layers_are_quantized() -> None:
    geometry = MODELS["gemma-3-4b"].geometry
    bf16, int4 = weight_bytes(geometry, "bf16"), weight_bytes(geometry, "int4")
    assert bf16.embedding_bytes == int4.embedding_bytes
    assert bf16.norm_bytes == int4.norm_bytes
    assert int4.linear_bytes / bf16.linear_bytes == pytest.approx(4.5 / 16)


@pytest.mark.parametrize(("precision", "bits"), [("bf16", 16), ("int8", 8.5), ("int4", 4.5)])
def test_a_scale_of_two_bytes_is_shared_by_a_group(precision: Precision, bits: float) -> None:
    geometry = MODELS["gemma-3-27b"].geometry
    plain = weight_bytes(geometry, "bf16").linear_bytes
    assert weight_bytes(geometry, precision).linear_bytes == plain * bits / 16


def test_larger_groups_have_fewer_scales() -> None:
    geometry = MODELS["gemma-3-1b"].geometry
    small, large = (weight_bytes(geometry, "int4", group_size=g) for g in (32, 128))
    assert small.linear_bytes > large.linear_bytes
