"""The simpler policies: what each hands over, and when."""

from __future__ import annotations

import pytest

from pipeline.admission.demand import Demand
from pipeline.admission.policy import Limits, Policy, make_policy
from pipeline.budget.kv_layout import KvLayout
from tests.support.samples import GEMMA_270M

LAYOUT = KvLayout(GEMMA_270M, block_size=16, chunk=256)
EACH = LAYOUT.prefill_blocks(100 + 60)
NAMES = ["packed", "engine", "static:3", "worst-case"]


def policy(name: str, pool: int = 10_000) -> Policy:
    return make_policy(name, Limits(LAYOUT, pool, 64, 256, 60))


def demand(number: int) -> Demand:
    return Demand(number, 100, 60)


def handed(made: Policy, inside: int = 0) -> list[int]:
    """All that it hands over while the engine makes no step."""
    ids: list[int] = []
    while (one := made.next(inside=inside + len(ids), waiting=len(ids), ending=False)) is not None:
        ids.append(one.id)
    return ids


def given(name: str, rows: int = 9, pool: int = 10_000) -> Policy:
    made = policy(name, pool)
    for number in range(rows):
        made.add(demand(number))
    return made


def test_an_engine_with_its_own_admission_gets_all() -> None:
    assert handed(given("engine")) == list(range(9))


def test_a_static_number_is_inside_and_another_goes_in_for_each_that_ended() -> None:
    made = given("static:3")

    assert handed(made) == [0, 1, 2]
    assert handed(made, inside=3) == []
    assert handed(made, inside=1) == [3, 4]


def test_the_worst_case_reserves_the_longest_answer_until_a_request_has_ended() -> None:
    made = given("worst-case", pool=2 * EACH)

    assert handed(made) == [0, 1]
    assert made.peak == 2 * EACH
    made.finished(0, 5)
    assert handed(made, inside=1) == [2]
    made.finished(99, None)  # one that has ended before
    assert made.peak == 2 * EACH


def test_one_that_is_larger_than_the_pool_goes_in_alone() -> None:
    assert handed(given("worst-case", pool=EACH - 1)) == [0]


@pytest.mark.parametrize("name", NAMES)
def test_what_continues_a_row_goes_before_new_rows_in_its_order(name: str) -> None:
    made = given(name, 1)
    made.add(demand(7), urgent=True)
    made.add(demand(5), urgent=True)

    assert handed(made) == [7, 5, 0]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_forgotten_is_not_handed_over(name: str) -> None:
    made = given(name, 2)
    made.add(demand(7), urgent=True)
    made.forget(7)
    made.forget(0)

    assert len(made) == 1
    assert handed(made) == [1]


@pytest.mark.parametrize("name", NAMES)
def test_what_waits_can_be_taken_back(name: str) -> None:
    made = given(name)
    made.add(demand(20), urgent=True)

    assert sorted(made.take_back()) == [*range(9), 20]
    assert len(made) == 0
    assert handed(made) == []


def test_a_prompt_that_never_fits_is_known() -> None:
    limits = Limits(LAYOUT, 50, 64, 256, 60)

    assert limits.missing(Demand(0, 1000, 60)) == LAYOUT.prefill_blocks(1000)
    assert limits.missing(Demand(0, 16, 60)) is None
