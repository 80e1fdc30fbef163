"""Who looks at a machine's cards, for jobs that yield to the desktop: a small actor there.

It is there as long as the run, also while no worker is: somebody has to see that the game has
ended. It asks for none of Ray's resources, and takes a few milliseconds of a core a second.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import psutil
import ray
from ray.exceptions import RayError

from pipeline.engine.card_reading import CardReader
from pipeline.fleet.placement import Placement
from pipeline.printable import printable
from pipeline.schedule.desktop import CardSample, Desktop, DesktopCall, Ours, Program

_LOOK_SECONDS = 1.0
_MOST_FAILURES = 3
_AGAIN_SECONDS = 5.0
_NAME_CHARACTERS = 40
_FIRST_LOOK = DesktopCall(away=True)
_OURS = DesktopCall(away=False)

Node = str | None  # Ray's number of a machine; None: this one


@dataclass
class _Watched:
    """The agent of one machine. ``calls``: by card; None: no driver there tells of any."""

    actor: Any = None
    pending: Any = None
    calls: Mapping[int, DesktopCall] | None = field(default_factory=dict)
    heard: bool = False
    failures: int = 0
    again_at: float = 0.0

    @property
    def blind(self) -> bool:
        return self.calls is None or self.failures >= _MOST_FAILURES


class DesktopAgents:
    """From the driver. Never waits for an agent."""

    def __init__(self, quiet_seconds: float, *, engines: bool, say: Callable[[str], None]) -> None:
        """``engines``: there are some on the cards; else this is a rehearsal, and whoever uses a
        card is somebody else."""
        self._quiet_seconds, self._engines, self._say = quiet_seconds, engines, say
        self._watched: dict[Node, _Watched] = {}

    def look(self, ours: Mapping[Node, Mapping[int, Ours]], hosts: Mapping[Node, str]) -> None:
        """Ask the agents of these machines. ``ours``: what is on their cards, by card; ``hosts``:
        what the machines are called."""
        for node, cards in ours.items():
            one = self._watched.setdefault(node, _Watched())
            blind = one.blind
            if one.pending is not None and ray.wait([one.pending], timeout=0)[0]:
                self._hear(one)
            if one.pending is None and time.monotonic() >= one.again_at and not one.blind:
                if one.actor is None:
                    options = Placement(0, {}, node=node).options
                    one.actor = _Agent.options(**options).remote(  # type: ignore[attr-defined]
                        self._quiet_seconds, self._engines
                    )
                one.pending = one.actor.look.remote(dict(cards))
            if one.blind and not blind:
                where = hosts.get(node) or "this machine"
                self._say(
                    f"resources.yield_to_desktop does nothing on {where}: no NVIDIA driver there "
                    "tells who uses the cards"
                )

    def call(self, node: Node, index: int) -> DesktopCall:
        """Whether a card is somebody else's for now, as far as its agent has told."""
        one = self._watched.get(node)
        if one is None or (not one.heard and not one.blind):
            return _FIRST_LOOK
        return _OURS if one.calls is None or one.blind else one.calls.get(index, _OURS)

    def _hear(self, one: _Watched) -> None:
        pending, one.pending = one.pending, None
        try:
            one.calls = ray.get(pending)
            one.heard, one.failures = True, 0
        except RayError:
            one.failures += 1
            one.actor, one.again_at = None, time.monotonic() + _AGAIN_SECONDS


@ray.remote(num_cpus=0, max_restarts=0)
class _Agent:
    """Looks every second at all cards of its machine."""

    def __init__(self, quiet_seconds: float, engines: bool) -> None:
        self._reader, self._engines = CardReader(), engines
        self._quiet_seconds = quiet_seconds
        self._desktops: dict[int, Desktop] = {}
        self._ours: dict[int, Ours] = {}
        self._family = os.getppid()  # Ray's own process here: all that it started is ours
        self._lock = threading.Lock()
        self._sees = self._reader.number() > 0
        threading.Thread(target=self._watch, name="desktop", daemon=True).start()

    def look(self, ours: Mapping[int, Ours]) -> dict[int, DesktopCall] | None:
        """``ours``: what of ours is on which card. None: there is no card to be seen."""
        with self._lock:
            self._ours = dict(ours)
            if not self._sees:
                return None
            return {index: desktop.call for index, desktop in self._desktops.items()}

    def _watch(self) -> None:
        while True:
            with self._lock:
                ours = dict(self._ours)
            samples = {i: self._sample(i, ours) for i in range(self._reader.number())}
            with self._lock:
                for index, sample in samples.items():
                    desktop = self._desktops.setdefault(index, Desktop(self._quiet_seconds))
                    if sample is not None:
                        desktop.see(sample)
            time.sleep(_LOOK_SECONDS)

    def _sample(self, index: int, ours: Mapping[int, Ours]) -> CardSample | None:
        card, processes = self._reader.read(index), self._reader.processes(index)
        if card is None or card.used_bytes is None or card.total_bytes is None:
            return None
        here = ours.get(index, Ours.NOTHING) if self._engines else Ours.NOTHING
        others: tuple[Program, ...] | None = None
        if processes is not None:
            mine = {p.pid for p in processes if self._is_ours(p.pid)}
            others = tuple(
                Program(_name(p.pid), p.memory_bytes, p.use) for p in processes if p.pid not in mine
            )
            if here is Ours.STEADY and not mine:
                others = None  # in containers the driver tells of nobody, or by others' numbers
        return CardSample(
            time.monotonic(), here, card.total_bytes, card.used_bytes, card.use, others
        )

    def _is_ours(self, pid: int) -> bool:
        try:
            return any(parent.pid == self._family for parent in psutil.Process(pid).parents())
        except psutil.Error:
            return False


def _name(pid: int) -> str:
    try:
        name = psutil.Process(pid).name()
    except psutil.Error:
        return "another program"
    return printable(name)[:_NAME_CHARACTERS] or "another program"
