"""int4: the packing loses nothing, and the rounding loses as little as it can."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as numbers

from pipeline.model.convert.quantize import CodedTensor, quantize
from tests.support.samples import quick

GROUP = 32
CODES = numbers.arrays(np.int8, (2, 2 * GROUP), elements=st.integers(-8, 7))
WEIGHTS = numbers.arrays(
    np.float32, (2, 2 * GROUP), elements=st.floats(-1, 1, width=32, allow_subnormal=False)
)
# every scale that bfloat16 holds is of this form
SCALES = st.builds(lambda m, e: m * 2.0**e, st.integers(128, 255), st.integers(-20, 0))


def unpack(packed: torch.Tensor) -> torch.Tensor:
    """compressed-tensors' reading of a word: eight codes + 8, the first in the lowest bits."""
    words = packed.to(torch.int64) & 0xFFFFFFFF
    nibbles = (words.unsqueeze(-1) >> torch.arange(0, 32, 4)) & 0xF
    return (nibbles - 8).flatten(-2).to(torch.int8)


def squared_errors(weights: torch.Tensor, restored: torch.Tensor) -> torch.Tensor:
    """One per group, in float64 so that nothing is lost in adding."""
    return (weights.double() - restored.double()).square().view(-1, GROUP).sum(-1)


@quick
@given(CODES)
def test_packing_keeps_every_code(codes: np.ndarray) -> None:
    tensor = CodedTensor(torch.from_numpy(codes), torch.ones(2, 2, dtype=torch.bfloat16))

    packed = tensor.packed()
    assert packed.dtype == torch.int32
    assert packed.shape == (2, 2 * GROUP // 8)
    assert torch.equal(unpack(packed), tensor.codes)


def test_a_word_holds_its_first_code_in_the_lowest_bits() -> None:
    codes = torch.tensor([[-8, -7, -6, -5, -4, -3, -2, 7]], dtype=torch.int8)

    [[word]] = CodedTensor(codes, torch.ones(1, 1)).packed().tolist()
    assert word & 0xFFFFFFFF == 0xF6543210


@quick
@given(WEIGHTS)
def test_codes_are_in_range_and_scales_one_per_group(weights: np.ndarray) -> None:
    made = quantize(torch.from_numpy(weights), GROUP)

    assert made.codes.dtype == torch.int8
    assert made.codes.min() >= -8
    assert made.codes.max() <= 7
    assert made.scales.dtype == torch.bfloat16
    assert made.scales.shape == (2, 2)
    assert made.group_size == GROUP
    assert torch.isfinite(made.dequantize()).all()


@quick
@given(CODES, st.lists(SCALES, min_size=4, max_size=4))
def test_weights_that_are_on_a_grid_come_back_exactly(
    codes: np.ndarray, scales: list[float]
) -> None:
    """As files of type Q4_0 have them: the extreme weight of a group is at -8."""
    codes[:, ::GROUP] = -8
    grid = CodedTensor(torch.from_numpy(codes), torch.tensor(scales).view(2, 2).bfloat16())

    made = quantize(grid.dequantize(), GROUP)
    assert torch.equal(made.dequantize(), grid.dequantize())


def test_the_codes_of_a_q4_0_file_carry_over() -> None:
    """Only its scales are rounded, from half precision to bfloat16."""
    weights = np.random.default_rng(0).normal(0, 0.02, (16, 256)).astype(np.float32)
    kind = gguf.GGMLQuantizationType.Q4_0
    blocks = gguf.quants.quantize(weights, kind)
    stored = blocks.reshape(16, 8, 18)
    nibbles = np.concatenate([stored[..., 2:] & 0xF, stored[..., 2:] >> 4], axis=-1)

    made = quantize(torch.from_numpy(gguf.quants.dequantize(blocks, kind)), GROUP)

    signs = np.sign(made.scales.float().numpy())[..., None]
    scales = stored[..., :2].copy().view(np.float16).astype(np.float32)
    assert np.array_equal(np.sign(scales), signs)
    assert np.array_equal(made.codes.numpy().reshape(16, 8, 32), nibbles.astype(np.int8) - 8)


@quick
@given(WEIGHTS)
def test_no_group_is_worse_than_plain_rounding_by_its_largest_weight(weights: np.ndarray) -> None:
    tensor = torch.from_numpy(weights)
    groups = tensor.view(2, 2, GROUP)
    scale = groups.abs().amax(-1, keepdim=True) / 8
    extreme = groups.gather(-1, groups.abs().argmax(-1, keepdim=True))
    scale = torch.where(extreme > 0, -scale, scale)
    codes = torch.where(scale == 0, 0, groups / scale).round().clamp(-8, 7)
    plain = (codes * scale.bfloat16().float()).view(2, -1)

    ours = squared_errors(tensor, quantize(tensor, GROUP).dequantize())

    assert (ours <= squared_errors(tensor, plain) * (1 + 1e-5) + 1e-12).all()


def test_random_weights_are_better_than_plain_rounding_by_a_good_part() -> None:
    weights = torch.randn(64, 256, generator=torch.Generator().manual_seed(0))
    groups = weights.view(-1, GROUP)
    scale = groups.abs().amax(-1, keepdim=True) / 7
    plain = ((groups / scale).round() * scale).view_as(weights)

    ours = squared_errors(weights, quantize(weights, GROUP).dequantize()).sum()
    assert ours < 0.8 * squared_errors(weights, plain).sum()


def test_a_group_of_zeros_is_zeros() -> None:
    made = quantize(torch.zeros(2, 2 * GROUP), GROUP)

    assert torch.equal(made.dequantize(), torch.zeros(2, 2 * GROUP))


def test_a_group_of_zeros_beside_others_leaves_them_alone() -> None:
    weights = torch.zeros(1, 2 * GROUP)
    weights[0, GROUP:] = torch.linspace(-1, 1, GROUP)

    made = quantize(weights, GROUP).dequantize()
    assert torch.equal(made[0, :GROUP], torch.zeros(GROUP))
    assert torch.equal(made[:, GROUP:], quantize(weights[:, GROUP:], GROUP).dequantize())


def test_columns_that_are_no_multiple_of_the_group_are_refused() -> None:
    with pytest.raises(ValueError, match="33 columns"):
        quantize(torch.zeros(1, 33), GROUP)
