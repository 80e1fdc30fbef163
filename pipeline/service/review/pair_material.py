"""Pairs of answers that people choose between, from outputs over the same rows.

Rows come in an order that was drawn in advance. A verdict is stored beside the first output, under
a name made from everything that was shown: the criteria and the row's texts, the answer on the
left, the answer on the right. So it counts wherever the same is asked again, and nowhere else.
Which answer is on the left is also random, but the same for every reviewer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from pipeline.errors import UsageError
from pipeline.humanize import plural
from pipeline.output.reviews.answers import Key
from pipeline.output.rows.answer_pairs import AnswerPair, drawn_pairs, outputs_to_compare
from pipeline.storage.base import Storage, open_storage

LEFT, RIGHT, TIE = "left", "right", "tie"
CHOICES = (LEFT, RIGHT, TIE)
DEFAULT_ROWS = 50
_AT_ONCE = 2  # rows to read for each wanted row: in some, all answers are the same


@dataclass(frozen=True)
class ShownPair:
    """Two answers as every reviewer sees them. ``swapped``: the answer of the pair's ``other``
    output is on the left."""

    pair: AnswerPair
    key: Key
    swapped: bool

    @property
    def sides(self) -> tuple[str, str]:
        """The left answer and the right one."""
        one, other = self.pair.answers
        return (other, one) if self.swapped else (one, other)


@dataclass(frozen=True)
class PairMaterial:
    """What is judged. ``rows``: for each row all pairs of answers, including equal ones, in the
    order in which rows were drawn. ``wanted``: how many rows with different answers were asked for.
    ``more``: there are further ones."""

    storage: Storage
    outputs: tuple[str, ...]
    criteria: str
    rows: Sequence[Sequence[AnswerPair]]
    wanted: int
    more: bool

    def shown(self, row: Sequence[AnswerPair]) -> list[ShownPair]:
        """What reviewers see of a row: only pairs of different answers."""
        return [_shown(pair, self.criteria) for pair in row if pair.differs]

    @cached_property
    def asked(self) -> dict[Key, ShownPair]:
        """All that reviewers see, in order. If two of three answers are the same, there are fewer
        questions than pairs."""
        found: dict[Key, ShownPair] = {}
        for row in self.rows:
            for one in self.shown(row):
                found.setdefault(one.key, one)
        return found


def open_pairs(
    outputs: Sequence[str],
    criteria: str,
    rows: int | None,
    note: Callable[[str], None] = lambda line: None,
) -> PairMaterial:
    """Draws rows of ``outputs`` until one more than ``rows`` (None: ``DEFAULT_ROWS``) have
    different answers, and leaves that one out. ``note`` gets a line before something takes long.

    (Because of stopping there, and not at the last row that differs, the share of rows that differ
    is unbiased: Haldane, On a method of estimating frequencies, Biometrika 33, 1945.)

    Raises UsageError if the outputs cannot be judged, AlreadyRunning if one is being written.
    """
    stored = outputs_to_compare(outputs, note)
    wanted = rows or DEFAULT_ROWS
    walked: list[list[AnswerPair]] = []
    differing = 0
    for row in drawn_pairs(stored, _AT_ONCE * wanted):
        differing += any(pair.differs for pair in row)
        if differing > wanted:
            break
        walked.append(row)
    if not differing:
        raise UsageError(
            f"{' and '.join(outputs)} have the same answers in all {plural(len(walked), 'row')} "
            "that they have in common: there is nothing to judge"
        )
    storage = open_storage(outputs[0])
    return PairMaterial(storage, tuple(outputs), criteria, walked, wanted, differing > wanted)


def _shown(pair: AnswerPair, criteria: str) -> ShownPair:
    file, row = pair.place
    first, second = sorted(pair.answers)
    # random, but independent of the order in which the outputs were named
    turned = int(_digest(file, str(row), first, second), 16) % 2 == 1
    left, right = (second, first) if turned else (first, second)
    asked = _digest(criteria, *(word for text in pair.texts.items() for word in text))
    question = f"better {asked} {_digest(left)} {_digest(right)}"
    return ShownPair(pair, (question, pair.place), swapped=left != pair.answers[0])


def _digest(*words: str) -> str:
    every = "\0".join(words).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(every, digest_size=8).hexdigest()
