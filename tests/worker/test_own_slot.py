"""Which cards a worker takes, and which kind of slot it finds that it has."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from pipeline.cluster.engine_groups import keys_in, slot_name
from pipeline.errors import MachineUnfit
from pipeline.worker.own_slot import own_card, take_cards
from tests.support.fake_cards import RTX_3060, FakeCards


@pytest.fixture(autouse=True)
def _no_card_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("RACKMILL_CARDS", "1x rtx4090,3x rtx3060")


def test_a_worker_sees_the_cards_of_its_slot_alone() -> None:
    take_cards((1, 3))

    assert os.environ["CUDA_VISIBLE_DEVICES"] == "1,3"
    assert own_card(["rtx4090", "2x rtx3060"], "rtx4090") == "2x rtx3060"


def test_cards_have_the_drivers_numbers_where_not_all_are_ours(
    fake_cards: Callable[..., FakeCards], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RACKMILL_CARDS")
    driver = fake_cards(*[RTX_3060] * 6)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5,4")
    driver.change(2, lost=True)
    with pytest.raises(MachineUnfit, match="card 0 is gone: the driver shows 2 now"):
        take_cards((0, 1))
    take_cards((1, 2))

    assert os.environ["CUDA_VISIBLE_DEVICES"] == "5,4"
    assert own_card(["2x rtx3060"], "2x rtx3060") == "2x rtx3060"


def test_a_card_that_is_gone_is_said() -> None:
    with pytest.raises(MachineUnfit, match="card 4 is gone: the driver shows 4 now"):
        take_cards((3, 4))


@pytest.mark.parametrize("cards", [(0, 1), (1,)])
def test_a_slot_on_which_the_job_does_not_run_is_said(cards: tuple[int, ...]) -> None:
    take_cards(cards)
    with pytest.raises(MachineUnfit, match="on which the job does not run"):
        own_card(["2x rtx3060"], "2x rtx3060")


@pytest.mark.parametrize("expected", ["none", "2x rtx3060"])
def test_where_no_card_can_be_seen_it_is_the_expected_one(expected: str) -> None:
    assert own_card(["2x rtx3060"], expected) == expected


def test_the_name_of_a_slot_tells_its_cards() -> None:
    assert keys_in(slot_name("a1b2", (3, 2))) == {("a1b2", 2), ("a1b2", 3)}
    assert keys_in("worker/a1b2/0") == {("a1b2", 0)}


@pytest.mark.parametrize("name", ["coordinator", "worker/a", "worker/a/", "worker/a/0/1", "w/a/0"])
def test_other_actors_have_no_cards(name: str) -> None:
    assert keys_in(name) == frozenset()
