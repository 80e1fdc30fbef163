"""What a worker's cards say of themselves, and the energy that they used since it began."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.engine.machine.card_memory import own_cards
from pipeline.engine.machine.card_reading import CardReader, CardReading
from pipeline.engine.protocol import SEAT

_RAPL = Path("/sys/class/powercap")


@dataclass(frozen=True, slots=True)
class EnergySpan:
    """What one meter (of a card, or of a processor) counted from ``began`` to ``ended`` (epoch
    seconds). ``counted``: by its own counter; else it is the sum of samples of the power."""

    meter: str
    began: float
    ended: float
    joules: float
    counted: bool = True


@dataclass(frozen=True, slots=True)
class Vitals:
    """Of one worker. ``cards``: as they are now; ``energy``: since it began, of all that it has;
    ``metered``: whether there is a meter for all of it."""

    began: float
    ended: float
    cards: tuple[CardReading, ...] = ()
    energy: tuple[EnergySpan, ...] = ()
    metered: bool = False

    @property
    def lost(self) -> CardReading | None:
        """A card that has fallen off the bus."""
        return next((card for card in self.cards if card.lost), None)


class VitalSigns:
    """Of the cards with these ``indices``; without any, of this machine's processor."""

    def __init__(
        self,
        indices: Sequence[int],
        *,
        clock: Callable[[], float] = time.time,
        rapl: Path = _RAPL,
    ) -> None:
        self._indices, self._reader, self._clock = indices, CardReader(), clock
        self._began = clock()
        self._cards = {index: _CardMeter() for index in indices}
        self._packages = [] if indices else [_Package(path) for path in packages(rapl)]

    def look(self) -> Vitals:
        now = self._clock()
        readings = [self._reader.read(index) for index in self._indices]
        cards = tuple(card for card in readings if card is not None)
        for card in cards:
            self._cards[card.index].see(card, now)
        spans = [meter.span for meter in self._cards.values()]
        spans += [package.read(now) for package in self._packages]
        energy = tuple(span for span in spans if span is not None)
        metered = bool(spans) and len(energy) == len(spans)
        return Vitals(self._began, now, cards, energy, metered)


@dataclass
class _CardMeter:
    """By the card's own counter (from Volta on), else by samples of its power."""

    span: EnergySpan | None = None
    _last: tuple[float, CardReading] | None = field(default=None)

    def see(self, card: CardReading, now: float) -> None:
        last, self._last = self._last, (now, card)
        if last is None or card.lost:
            if not card.lost and (card.joules is not None or card.watts is not None):
                self.span = EnergySpan(card.uuid, now, now, 0.0, card.joules is not None)
            return
        at, before = last
        joules: float | None = None
        if card.joules is not None and before.joules is not None:
            # a driver that was loaded anew counts from 0 again
            joules = card.joules - before.joules if card.joules >= before.joules else card.joules
        elif card.watts is not None and before.watts is not None:
            joules = (card.watts + before.watts) / 2 * (now - at)
        if joules is not None and self.span is not None:
            span = self.span
            counted = span.counted and card.joules is not None
            self.span = EnergySpan(span.meter, span.began, now, span.joules + joules, counted)


class _Package:
    """One processor, by Linux' RAPL. Its counter (microjoules) begins anew at some number."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._most = _number(path / "max_energy_range_uj") or 0
        self._began: float | None = None
        self._last = 0
        self._sum = 0

    def read(self, now: float) -> EnergySpan | None:
        value = _number(self._path / "energy_uj")
        if value is None:
            return None
        if self._began is None:
            self._began, self._last = now, value
        self._sum += value - self._last + (self._most if value < self._last else 0)
        self._last = value
        return EnergySpan(f"{platform.node()}/{self._path.name}", self._began, now, self._sum / 1e6)


def packages(rapl: Path = _RAPL) -> list[Path]:
    """The processors whose counters may be read here: that takes root's rights on most systems."""
    return [
        zone
        for zone in sorted(rapl.glob("intel-rapl:*"))
        if _text(zone / "name").startswith("package") and _number(zone / "energy_uj") is not None
    ]


def worker_cards(*, simulated: bool, on_processor: bool) -> list[int]:
    """The driver's numbers of the cards that the worker in this process has. A rehearsal's is the
    one on which its engine would be, where there is one."""
    own = own_cards()
    if not simulated:
        return [] if on_processor else own
    if len(own) != 1:
        own = own or list(range(CardReader().number()))
        seat = int(os.environ.get(SEAT, -1))
        own = own[seat : seat + 1] if seat >= 0 else []
    return own


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.isdigit() else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return ""
