"""Reads the use of a machine's cards every second, as input to each card's state machine."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping

import psutil

from pipeline.dispatch.desktop_use import CardSample, Desktop, Ours, Program, YieldDecision
from pipeline.engine.machine.card_reading import CardReader
from pipeline.printable import printable

_LOOK_SECONDS = 1.0
_NAME_CHARACTERS = 40
_SOMEBODY = "another program"


class DesktopWatch:
    """Watches this machine. ``engines``: the cards run our engines; otherwise it is a rehearsal,
    and every user of a card is someone else. ``family``: the process whose descendants are ours,
    such as Ray's own on this machine."""

    def __init__(self, quiet_seconds: float, engines: bool, family: int) -> None:
        self._reader, self._engines, self._family = CardReader(), engines, family
        number = self._reader.number()
        self._desktops = {index: Desktop(quiet_seconds) for index in range(number)}
        self._ours: dict[int, Ours] = {}
        self._lock = threading.Lock()

    def start(self) -> None:
        threading.Thread(target=self._watch, name="desktop", daemon=True).start()

    def look(self, ours: Mapping[int, Ours]) -> dict[int, YieldDecision] | None:
        """``ours``: our use of each card. None: no card is visible."""
        with self._lock:
            self._ours = dict(ours)
            calls = {index: desktop.call for index, desktop in self._desktops.items()}
            return calls or None

    def see(self, now: float) -> None:
        """Read all cards once."""
        with self._lock:
            ours = dict(self._ours)
        samples = {index: self.sample(index, ours, now) for index in self._desktops}
        with self._lock:
            for index, sample in samples.items():
                if sample is not None:
                    self._desktops[index].see(sample)

    def sample(self, index: int, ours: Mapping[int, Ours], now: float) -> CardSample | None:
        """A card's current state; None if the driver does not report its memory."""
        card, processes = self._reader.read(index), self._reader.processes(index)
        if card is None or card.used_bytes is None or card.total_bytes is None:
            return None
        here = ours.get(index, Ours.NOTHING) if self._engines else Ours.NOTHING
        others: tuple[Program, ...] | None = None
        if processes is not None:
            mine = {p.pid for p in processes if self._is_ours(p.pid)}
            if mine or here is not Ours.STEADY:
                others = tuple(
                    Program(_name(p.pid), p.memory_bytes, p.use)
                    for p in processes
                    if p.pid not in mine
                )
            # otherwise the driver lists no processes, or IDs of another namespace (in containers)
        return CardSample(now, here, card.total_bytes, card.used_bytes, card.use, others)

    def _watch(self) -> None:
        while True:
            self.see(time.monotonic())
            time.sleep(_LOOK_SECONDS)

    def _is_ours(self, pid: int) -> bool:
        if pid == os.getpid():
            return True
        try:
            return any(parent.pid == self._family for parent in psutil.Process(pid).parents())
        except psutil.Error:
            return False


def _name(pid: int) -> str:
    try:
        name = psutil.Process(pid).name()
    except psutil.Error:
        return _SOMEBODY
    return printable(name)[:_NAME_CHARACTERS] or _SOMEBODY
