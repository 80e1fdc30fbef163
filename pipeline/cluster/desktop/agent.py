"""A small actor that watches a machine's cards, for jobs that yield to the desktop.

It runs as long as the run does, even without a worker there: it has to notice that the game has
ended. It requests none of Ray's resources, and takes a few milliseconds of a core per second.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import ray
from ray.exceptions import RayError

from pipeline.cluster.actor_options import ActorOptions
from pipeline.cluster.desktop.watch import DesktopWatch
from pipeline.cluster.remote_actor import RemoteActor, RemoteFuture, start_actor
from pipeline.dispatch.desktop_use import Ours, YieldDecision

_MOST_FAILURES = 3
_AGAIN_SECONDS = 5.0
_FIRST_LOOK = YieldDecision(away=True)
_OURS = YieldDecision(away=False)

Node = str | None  # Ray's ID of a machine; None: this one


@dataclass
class _Watched:
    """The agent of one machine. ``calls``: by card; None: no driver there reports any card."""

    actor: RemoteActor[_Agent] | None = None
    pending: RemoteFuture[dict[int, YieldDecision] | None] | None = None
    calls: Mapping[int, YieldDecision] | None = field(default_factory=dict)
    heard: bool = False
    failures: int = 0
    again_at: float = 0.0

    @property
    def blind(self) -> bool:
        return self.calls is None or self.failures >= _MOST_FAILURES


class DesktopAgents:
    """The driver's access to the agents. Never waits for an agent."""

    def __init__(self, quiet_seconds: float, *, engines: bool, say: Callable[[str], None]) -> None:
        """``engines``: the cards run our engines; otherwise this is a rehearsal, and every user of
        a card is someone else."""
        self._quiet_seconds, self._engines, self._say = quiet_seconds, engines, say
        self._watched: dict[Node, _Watched] = {}

    def look(self, ours: Mapping[Node, Mapping[int, Ours]], hosts: Mapping[Node, str]) -> None:
        """Ask the agents of these machines. ``ours``: our use of their cards, by card; ``hosts``:
        the machines' names."""
        for node, cards in ours.items():
            one = self._watched.setdefault(node, _Watched())
            blind = one.blind
            if one.pending is not None and one.pending.ready():
                self._hear(one, one.pending)
            if one.pending is None and time.monotonic() >= one.again_at and not one.blind:
                if one.actor is None:
                    options = ActorOptions(0, {}, node=node).options
                    one.actor = start_actor(_Agent, options, self._quiet_seconds, self._engines)
                one.pending = one.actor.call(DesktopWatch.look, dict(cards))
            if one.blind and not blind:
                where = hosts.get(node) or "this machine"
                self._say(
                    f"resources.yield_to_desktop does nothing on {where}: no NVIDIA driver there "
                    "tells who uses the cards"
                )

    def call(self, node: Node, index: int) -> YieldDecision:
        """Whether to leave a card to others now, according to its agent's last answer."""
        one = self._watched.get(node)
        if one is None or (not one.heard and not one.blind):
            return _FIRST_LOOK
        return _OURS if one.calls is None or one.blind else one.calls.get(index, _OURS)

    def _hear(self, one: _Watched, pending: RemoteFuture[dict[int, YieldDecision] | None]) -> None:
        one.pending = None
        try:
            one.calls = pending.get()
            one.heard, one.failures = True, 0
        except RayError:
            one.failures += 1
            one.actor, one.again_at = None, time.monotonic() + _AGAIN_SECONDS


@ray.remote(num_cpus=0, max_restarts=0)
class _Agent(DesktopWatch):
    """Watches the cards of its machine. Its parent is Ray's own process there, which also started
    all workers."""

    def __init__(self, quiet_seconds: float, engines: bool) -> None:
        super().__init__(quiet_seconds, engines, family=os.getppid())
        self.start()
