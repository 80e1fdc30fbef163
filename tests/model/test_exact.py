"""Arithmetic whose results do not depend on who computes it."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch

from pipeline.model.exact import exp, gram, gridded, multiply, product, sqrt, total


@pytest.fixture
def dice() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def uneven(dice: torch.Generator, rows: int, columns: int) -> torch.Tensor:
    """Rows and columns of very different sizes."""
    sizes = torch.logspace(-4, 4, rows).unsqueeze(1) * torch.logspace(0, 3, columns)
    return torch.randn(rows, columns, generator=dice) * sizes


def test_a_product_is_exact_for_what_its_operands_were_rounded_to(dice: torch.Generator) -> None:
    a, b = (gridded(uneven(dice, rows, 300)) for rows in (5, 7))

    ours = multiply(a, b)
    for i in range(5):
        for j in range(7):
            pairs = zip((a.steps * a.unit)[i].tolist(), (b.steps * b.unit)[j].tolist(), strict=True)
            assert Fraction(float(ours[i, j])) == sum(Fraction(x) * Fraction(y) for x, y in pairs)


def test_the_order_of_the_additions_does_not_matter(dice: torch.Generator) -> None:
    a, b = uneven(dice, 40, 2048), uneven(dice, 50, 2048)
    order = torch.randperm(2048, generator=dice)

    assert torch.equal(product(a, b), product(a[:, order], b[:, order]))
    assert torch.equal(gram(a.T), gram(a[:, order].T))


def test_the_largest_sums_still_fit() -> None:
    a = torch.full((1, 4096), 1 - 2**-24)

    steps = gridded(a).steps
    assert float(steps @ steps.T) <= 2**53
    assert int(steps.max()) ** 2 * 4096 <= 2**53


def test_operands_lose_little(dice: torch.Generator) -> None:
    a, b = torch.randn(60, 2048, generator=dice), torch.randn(50, 2048, generator=dice)
    wanted = a.double() @ b.double().T

    assert float((product(a, b) - wanted).abs().max()) < 1e-5 * float(wanted.std())
    assert float((gram(a) - a.double().T @ a.double()).abs().max()) < 1e-3


def test_rows_of_zeros_are_zeros() -> None:
    assert not product(torch.zeros(2, 5), torch.ones(3, 5)).any()


def test_what_exceeds_the_given_magnitudes_is_cut() -> None:
    ours = gridded(torch.tensor([[0.5, 8.0]]), 64, torch.tensor([[0.9]]))

    assert (ours.steps * ours.unit).tolist() == [[0.5, 1.0]]


@pytest.mark.parametrize("size", [1, 2, 3, 31, 32, 100])
def test_a_total_is_the_sum(dice: torch.Generator, size: int) -> None:
    values = torch.randn(size, 4, generator=dice)

    for dim, given in ((0, values), (1, values.T)):
        ours = total(given, dim).flatten().tolist()
        assert ours == pytest.approx([math.fsum(c) for c in values.T.tolist()], abs=1e-5)


def test_functions_are_near_the_truth() -> None:
    x = torch.linspace(-87, 87, 100_001)

    truth = torch.exp(x.double())
    assert float(((exp(x) - truth) / truth).abs().max()) < 2e-7


def test_square_roots_are_right_to_the_last_bit(dice: torch.Generator) -> None:
    values = torch.rand(10_000, generator=dice).double() * 5

    assert sqrt(values).tolist() == [math.sqrt(v) for v in values.tolist()]
