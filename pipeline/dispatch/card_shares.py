"""Which job has which cards of a rack. Pure.

A job of a higher priority takes all the cards that it can use before others get any. Jobs of equal
priority get equal shares, however much each has to do: slots are dealt out one by one in turn.
Where there are more jobs than slots they take turns: a job whose turn is over makes room for the
one that has waited longest. A slot is a card, or several cards of which a job needs all or none;
one job's slot may be several of another's.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Generic, TypeVar

C = TypeVar("C", bound=Hashable)  # a card, however it is named


@dataclass(frozen=True)
class Claim(Generic[C]):
    """What one job could use. Times in seconds on one clock.

    ``slots``: where it could run, the best first, no card in two of them; ``most``: how many at
    once; ``holds``: cards it has now, ``since`` when it has had any; None: it has none, and waits
    since ``waits_since``. ``deadline``: the job is worth nothing afterwards.
    """

    job: str
    priority: int
    submitted: float
    slots: Sequence[tuple[C, ...]]
    most: int | None = None
    holds: frozenset[C] = frozenset()
    since: float | None = None
    waits_since: float = 0.0
    deadline: float = math.inf


def share_out(
    claims: Sequence[Claim[C]], now: float, turn_seconds: float
) -> dict[str, tuple[C, ...]]:
    """The cards of each job, by its name: no card goes to two jobs."""
    given: dict[str, list[tuple[C, ...]]] = {claim.job: [] for claim in claims}
    free = {card for claim in claims for slot in claim.slots for card in slot}
    held = {card: claim.job for claim in claims for card in claim.holds}
    for priority in sorted({claim.priority for claim in claims}, reverse=True):
        level = [claim for claim in claims if claim.priority == priority]
        order = sorted(level, key=lambda claim: _first_deal(claim, now, turn_seconds))
        while True:
            left = len(free)
            for claim in order:
                if claim.most is not None and len(given[claim.job]) >= claim.most:
                    continue
                slot = _best(claim, free, held)
                if slot is not None:
                    given[claim.job].append(slot)
                    free.difference_update(slot)
            if len(free) == left:
                break
            # what cannot be shared evenly stays where it is
            order = sorted(level, key=lambda claim: (not claim.holds & free, claim.submitted))
    return {job: tuple(card for slot in slots for card in slot) for job, slots in given.items()}


def _first_deal(claim: Claim[C], now: float, turn_seconds: float) -> tuple[int, float, float]:
    """First those whose turn it is (they keep a card), then those who wait, then those who had
    their turn."""
    if claim.since is None:
        return 1, claim.deadline, claim.waits_since
    over = now - claim.since >= turn_seconds
    return (2 if over else 0), claim.deadline, -claim.since if over else claim.submitted


def _best(claim: Claim[C], free: Set[C], held: Mapping[C, str]) -> tuple[C, ...] | None:
    """Its own slot first, since an engine is loaded there; then a free one."""

    def rank(slot: tuple[C, ...]) -> int:
        if claim.holds.issuperset(slot):
            return 0
        return 2 if any(held.get(card, claim.job) != claim.job for card in slot) else 1

    whole = (slot for slot in claim.slots if free >= set(slot))
    return min(whole, key=rank, default=None)
