"""What a card's driver says while something runs: memory, clocks, power, and how busy it is."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from statistics import fmean
from types import TracebackType
from typing import Any, Self

import psutil

_EVERY_SECONDS = 0.1


class Board:
    """Card ``index`` of the driver; None: a process's memory stands for a card's."""

    def __init__(self, index: int | None) -> None:
        self._handle: Any = None
        if index is not None:
            import pynvml

            pynvml.nvmlInit()
            self._nvml = pynvml
            self._handle = pynvml.nvmlDeviceGetHandleByIndex(index)

    @property
    def is_card(self) -> bool:
        return self._handle is not None

    def used_bytes(self, pid: int | None = None) -> int:
        """Of the card's memory; without a card, of the process ``pid`` and its children."""
        if self.is_card:
            return int(self._nvml.nvmlDeviceGetMemoryInfo(self._handle).used)
        return _resident(pid) if pid else 0

    def busy(self) -> float | None:
        """Share of the driver's last period (some 0.1 s) in which any kernel ran."""
        if not self.is_card:
            return None
        found = self._asked(self._nvml.nvmlDeviceGetUtilizationRates)
        return None if found is None else found.gpu / 100

    def state(self) -> dict[str, Any]:
        """Clocks in MHz, watts, °C, and why clocks are held back (NVML's bit mask)."""
        if not self.is_card:
            return {}
        nvml = self._nvml
        watts, limit = (
            self._asked(ask)
            for ask in (nvml.nvmlDeviceGetPowerUsage, nvml.nvmlDeviceGetEnforcedPowerLimit)
        )
        return {
            "sm_mhz": self._asked(nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_SM),
            "memory_mhz": self._asked(nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_MEM),
            "watts": watts and round(watts / 1000, 1),
            "watts_limit": limit and round(limit / 1000, 1),
            "celsius": self._asked(nvml.nvmlDeviceGetTemperature, nvml.NVML_TEMPERATURE_GPU),
            "throttled": self._asked(nvml.nvmlDeviceGetCurrentClocksThrottleReasons),
            "joules": self._asked(nvml.nvmlDeviceGetTotalEnergyConsumption, scale=1e-3),
        }

    def _asked(self, ask: Any, *arguments: Any, scale: float | None = None) -> Any:
        """None where this card does not tell."""
        try:
            found = ask(self._handle, *arguments)
        except self._nvml.NVMLError:
            return None
        return found if scale is None else round(found * scale, 1)


@dataclass
class Watch:
    """Reads a board while something runs (``with``). ``pid``: whose memory, without a card."""

    board: Board
    pid: int | None = None
    peak_bytes: int = 0
    _shares: list[float] = field(default_factory=list)
    _done: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        self._thread.join()

    @property
    def busy(self) -> float | None:
        """Mean share of the time in which the card computed anything; None: it does not tell."""
        return fmean(self._shares) if self._shares else None

    def _look(self) -> None:
        while True:
            self.peak_bytes = max(self.peak_bytes, self.board.used_bytes(self.pid))
            share = self.board.busy()
            if share is not None:
                self._shares.append(share)
            if self._done.wait(_EVERY_SECONDS):
                return


def seconds_until_free(board: Board, pid: int, wanted: int, most: float) -> float | None:
    """Until no more than ``wanted`` bytes are used; None if that takes longer than ``most``."""
    began = time.monotonic()
    while (now := time.monotonic()) - began < most:
        if board.used_bytes(pid) <= wanted:
            return now - began
        time.sleep(_EVERY_SECONDS / 2)
    return None


def _resident(pid: int) -> int:
    total = 0
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for one in family:
        try:
            total += one.memory_info().rss if one.status() != psutil.STATUS_ZOMBIE else 0
        except psutil.NoSuchProcess:
            continue
    return total
