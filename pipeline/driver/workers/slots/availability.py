"""When cards of a run are not its own for now: outside its hours, and while someone uses them.

The queue of a rack is a third reason, which it reports itself (see ``allocation``). The same
follows from all three: ``Supervisor`` releases the card, and comes back to it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pipeline.dispatch.desktop_use import Ours, quiet_in_words
from pipeline.driver.workers.slots.slot_states import AbsenceReason
from pipeline.job.resources import Resources
from pipeline.job.when.hours import Hours

if TYPE_CHECKING:  # it imports Ray
    from pipeline.cluster.desktop.agent import DesktopAgents

Node = str | None
_LOOKING = ""  # a card is watched for some seconds before it is used: not worth a message


@dataclass(frozen=True)
class SlotCards:
    """The cards of a slot, by the driver's numbers on its machine, and what of ours runs on
    them."""

    number: int
    name: str
    node: Node
    host: str
    cards: Collection[int]
    ours: Ours


class Availability:
    """Which slots have to do without their cards, and why. ``desktops``: None for jobs that do not
    yield; ``say``: gets messages about changes."""

    def __init__(
        self,
        resources: Resources,
        desktops: DesktopAgents | None,
        say: Callable[[str], None],
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._hours: Hours | None = resources.when
        self._text = resources.hours
        self._quiet_seconds = resources.desktop_quiet_seconds
        self._desktops, self._say, self._now = desktops, say, now
        self._open = True
        self._left: dict[int, str] = {}  # slots that were left to someone: why

    def look(self, states: Iterable[SlotCards]) -> dict[int, dict[AbsenceReason, str | None]]:
        """By slot: why its card is not ours, for each reason; None: it is ours."""
        there = list(states)
        until = self._until()
        found: dict[int, dict[AbsenceReason, str | None]] = {}
        if self._desktops is not None:
            self._look_at_cards(there, self._desktops)
        for state in there:
            found[state.number] = {AbsenceReason.HOURS: until}
            if self._desktops is not None:
                found[state.number][AbsenceReason.DESKTOP] = self._player(state, self._desktops)
        return found

    def _until(self) -> str | None:
        """Why the present time is not the run's; None if it is."""
        if self._hours is None:
            return None
        now = self._now()
        opened = self._hours.open(now)
        if opened:
            if not self._open:
                self._say(f"its hours ({self._text}) have begun")
            self._open = True
            return None
        change = self._hours.next_change(now)
        again = "they begin" if change is None else self._hours.wall_clock(change)
        why = f"until {again}, as resources.hours ({self._text}) says"
        if self._open:
            self._say(f"outside of its hours: the cards are free {why}")
        self._open = False
        return why

    def _player(self, state: SlotCards, desktops: DesktopAgents) -> str | None:
        calls = [desktops.call(state.node, index) for index in state.cards]
        away = [call for call in calls if call.away]
        whys = [call.why for call in away if call.why]
        if whys and state.number not in self._left:
            self._left[state.number] = whys[0]
            wait = quiet_in_words(self._quiet_seconds)
            self._say(f"{state.name}: {whys[0]}: the card is left to it {wait}")
        if not away and self._left.pop(state.number, ""):
            self._say(f"{state.name}: nobody uses its card any more: it is taken again")
        if state.number in self._left:
            return self._left[state.number]
        # the watcher may be new and has to look again: that stops no engine
        return _LOOKING if away and state.ours is Ours.NOTHING else None

    def _look_at_cards(self, states: Iterable[SlotCards], desktops: DesktopAgents) -> None:
        ours: dict[Node, dict[int, Ours]] = {}
        hosts: dict[Node, str] = {}
        for state in states:
            hosts[state.node] = state.host
            ours.setdefault(state.node, {}).update(dict.fromkeys(state.cards, state.ours))
        desktops.look(ours, hosts)
