"""GPTQ: less error at the layer's output than rounding weights one by one."""

from __future__ import annotations

import pytest
import torch

from pipeline.model.convert.gptq import gptq
from pipeline.model.convert.quantize import CodedTensor, quantize

ROWS, COLUMNS, TOKENS, GROUP = 48, 128, 512, 32


@pytest.fixture
def dice() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def weights(dice: torch.Generator) -> torch.Tensor:
    return torch.randn(ROWS, COLUMNS, generator=dice)


@pytest.fixture
def inputs(dice: torch.Generator) -> torch.Tensor:
    """Correlated and of different sizes, as the inputs of a model's layers are."""
    mix = torch.randn(COLUMNS, COLUMNS, generator=dice) * torch.linspace(0.1, 3, COLUMNS)
    return torch.randn(TOKENS, COLUMNS, generator=dice) @ mix


def output_error(coded: CodedTensor, weights: torch.Tensor, inputs: torch.Tensor) -> float:
    return float((inputs @ (coded.dequantize() - weights).T).square().sum())


def test_the_output_is_nearer_than_with_the_least_error_of_the_weights(
    weights: torch.Tensor, inputs: torch.Tensor
) -> None:
    ours = gptq(weights, inputs.T @ inputs, GROUP)

    searched = output_error(quantize(weights, GROUP), weights, inputs)
    assert output_error(ours, weights, inputs) < 0.8 * searched


def test_codes_and_scales_have_the_form_of_other_rounding(
    weights: torch.Tensor, inputs: torch.Tensor
) -> None:
    ours = gptq(weights, inputs.T @ inputs, GROUP)

    assert (ours.codes.dtype, ours.codes.shape) == (torch.int8, (ROWS, COLUMNS))
    assert (ours.scales.dtype, ours.scales.shape) == (torch.bfloat16, (ROWS, COLUMNS // GROUP))
    assert (int(ours.codes.min()), int(ours.codes.max())) == (-8, 7)


def test_the_size_of_the_inputs_does_not_matter(
    weights: torch.Tensor, inputs: torch.Tensor
) -> None:
    moments = inputs.T @ inputs

    assert torch.equal(gptq(weights, moments, GROUP).codes, gptq(weights, moments / 4, GROUP).codes)


def test_with_inputs_that_have_nothing_in_common_it_is_the_search(weights: torch.Tensor) -> None:
    ours, searched = gptq(weights, torch.eye(COLUMNS), GROUP), quantize(weights, GROUP)

    assert torch.equal(ours.scales, searched.scales)
    assert torch.equal(ours.codes, searched.codes)


def test_inputs_that_are_always_zero_do_no_harm(
    weights: torch.Tensor, inputs: torch.Tensor
) -> None:
    inputs[:, 3] = 0
    inputs[:, 64:96] = 0

    ours = gptq(weights, inputs.T @ inputs, GROUP).dequantize()
    assert torch.isfinite(ours).all()
    assert (ours[:, 64:96] - weights[:, 64:96]).abs().max() < 0.5


def test_the_given_weights_are_left_as_they_are(
    weights: torch.Tensor, inputs: torch.Tensor
) -> None:
    before = weights.clone()
    gptq(weights, inputs.T @ inputs, GROUP)

    assert torch.equal(weights, before)


def test_columns_that_are_no_multiple_of_the_group_are_refused() -> None:
    with pytest.raises(ValueError, match="33 columns"):
        gptq(torch.zeros(1, 33), torch.eye(33), GROUP)
