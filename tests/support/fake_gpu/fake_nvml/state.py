"""What the fake driver shows: a JSON file, read anew at every call, so that it can change at any
moment and in whatever process looks.

Nothing but the standard library is imported here: every Python that a test starts imports it.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

STATE = "FAKE_NVML_STATE"  # the environment variable that names the file
GIB = 1 << 30


@dataclass
class FakeProcess:
    """``memory_bytes`` None: the driver does not tell (as under WSL2 and Windows). ``use``: of the
    card's time, in per cent."""

    pid: int
    memory_bytes: int | None = 0
    graphics: bool = False
    compute: bool = True
    use: int = 0


@dataclass
class FakeCard:
    """One card. Memory in bytes, clocks in MHz, power in watts, energy in joules since the driver
    was loaded.

    ``used_bytes``: of memory, the processes' included. ``throttle``: NVML's reasons by the last
    part of their names ("SwPowerCap", "HwThermalSlowdown", ...). ``lost``: it has fallen off the
    bus, every call that names it fails. ``unsupported``: functions of NVML that this card answers
    with "Not Supported" ("nvmlDeviceGetPowerUsage", ...). ``errors``: function -> name of the
    error ("UNKNOWN", ...). ``energy_since``: when energy began to be counted at ``watts`` (a time
    of the epoch); None: ``joules`` stands still.
    """

    name: str = "NVIDIA GeForce RTX 3090"
    memory_bytes: int = 24 * GIB
    used_bytes: int = 0
    capability: tuple[int, int] = (8, 6)
    uuid: str = ""
    memory_clock: int = 9751
    bus_width: int = 384
    sm_clock: int = 1695
    cores: int = 10496
    temperature: int = 40
    slowdown_temperature: int = 95
    watts: float = 30.0
    power_limit: float = 350.0
    default_power_limit: float = 350.0
    joules: float = 0.0
    energy_since: float | None = None
    throttle: list[str] = field(default_factory=list)
    utilization: int = 0
    memory_utilization: int = 0
    processes: list[FakeProcess] = field(default_factory=list)
    lost: bool = False
    unsupported: list[str] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)
    mig: bool = False
    nvlink: bool = False

    def joules_now(self) -> float:
        counted = 0.0 if self.energy_since is None else time.time() - self.energy_since
        return self.joules + self.watts * counted


@dataclass
class FakeDriver:
    """``error``: name of the NVML error with which every start of NVML ends (None: it works), as
    "LIBRARY_NOT_FOUND" (no driver), "DRIVER_NOT_LOADED", "LIB_RM_VERSION_MISMATCH" (updated, not
    rebooted), "NO_PERMISSION", "UNKNOWN". ``cuda``: of the driver, 13.0 being 13000.
    ``smi_knows_capability``: old drivers' nvidia-smi does not.

    And what else is shown of the machine: ``build``: of vLLM that seems to be installed, "cuda" or
    "cpu"; ``wsl``: it seems to be WSL2, ``container``: a container; ``nouveau``: Linux's own
    driver seems to be loaded; ``headers``: whether Python.h seems to be there. The PCI bus shows
    an NVIDIA card where there are cards."""

    cards: list[FakeCard] = field(default_factory=list)
    version: str = "580.95.05"
    cuda: int = 13000
    error: str | None = None
    smi_knows_capability: bool = True
    build: str = "cuda"
    wsl: bool = False
    container: bool = False
    nouveau: bool = False
    headers: bool = True

    def write(self, path: Path) -> None:
        """At once: whoever reads meanwhile reads the whole of the old or of the new."""
        for number, card in enumerate(self.cards):
            card.uuid = card.uuid or f"GPU-{number:08x}-0000-4000-8000-{number:012x}"
        fresh = path.with_suffix(f".{os.getpid()}")
        fresh.write_text(json.dumps(asdict(self)), encoding="utf-8")
        fresh.replace(path)

    @classmethod
    def read(cls, path: Path) -> FakeDriver:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        content["cards"] = [_card(card) for card in content["cards"]]
        return cls(**content)


def _card(content: dict[str, Any]) -> FakeCard:
    unknown = set(content) - {f.name for f in fields(FakeCard)}
    if unknown:
        raise ValueError(f"no such fields of a card: {unknown}")
    content["processes"] = [FakeProcess(**process) for process in content["processes"]]
    content["capability"] = tuple(content["capability"])
    return FakeCard(**content)


def current() -> FakeDriver:
    """The driver that this process is shown; without the variable, none."""
    path = os.environ.get(STATE)
    return FakeDriver.read(Path(path)) if path else FakeDriver(error="LIBRARY_NOT_FOUND")
