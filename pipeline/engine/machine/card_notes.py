"""What is said of workers' cards: that one is slowed down for a while, or is gone. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.engine.machine.card_reading import CardReading, Slowed
from pipeline.engine.machine.vitals import Vitals
from pipeline.humanize import plural

LONG_SECONDS = 30.0  # a moment of heat or power is how cards keep within their limits
_FORGOTTEN_SECONDS = 10.0

_Key = tuple[str, int, Slowed]


class CardNotes:
    """Told of all workers' cards now and then."""

    def __init__(self) -> None:
        self._since: dict[_Key, tuple[float, float]] = {}  # first and last seen so
        self._said: set[_Key] = set()

    def lines(self, now: float, workers: Mapping[str, Vitals]) -> list[str]:
        """What is new at ``now`` (seconds on any clock)."""
        found = []
        for worker, vitals in workers.items():
            for card in vitals.cards:
                for reason in card.slowed:
                    if reason is Slowed.POWER and not card.capped:
                        continue  # at its usual limit a card at work always is
                    if self._lasts(now, (worker, card.index, reason)):
                        place = worker.partition(".")[0]  # its next engine has the same card
                        if (place, card.index, reason) not in self._said:
                            self._said.add((place, card.index, reason))
                            found.append(f"{worker}: {slowed_in_words(card, reason)}")
        return found

    def _lasts(self, now: float, key: _Key) -> bool:
        first, last = self._since.get(key, (now, now))
        if now - last > _FORGOTTEN_SECONDS:
            first = now
        self._since[key] = first, now
        return now - first >= LONG_SECONDS


def slowed_in_words(card: CardReading, reason: Slowed) -> str:
    """What a user should know of it, and what helps."""
    if reason is Slowed.HEAT:
        at = "" if card.celsius is None else f" at {card.celsius} °C"
        return f"{card.title}{at}, slowed down by heat: look at its fans and the air around it"
    if reason is Slowed.POWER:
        limit, usual = card.limit_watts or 0.0, card.usual_limit_watts or 0.0
        return (
            f"{card.title} is held to {limit:.0f} of {usual:.0f} W, as it is set (nvidia-smi -pl)"
        )
    return f"{card.title} is slowed down by its hardware: look at its power cables and supply"


def lost_in_words(card: CardReading, host: str) -> str:
    """A card that has fallen off the bus."""
    where = f" of {host}" if host else ""
    return (
        f"the {card.title} (card {card.index}{where}) has fallen off the bus: restart its machine; "
        "if it happens again, look at the card's power cables, heat and seat"
    )


@dataclass(frozen=True)
class CardsNow:
    """All cards of a run: ``watts`` together, ``celsius`` of the hottest one, how many there are,
    and how many heat or their hardware slows down. None: they do not tell."""

    watts: float | None = None
    celsius: int | None = None
    slowed: int = 0
    number: int = 0

    @classmethod
    def of(cls, workers: Iterable[Vitals]) -> CardsNow:
        cards = {card.uuid or card.index: card for one in workers for card in one.cards}.values()
        watts = [card.watts for card in cards if card.watts is not None]
        celsius = [card.celsius for card in cards if card.celsius is not None]
        slow = sum(bool(set(card.slowed) - {Slowed.POWER}) for card in cards)
        total = round(sum(watts), 1) if watts else None
        return cls(total, max(celsius, default=None), slow, len(cards))

    def as_json(self) -> dict[str, Any]:
        return {"watts": self.watts, "celsius": self.celsius, "slowed": self.slowed}


def readings_in_words(watts: float | None, celsius: int | None, slowed: int) -> list[str]:
    """How a run's cards are, in a few words each: "612 W", "83 °C", "1 card slowed down"."""
    parts = []
    if watts is not None:
        parts.append(f"{watts:.0f} W")
    if celsius is not None:
        parts.append(f"{celsius} °C")
    if slowed:
        parts.append(f"{plural(slowed, 'card')} slowed down")
    return parts
