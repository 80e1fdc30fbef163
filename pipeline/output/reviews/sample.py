"""Which rows reviewers are asked about, and the probability that a row was among them. Pure.

Every row has two fixed numbers between 0 and 1, computed from the sample's seed and the row's
place.

The *random* order sorts rows by the first number. Its first k of N rows are a simple random sample,
and each row was among them with probability k/N, for any k.

The *doubtful* order sorts them by ``size / number``, the highest first, with the second number and
a size that grows with the model's doubt. This is priority sampling (Duffield, Lund, Thorup:
Priority sampling for estimation of arbitrary subset sums, J. ACM 54(6), 2007): a row counts as
drawn with probability min(1, size/t), where t is the k-th highest priority of the others; estimates
of sums over all rows with the inverse of this probability as weight are unbiased. For a row among
the first k, t is the priority of the next row after them; for any other row, that of the k-th.

Reviewers are asked in one order, which takes four rows of the random order, then one of the
doubtful order, and so on, each row once. So a reviewer who stops after any number of rows has
answered the first rows of both orders. A larger sample begins with the smaller one: answers stay,
and the probabilities become those of the larger sample. As the two orders are independent, a row is
in at least one of the beginnings with probability 1 - (1 - k/N)(1 - p), where p is that of the
doubtful order. The number of rows asked must not depend on the answers: stopping once the results
look good biases them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

RANDOM_OF_FIVE = 4  # of five rows, those from the random order
_LEAST_SIZE = 0.02  # of a row that the model is certain of: it can also be drawn
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class DrawnRow:
    """A row to ask about. ``random``, ``doubtful``: its places in the two orders, counted from 0,
    None if the sample does not reach that place. ``size``, ``priority``: see above."""

    shard: str
    row: Annotated[int, Field(ge=0)]
    random: Annotated[int, Field(ge=0)] | None
    doubtful: Annotated[int, Field(ge=0)] | None
    size: Annotated[float, Field(gt=0)]
    priority: Annotated[float, Field(gt=0)]
    digest: str  # of the texts that reviewers see

    @property
    def place(self) -> tuple[str, int]:
        return self.shard, self.row

    @property
    def part(self) -> Literal["random", "uncertain"]:
        return "uncertain" if self.random is None else "random"


@dataclass(frozen=True, slots=True)
class SampledRow:
    """A row that people were asked about. ``probability``: of being asked about; ``random``: it
    belongs to the simple random sample."""

    drawn: DrawnRow
    probability: float
    random: bool


@dataclass(frozen=True)
class ReviewSample:
    """Rows in the order of asking, out of ``population`` possible rows.

    ``next_priority``: of the first row of the doubtful order that is not here; 0: there is none.
    """

    seed: int
    rows: Sequence[DrawnRow]
    population: int
    next_priority: float

    def asked(self, number: int | None = None) -> list[SampledRow]:
        """The first ``number`` rows (None: all), with their probabilities if people are asked only
        about these."""
        wanted = len(self.rows) if number is None else min(number, len(self.rows))
        random = _in_order([row.random for row in self.rows])
        doubtful = _in_order([row.doubtful for row in self.rows])
        taken, k, gone = asked_order(random, doubtful, wanted)
        if wanted == self.population:  # all rows
            return [SampledRow(self.rows[at], 1.0, random=True) for at in taken]
        priorities = [self.rows[at].priority for at in doubtful] + [self.next_priority]
        first, second = set(random[:k]), set(doubtful[:gone])
        asked = []
        for at in taken:
            row, p = self.rows[at], 0.0
            if gone:  # the highest priority that would have kept the row out
                needed = priorities[gone if at in second else gone - 1]
                p = min(1.0, row.size / needed) if needed > 0 else 1.0
            asked.append(SampledRow(row, 1 - (1 - k / self.population) * (1 - p), at in first))
        return asked


def _in_order(places: Sequence[int | None]) -> list[int]:
    known = [(place, at) for at, place in enumerate(places) if place is not None]
    return [at for _, at in sorted(known)]


def sizes(confidences: Floats) -> Floats:
    """The model's doubt, from its confidence; full doubt for NaN (not known)."""
    doubt = 1.0 - np.clip(np.nan_to_num(confidences, nan=0.0), 0.0, 1.0)
    return _LEAST_SIZE + (1 - _LEAST_SIZE) * doubt


def numbers(seed: int, salt: int, shard: int, rows: npt.NDArray[np.int64]) -> Floats:
    """Each row's number, above 0 and at most 1. ``shard``: a number that identifies the file.

    SplitMix64's finalizer (Steele, Lea, Flood: Fast splittable pseudorandom number generators,
    OOPSLA 2014), over the row and then over the result and the seed.
    """
    with np.errstate(over="ignore"):
        mixed = _mix(rows.astype(np.uint64) + np.uint64(shard % 2**64))
        mixed = _mix(mixed ^ np.uint64((seed + salt * 0x9E3779B97F4A7C15) % 2**64))
    return ((mixed >> np.uint64(11)).astype(np.float64) + 1.0) / 2.0**53


def _mix(z: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    z = z + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: npt.NDArray[np.uint64] = z ^ (z >> np.uint64(31))
    return mixed


def asked_order(
    random: Sequence[int], doubtful: Sequence[int], wanted: int
) -> tuple[list[int], int, int]:
    """The first ``wanted`` rows to ask about, and how many rows of each order they use up.
    ``random``, ``doubtful``: the orders, as numbers of rows."""
    taken: dict[int, None] = {}
    at = [0, 0]
    orders = (random, doubtful)
    turns = cycle([0] * RANDOM_OF_FIVE + [1] * (5 - RANDOM_OF_FIVE))
    while len(taken) < wanted and any(a < len(o) for a, o in zip(at, orders, strict=True)):
        which = next(turns)
        if at[which] < len(orders[which]):  # a turn with a row that was taken adds nothing
            taken.setdefault(orders[which][at[which]])
            at[which] += 1
    return list(taken), at[0], at[1]
