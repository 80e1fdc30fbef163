"""What a card says of itself now, read from a (fake) driver."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pipeline.engine.machine.card_reading import CardProcess, CardReader, CardReading, Slowed
from tests.support.fake_cards import GIB, RTX_3090, FakeCards, FakeProcess

Shown = Callable[..., FakeCards]


def read(reader: CardReader | None = None) -> CardReading:
    found = (reader or CardReader()).read(0)
    assert found is not None
    return found


def test_a_card_tells_of_its_power_heat_and_memory(fake_cards: Shown) -> None:
    cards = fake_cards(RTX_3090)
    cards.change(0, watts=287.5, temperature=71, utilization=98, used_bytes=21 * GIB, joules=1e6)
    found = read()

    assert (found.title, found.watts, found.limit_watts, found.celsius) == (
        "RTX 3090", pytest.approx(287.5), pytest.approx(350), 71,
    )  # fmt: skip
    assert (found.use, found.used_bytes, found.joules) == (0.98, 21 * GIB, pytest.approx(1e6))
    assert not found.slowed
    assert not found.capped


@pytest.mark.parametrize(
    ("reasons", "expected"),
    [
        (["SwThermalSlowdown"], (Slowed.HEAT,)),
        (["HwThermalSlowdown", "HwSlowdown"], (Slowed.HEAT,)),
        (["SwPowerCap"], (Slowed.POWER,)),
        (["HwPowerBrakeSlowdown", "HwSlowdown"], (Slowed.HARDWARE,)),
        (["HwSlowdown"], (Slowed.HARDWARE,)),
        (["GpuIdle", "ApplicationsClocksSetting"], ()),
    ],
)
def test_what_slows_a_card_down_is_told(
    fake_cards: Shown, reasons: list[str], expected: tuple[Slowed, ...]
) -> None:
    fake_cards(RTX_3090).change(0, throttle=reasons)

    assert read().slowed == expected


def test_a_limit_below_the_usual_one_is_a_cap(fake_cards: Shown) -> None:
    fake_cards(RTX_3090).change(0, power_limit=250.0)

    assert read().capped


def test_without_a_driver_there_is_no_reading(fake_cards: Shown) -> None:
    fake_cards(error="LIBRARY_NOT_FOUND")
    reader = CardReader()

    assert (reader.number(), reader.read(0), reader.processes(0)) == (0, None, None)


def test_a_card_that_there_is_not_has_no_reading(fake_cards: Shown) -> None:
    fake_cards(RTX_3090)

    assert CardReader().read(1) is None


def test_what_a_card_does_not_tell_is_left_out(fake_cards: Shown) -> None:
    functions = ["nvmlDeviceGetPowerUsage", "nvmlDeviceGetTotalEnergyConsumption"]
    fake_cards(RTX_3090).change(0, unsupported=functions, temperature=50)
    found = read()

    assert (found.watts, found.joules, found.celsius) == (None, None, 50)


def test_a_card_that_has_fallen_off_the_bus_is_told_by_its_name(fake_cards: Shown) -> None:
    cards = fake_cards(RTX_3090)
    reader = CardReader()
    read(reader)
    cards.change(0, lost=True)

    assert read(reader).lost
    assert read(reader).title == "RTX 3090"


def test_a_driver_that_is_away_for_a_while_is_found_again(fake_cards: Shown) -> None:
    cards = fake_cards(RTX_3090)
    reader = CardReader()
    read(reader)
    cards.fail("DRIVER_NOT_LOADED")
    assert reader.read(0) is None
    cards.fail(None)

    assert read(reader).title == "RTX 3090"


def test_who_uses_a_card_is_told_with_memory_and_share(fake_cards: Shown) -> None:
    cards = fake_cards(RTX_3090)
    cards.change(
        0,
        processes=[
            FakeProcess(10, 300 << 20, graphics=True, compute=False),
            FakeProcess(11, 4 * GIB, graphics=True, compute=True, use=40),
            FakeProcess(12, None),
        ],
    )

    assert CardReader().processes(0) == [
        CardProcess(10, 300 << 20, 0.0), CardProcess(11, 4 * GIB, 0.4), CardProcess(12, None, 0.0),
    ]  # fmt: skip


def test_where_the_driver_does_not_tell_of_shares_they_are_unknown(fake_cards: Shown) -> None:
    cards = fake_cards(RTX_3090)
    cards.change(
        0, processes=[FakeProcess(10, GIB)], unsupported=["nvmlDeviceGetProcessUtilization"]
    )

    assert CardReader().processes(0) == [CardProcess(10, GIB, None)]


def test_where_the_driver_does_not_tell_of_programs_they_are_unknown(fake_cards: Shown) -> None:
    fake_cards(RTX_3090).change(0, unsupported=["nvmlDeviceGetComputeRunningProcesses"])

    assert CardReader().processes(0) is None
