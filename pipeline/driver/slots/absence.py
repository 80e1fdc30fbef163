"""When cards of a run are not its own for now: outside of its hours, and while somebody plays.

The queue of a rack is a third reason, and tells it itself (see ``allotment``). What follows is the
same for all three: ``Workers`` lets the card go, and comes back to it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from pipeline.dispatch.desktop import DesktopCall, Ours, quiet_in_words
from pipeline.driver.slots.slot_states import Reason
from pipeline.job.hours import Hours
from pipeline.job.resources import Resources

Node = str | None
_LOOKING = ""  # a card is looked at for some seconds before it is used: not worth a word


class Desktops(Protocol):
    """Who looks at the cards of machines."""

    def look(self, ours: Mapping[Node, Mapping[int, Ours]], hosts: Mapping[Node, str]) -> None: ...

    def call(self, node: Node, index: int) -> DesktopCall: ...


@dataclass(frozen=True)
class SeatCards:
    """The cards of a seat, by the driver's numbers on its machine, and what of ours is on them."""

    number: int
    name: str
    node: Node
    host: str
    cards: Collection[int]
    ours: Ours


class Absences:
    """Why which seats have to do without their cards. ``desktops``: None for jobs that do not
    yield; ``say``: told of what changes."""

    def __init__(
        self,
        resources: Resources,
        desktops: Desktops | None,
        say: Callable[[str], None],
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._hours: Hours | None = resources.when
        self._text = resources.hours
        self._quiet_seconds = resources.desktop_quiet_seconds
        self._desktops, self._say, self._now = desktops, say, now
        self._open = True
        self._left: dict[int, str] = {}  # seats that were left to somebody: why

    def look(self, seats: Iterable[SeatCards]) -> dict[int, dict[Reason, str | None]]:
        """By seat: for each reason why its card is not ours; None: it is."""
        there = list(seats)
        until = self._until()
        found: dict[int, dict[Reason, str | None]] = {}
        if self._desktops is not None:
            self._look_at_cards(there, self._desktops)
        for seat in there:
            found[seat.number] = {Reason.HOURS: until}
            if self._desktops is not None:
                found[seat.number][Reason.DESKTOP] = self._player(seat, self._desktops)
        return found

    def _until(self) -> str | None:
        """Why the hours are not the run's; None where they are."""
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

    def _player(self, seat: SeatCards, desktops: Desktops) -> str | None:
        calls = [desktops.call(seat.node, index) for index in seat.cards]
        away = [call for call in calls if call.away]
        whys = [call.why for call in away if call.why]
        if whys and seat.number not in self._left:
            self._left[seat.number] = whys[0]
            wait = quiet_in_words(self._quiet_seconds)
            self._say(f"{seat.name}: {whys[0]}: the card is left to it {wait}")
        if not away and self._left.pop(seat.number, ""):
            self._say(f"{seat.name}: nobody uses its card any more: it is taken again")
        if seat.number in self._left:
            return self._left[seat.number]
        # who looks may be new, and has to look again: that drives no engine away
        return _LOOKING if away and seat.ours is Ours.NOTHING else None

    def _look_at_cards(self, seats: Iterable[SeatCards], desktops: Desktops) -> None:
        ours: dict[Node, dict[int, Ours]] = {}
        hosts: dict[Node, str] = {}
        for seat in seats:
            hosts[seat.node] = seat.host
            ours.setdefault(seat.node, {}).update(dict.fromkeys(seat.cards, seat.ours))
        desktops.look(ours, hosts)
