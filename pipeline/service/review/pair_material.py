"""Which answers people are asked to choose between: pairs of them, by outputs over the same rows.

Rows are gone through in an order that was drawn beforehand. What is said of two answers is kept
beside the first output, under a name made of all that was to be seen: the criteria and the row's
texts, the answer on the left, that on the right. So it counts wherever the same is asked again, and
for nothing else. Which of two answers stands left is drawn, too, and the same for every reviewer.
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
_AT_ONCE = 2  # rows that are read for each that is wanted: so many may be the same


@dataclass(frozen=True)
class ShownPair:
    """Two answers as every reviewer sees them. ``swapped``: that of the pair's ``other`` output
    stands left."""

    pair: AnswerPair
    key: Key
    swapped: bool

    @property
    def sides(self) -> tuple[str, str]:
        """What stands left, and what right."""
        one, other = self.pair.answers
        return (other, one) if self.swapped else (one, other)


@dataclass(frozen=True)
class PairMaterial:
    """What is judged. ``rows``: of each row every two answers, those that are the same among them,
    in the order in which rows were drawn. ``wanted``: so many rows with answers that differ were
    asked for. ``more``: there are others beyond these."""

    storage: Storage
    outputs: tuple[str, ...]
    criteria: str
    rows: Sequence[Sequence[AnswerPair]]
    wanted: int
    more: bool

    def shown(self, row: Sequence[AnswerPair]) -> list[ShownPair]:
        """What reviewers see of a row: answers that are the same, they need not see."""
        return [_shown(pair, self.criteria) for pair in row if pair.differs]

    @cached_property
    def asked(self) -> dict[Key, ShownPair]:
        """All that reviewers see, in their order. Where two of three answers are the same, there is
        less to ask than there are pairs."""
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
    """So many ``rows`` of ``outputs`` whose answers differ (None: ``DEFAULT_ROWS``), and all rows
    that are drawn before one more would come. ``note`` gets a line before something takes long.

    (Stopped there, and not at the last row that differs, the share of rows that differ is that of
    all rows in the mean: Haldane, On a method of estimating frequencies, Biometrika 33, 1945.)

    Raises UsageError for what cannot be judged; AlreadyRunning for what is being written.
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
    # drawn, and no matter in which order the outputs were named
    turned = int(_digest(file, str(row), first, second), 16) % 2 == 1
    left, right = (second, first) if turned else (first, second)
    asked = _digest(criteria, *(word for text in pair.texts.items() for word in text))
    question = f"better {asked} {_digest(left)} {_digest(right)}"
    return ShownPair(pair, (question, pair.place), swapped=left != pair.answers[0])


def _digest(*words: str) -> str:
    every = "\0".join(words).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(every, digest_size=8).hexdigest()
