"""The energy that a worker's cards or processor use while it has them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.engine.machine.vitals import VitalSigns, worker_cards
from pipeline.engine.protocol import SEAT
from tests.support.fake_cards import RTX_3090, RTX_4090, FakeCards

Shown = Callable[..., FakeCards]
NO_COUNTER = ["nvmlDeviceGetTotalEnergyConsumption"]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_energy_is_what_the_cards_counter_grew_by(fake_cards: Shown, clock: Clock) -> None:
    cards = fake_cards(RTX_3090)
    cards.change(0, joules=5_000_000.0)
    signs = VitalSigns([0], clock=clock)
    signs.look()
    cards.change(0, joules=5_012_345.0)
    clock.now += 40
    vitals = signs.look()

    (span,) = vitals.energy
    assert (span.meter, span.began, span.ended) == (cards.cards[0].uuid, 1000.0, 1040.0)
    assert (span.joules, span.counted) == (pytest.approx(12_345), True)
    assert vitals.metered


def test_a_driver_that_is_loaded_anew_counts_from_zero_again(
    fake_cards: Shown, clock: Clock
) -> None:
    cards = fake_cards(RTX_3090)
    cards.change(0, joules=5_000_000.0)
    signs = VitalSigns([0], clock=clock)
    signs.look()
    cards.change(0, joules=5_000_100.0)
    clock.now += 1
    signs.look()
    cards.change(0, joules=50.0)
    clock.now += 1

    assert signs.look().energy[0].joules == pytest.approx(150)


def test_without_a_counter_samples_of_the_power_are_summed(fake_cards: Shown, clock: Clock) -> None:
    cards = fake_cards(RTX_3090)
    cards.change(0, watts=100.0, unsupported=NO_COUNTER)
    signs = VitalSigns([0], clock=clock)
    signs.look()
    clock.now += 10
    signs.look()
    cards.change(0, watts=300.0)
    clock.now += 10
    (span,) = signs.look().energy

    assert (span.joules, span.counted) == (pytest.approx(1000 + 2000), False)


def test_a_card_that_tells_neither_is_not_metered(fake_cards: Shown, clock: Clock) -> None:
    fake_cards(RTX_3090).change(0, unsupported=[*NO_COUNTER, "nvmlDeviceGetPowerUsage"])
    signs = VitalSigns([0], clock=clock)
    signs.look()

    assert not signs.look().metered
    assert signs.look().energy == ()


def test_both_cards_of_an_engine_are_metered(fake_cards: Shown, clock: Clock) -> None:
    cards = fake_cards(RTX_3090, RTX_4090)
    signs = VitalSigns([0, 1], clock=clock)
    signs.look()
    cards.change(0, joules=10.0)
    cards.change(1, joules=20.0)
    clock.now += 1

    assert [span.joules for span in signs.look().energy] == [pytest.approx(10), pytest.approx(20)]


def test_one_card_of_two_without_a_meter_is_not_enough(fake_cards: Shown, clock: Clock) -> None:
    cards = fake_cards(RTX_3090, RTX_4090)
    cards.change(1, unsupported=[*NO_COUNTER, "nvmlDeviceGetPowerUsage"])
    signs = VitalSigns([0, 1], clock=clock)
    signs.look()

    assert not signs.look().metered


def test_a_card_that_falls_off_the_bus_keeps_what_it_had_used(
    fake_cards: Shown, clock: Clock
) -> None:
    cards = fake_cards(RTX_3090)
    signs = VitalSigns([0], clock=clock)
    signs.look()
    cards.change(0, joules=100.0)
    clock.now += 1
    signs.look()
    cards.change(0, lost=True)
    clock.now += 1
    vitals = signs.look()

    assert vitals.energy[0].joules == pytest.approx(100)
    assert vitals.lost is not None
    assert vitals.lost.title == "RTX 3090"


def package(folder: Path, number: int, name: str, value: int, most: int = 1 << 30) -> Path:
    zone = folder / f"intel-rapl:{number}"
    zone.mkdir(parents=True)
    (zone / "name").write_text(f"{name}\n")
    (zone / "energy_uj").write_text(f"{value}\n")
    (zone / "max_energy_range_uj").write_text(f"{most}\n")
    return zone


def test_a_processors_energy_is_that_of_its_packages(tmp_path: Path, clock: Clock) -> None:
    one = package(tmp_path, 0, "package-0", 1_000_000)
    package(tmp_path, 1, "psys", 7)
    signs = VitalSigns([], clock=clock, rapl=tmp_path)
    signs.look()
    (one / "energy_uj").write_text("61000000\n")
    clock.now += 1
    vitals = signs.look()

    assert [span.joules for span in vitals.energy] == [pytest.approx(60)]
    assert vitals.metered


def test_a_processors_counter_may_begin_anew(tmp_path: Path, clock: Clock) -> None:
    zone = package(tmp_path, 0, "package-0", 9_000_000, most=10_000_000)
    signs = VitalSigns([], clock=clock, rapl=tmp_path)
    signs.look()
    (zone / "energy_uj").write_text("2000000\n")
    clock.now += 1

    assert signs.look().energy[0].joules == pytest.approx(3)


def test_where_no_counter_may_be_read_nothing_is_claimed(tmp_path: Path, clock: Clock) -> None:
    (package(tmp_path, 0, "package-0", 1) / "energy_uj").unlink()
    vitals = VitalSigns([], clock=clock, rapl=tmp_path).look()

    assert (vitals.energy, vitals.metered) == ((), False)


class TestWorkerCards:
    @pytest.fixture(autouse=True)
    def _two_cards(self, fake_cards: Shown) -> None:
        fake_cards(RTX_3090, RTX_3090)

    def visible(self, monkeypatch: pytest.MonkeyPatch, cards: str, seat: int = 0) -> None:
        monkeypatch.setitem(os.environ, "CUDA_VISIBLE_DEVICES", cards)
        monkeypatch.setitem(os.environ, SEAT, str(seat))

    def test_an_engine_has_the_cards_that_it_was_given(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.visible(monkeypatch, "1,0")

        assert worker_cards(simulated=False, on_processor=False) == [1, 0]

    def test_an_engine_on_a_processor_has_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.visible(monkeypatch, "1,0")

        assert worker_cards(simulated=False, on_processor=True) == []

    @pytest.mark.parametrize(
        ("cards", "seat", "expected"), [("", 1, [1]), ("1", 0, [1]), ("", 2, []), ("1,0", 1, [0])]
    )
    def test_a_rehearsals_engine_has_the_card_of_its_place(
        self, monkeypatch: pytest.MonkeyPatch, cards: str, seat: int, expected: list[int]
    ) -> None:
        self.visible(monkeypatch, cards, seat)

        assert worker_cards(simulated=True, on_processor=True) == expected
