"""Which machines join and leave a rack while a job runs.

A machine that was cut off and comes back is a new one to Ray, and so it is here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pipeline.cluster.engine_groups import EngineGroup, Slot, alike
from pipeline.cluster.rack_state.allocation import OTHERS, Key, Needs
from pipeline.cluster.rack_state.gcs import HeadGone
from pipeline.cluster.rack_state.slot_usage import SlotUsage
from pipeline.driver.forecast.forecast import Forecaster
from pipeline.driver.forecast.types import GroupForecast
from pipeline.driver.workers.slots.select_engines import candidates
from pipeline.engine.machine.facts import own_versions
from pipeline.errors import RackmillError
from pipeline.humanize import plural
from pipeline.job.job import Job

if TYPE_CHECKING:  # it imports Ray
    from pipeline.cluster.ray_cluster import Cluster


@dataclass(frozen=True)
class MembershipChanges:
    """``placed``: new slots for engines, and what the job gets there; ``gone``: machines, by Ray's
    number, and ``notes``: messages about all of it. ``allotted``: cards that a submitted job may
    use now (None: all); ``stop``: who wants it to stop."""

    placed: tuple[GroupForecast, ...] = ()
    gone: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    allotted: frozenset[Key] | None = None
    stop: str = ""


@dataclass
class Membership:
    """``groups``: those whose slots are counted already. If they are on cards, processors are not
    used as new slots, even if no card is left."""

    job: Job
    forecaster: Forecaster
    rack: Cluster
    groups: Sequence[EngineGroup]
    _useless: set[Key] = field(default_factory=set)  # cards on which the job does not run
    _allotted: frozenset[Key] | None = None
    _seen: dict[tuple[str | None, int], str] = field(default_factory=dict)  # card -> host
    _said: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._see(slot for group in self.groups for slot in group.slots)

    def _see(self, slots: Iterable[Slot]) -> None:
        self._seen |= {key: slot.host for slot in slots for key in slot.keys}

    def look(
        self,
        wanted: int | None = None,
        needs: Needs | None = None,
        slot_usage: SlotUsage | None = None,
    ) -> MembershipChanges:
        """What has changed since the last look. ``wanted``: how many more cards the job could use
        (None: any number); ``needs``: what its queue is to know; ``slot_usage``: what everyone is
        to know. Nothing where the head does not answer: engines go on without it for a while."""
        try:
            there = self.rack.machines()
            stop = self._look_at_cards(needs)
            if self.rack.sign is not None and slot_usage is not None:
                self.rack.sign.say(slot_usage)
        except HeadGone:
            return MembershipChanges()
        alive = {machine.node.id for machine in there}
        lost = {key: host for key, host in self._seen.items() if key[0] not in alive}
        for key in lost:
            del self._seen[key]
        notes = [f"{host} is gone: its rows are done by others" for host in _once(lost.values())]
        spread = self.forecaster.spread
        found, left_out = candidates(self.job, there, own_versions(), spread, self._allotted)
        notes += [line for line in left_out if line not in self._said]
        self._said |= set(left_out)
        if any(group.on_cards for group in self.groups):
            found = [one for one in found if one.slots[0].served or one.on_cards]
        new = [one for one in found if not one.slots[0].keys & self._seen.keys()][:wanted]
        self._see(one.slots[0] for one in new)
        placed = [one for group in alike(new) if (one := self._add_group(group, notes.append))]
        for one in placed:
            for host in _once(slot.host for slot in one.group.slots):
                engines = sum(slot.host == host for slot in one.group.slots)
                notes.append(f"{host} is there: {plural(engines, 'more engine')}")
        gone = frozenset(node for node, _ in lost if node is not None)
        return MembershipChanges(tuple(placed), gone, tuple(notes), self._allotted, stop)

    def close(self) -> None:
        """The run is over."""
        if self.rack.sign is not None:
            with suppress(HeadGone):
                self.rack.sign.close()

    def _look_at_cards(self, needs: Needs | None) -> str:
        """Which cards are the job's now: its queue says so, after it is told what the job
        ``needs``. Returns who wants the job to stop. Raises HeadGone."""
        cards = self.rack.cards
        if cards is None:
            return ""
        if needs is not None:
            cards.say(replace(needs, useless=needs.useless | self._useless))
        allotment = cards.look()
        if allotment is None:
            return ""  # the head was started again: the queue will say it
        waits = cards.patient and allotment.why == OTHERS
        if not allotment.cards and not waits:
            return allotment.why
        self._allotted = allotment.cards
        return ""

    def _add_group(self, group: EngineGroup, say: Callable[[str], None]) -> GroupForecast | None:
        try:
            usable = self.forecaster.usable([group], say)
        except RackmillError as e:
            say(f"left out: {e.message}")
            self._useless |= {key for slot in group.slots for key in slot.shared_keys}
            return None
        return self.forecaster.forecast(usable).placed[0] if usable else None


def _once(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
