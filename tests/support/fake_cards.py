"""Machines with NVIDIA cards, where there are none: a fake driver for tests.

    def test_something(fake_cards):
        driver = fake_cards(RTX_3090, RTX_4060_LAPTOP)      # or (..., version="535.183.01")
        ...                                                 # NVML shows two cards
        driver.change(0, temperature=91, throttle=["HwThermalSlowdown"])
        driver.change(0, processes=[FakeProcess(os.getpid(), 6 * GIB, graphics=True)])
        driver.change(0, lost=True)                         # it has fallen off the bus
        driver.fail("LIB_RM_VERSION_MISMATCH")              # the driver itself is broken

What is shown holds for this process and for all that it starts (Ray's and vLLM's too, whichever
copy of pynvml they bring), and changes at once everywhere. ``nvidia-smi`` on PATH shows the same.
vLLM's CUDA build seems to be installed (``build="cpu"``: the CPU's), with what it needs.
``fake_cards()`` is a driver without a card, ``fake_cards(error="LIBRARY_NOT_FOUND")`` a machine
without a driver. ``driver.environment`` holds the variables, for a process that gets none of ours.
Fields of a card and a driver: ``tests/support/fake_gpu/fake_nvml/state.py``. CUDA itself is not
there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.fake_gpu.fake_nvml.bindings import install
from tests.support.fake_gpu.fake_nvml.state import GIB, STATE, FakeCard, FakeDriver, FakeProcess

__all__ = ["GIB", "FakeCard", "FakeCards", "FakeDriver", "FakeProcess", "fake_cards"]

_FOLDER = Path(__file__).with_name("fake_gpu")

# Memory as drivers show it, the clock of memory in MHz as NVML tells it (half of the data rate of
# GDDR6X and GDDR6, a quarter of what GDDR7's makers print).
RTX_2080_TI = FakeCard("NVIDIA GeForce RTX 2080 Ti", 11264 << 20, capability=(7, 5),
                       memory_clock=7000, bus_width=352, sm_clock=2100, cores=4352,
                       power_limit=250, default_power_limit=250)  # fmt: skip
RTX_3060 = FakeCard("NVIDIA GeForce RTX 3060", 12288 << 20, memory_clock=7501, bus_width=192,
                    sm_clock=2115, cores=3584, power_limit=170,
                    default_power_limit=170)  # fmt: skip
RTX_3090 = FakeCard("NVIDIA GeForce RTX 3090", 24576 << 20)
RTX_4060_LAPTOP = FakeCard("NVIDIA GeForce RTX 4060 Laptop GPU", 8188 << 20, capability=(8, 9),
                           memory_clock=8001, bus_width=128, sm_clock=3105, cores=3072,
                           power_limit=115, default_power_limit=80)  # fmt: skip
RTX_4090 = FakeCard("NVIDIA GeForce RTX 4090", 24564 << 20, capability=(8, 9), memory_clock=10501,
                    bus_width=384, sm_clock=3105, cores=16384, power_limit=450,
                    default_power_limit=450)  # fmt: skip
RTX_5090 = FakeCard("NVIDIA GeForce RTX 5090", 32607 << 20, capability=(12, 0),
                    memory_clock=14001, bus_width=512, sm_clock=3090, cores=21760, power_limit=575,
                    default_power_limit=575)  # fmt: skip


class FakeCards:
    """The driver that is shown."""

    def __init__(self, file: Path, driver: FakeDriver) -> None:
        self._file = file
        self.driver = driver
        self.show()

    @property
    def cards(self) -> list[FakeCard]:
        return self.driver.cards

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables that show this driver to a process."""
        return {
            STATE: str(self._file),
            "PYTHONPATH": os.pathsep.join(_once(_FOLDER, os.environ.get("PYTHONPATH", ""))),
            "PATH": os.pathsep.join(
                _once(_FOLDER / "bin", os.environ["PATH"], _FOLDER / "bin-last")
            ),
        }

    def show(self) -> None:
        """What was changed in ``driver`` and ``cards`` by hand."""
        self.driver.write(self._file)

    def change(self, index: int, **fields: Any) -> None:
        """These ``fields`` of a card, from now on."""
        self.driver.cards[index] = replace(self.driver.cards[index], **fields)
        self.show()

    def fail(self, error: str | None) -> None:
        """The driver ends every call with this error of NVML's; None: it is well again."""
        self.driver.error = error
        self.show()


def _once(*paths: object) -> list[str]:
    """The parts of ``paths``, each where it comes first."""
    parts = os.pathsep.join(map(str, paths)).split(os.pathsep)
    return list(dict.fromkeys(part for part in parts if part))


@pytest.fixture
def fake_cards(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., FakeCards]]:
    """Shows a driver with these cards; its keywords are FakeDriver's fields. See the module."""
    file = tmp_path_factory.mktemp("fake-gpu") / "state.json"

    def show(*cards: FakeCard, **driver: Any) -> FakeCards:
        shown = FakeCards(file, FakeDriver([replace(card) for card in cards], **driver))
        for name, value in shown.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        install()
        return shown

    return show
