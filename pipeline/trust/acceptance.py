"""Which rows to accept, with a promise about how many of them are wrong.

Rows are accepted from the most confident down. Larger and larger shares of all rows are tested on
gold rows drawn at random, until one fails; the last that passed is accepted. Because the order is
fixed in advance and the tests stop at the first failure, all tests together are wrong no more often
than one test (fixed-sequence testing, as in Angelopoulos et al. 2021, "Learn then Test").

The tests are on shares, not on thresholds: each gold row is ranked among all rows by a fit that did
not see it, and ranks of different fits can be compared while their confidences cannot.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

import numpy as np

from pipeline.trust.arrays import Bools, Floats, Ints

_SHARES = np.arange(1, 101) / 100
_ROUNDING = 1e-9
# Numbers of further rows to review, among which ``more_review`` chooses.
_LADDER = (25, 50, 75, 100, 150, 200, 300, 400, 500, 750, 1000, 1500, 2000, 3000, 5000)


@dataclass(frozen=True)
class Promise:
    """At most the share ``error`` of accepted rows is wrong, with probability ``confidence``."""

    error: float = 0.05
    confidence: float = 0.95


@dataclass(frozen=True)
class Acceptance:
    """``rows`` rows are accepted: those whose confidence is at least ``threshold``. ``reviewed`` of
    them were reviewed, and ``wrong`` of these are wrong. With the promise's confidence, at most the
    share ``upper`` of the accepted rows is wrong."""

    threshold: float
    rows: int
    reviewed: int
    wrong: int
    upper: float


@dataclass(frozen=True)
class NoAcceptance:
    """No rows can be accepted. ``best_error``: the lowest error that these gold rows could promise,
    for ``best_rows`` rows; None if they can promise nothing. ``more``: how many more gold rows a
    promise needs at least, if all of them are right; 0: enough, but too many are wrong."""

    best_error: float | None
    best_rows: int
    more: int


@dataclass(frozen=True)
class MoreReview:
    """After a review of ``rows`` more rows, about ``gain`` more would be accepted."""

    rows: int
    gain: int


def ranks(confidences: Floats, of: Ints) -> Floats:
    """For each row at ``of``, the share of all rows that are at least as confident as it."""
    ordered = np.sort(confidences)
    return 1 - np.searchsorted(ordered, confidences[of], side="left") / len(confidences)


def accept(
    rank: Floats, right: Bools, confidences: Floats, promise: Promise
) -> Acceptance | NoAcceptance:
    """The most rows that keep the promise. ``rank`` [gold rows]: see ``ranks``; ``right``: whether
    the label is the true one. Both are for rows drawn at random, from fits that did not see them.
    ``confidences`` [rows]: of all rows with the gold rows, as they are written to the dataset."""
    rows = len(confidences)
    share = _largest(rank, right, rows, promise)
    accepted = _accepted(confidences, share)
    if not accepted.any():
        more = max(0, least_reviewed(rows, promise) - len(rank))
        best = _lowest_error(rank, right, confidences, promise)
        best_share = _largest(rank, right, rows, Promise(best, promise.confidence)) if best else 0.0
        best_rows = int(_accepted(confidences, best_share).sum())
        return NoAcceptance(best, best_rows, more)
    inside = rank <= share + _ROUNDING
    reviewed, wrong = int(inside.sum()), int(np.sum(inside & ~right))
    return Acceptance(
        float(confidences[accepted].min()),
        int(accepted.sum()),
        reviewed,
        wrong,
        upper_bound(wrong, reviewed, max(reviewed, int(accepted.sum())), promise.confidence),
    )


def upper_bound(wrong: int, seen: int, rows: int, confidence: float) -> float:
    """The upper bound of the share of wrong rows among ``rows``, if ``wrong`` of ``seen`` rows
    drawn without replacement are wrong: it is exceeded with probability 1 - ``confidence`` at most.
    For many rows it is Clopper's and Pearson's bound (1934); if all were seen, the share itself."""

    def ruled_out(unseen: int) -> bool:
        """Whether so many of the unseen rows cannot be wrong."""
        chance = _at_most(*(np.array([k]) for k in (wrong, rows, wrong + unseen, seen)))
        return bool(chance[0] <= 1 - confidence)

    possible = bisect_left(range(1, rows - seen + 1), True, key=ruled_out)
    return (wrong + possible) / rows


def least_reviewed(rows: int, promise: Promise) -> int:
    """How many of ``rows`` must be drawn, and all be right, for a promise about all of them."""

    def enough(seen: int) -> bool:
        return bool(_passes(np.array([0]), np.array([seen]), np.array([rows]), promise)[0])

    return bisect_left(range(rows), True, key=enough)


def more_review(
    confidences: Floats,
    reviewed: int,
    accepted: int,
    promise: Promise,
    at_random: float = 1.0,
) -> MoreReview | None:
    """What reviewing more rows would gain, if as many rows are wrong as the ``confidences`` [rows]
    (calibrated) say: the fewest rows that gain half of what thousands would. None if there is no
    gain. ``reviewed``: rows drawn at random so far; ``accepted``: rows so far; ``at_random``: the
    share of further rows that is drawn at random: only these count for a promise."""
    rows = len(confidences)
    ordered = np.sort(confidences)[::-1]
    counts = np.maximum(1, np.floor(_SHARES * rows + _ROUNDING).astype(np.int64))
    expected = np.cumsum(1 - ordered)[counts - 1] / counts
    steps = [step for step in _LADDER if reviewed / 10 <= step <= rows - reviewed]
    gains = []
    for step in steps:
        drawn = reviewed + at_random * step
        seen = np.floor(drawn * _SHARES).astype(np.int64)
        wrong = np.floor(seen * expected + 0.5).astype(np.int64)
        passed = np.flatnonzero(_passes(wrong, seen, counts, promise))
        gains.append(int(counts[passed[-1]]) - accepted if len(passed) else 0)
    most = max(gains, default=0)
    if most < max(1, rows / 200):  # too little to mention
        return None
    return next(MoreReview(s, g) for s, g in zip(steps, gains, strict=True) if 2 * g >= most)


def _lowest_error(
    rank: Floats, right: Bools, confidences: Floats, promise: Promise
) -> float | None:
    """The lowest error that could be promised, in steps of half a percent; None if there is none.
    Found by bisection: if one error can be promised, a higher one nearly always can be too."""
    low, high = int(200 * promise.error + _ROUNDING), 200
    while high - low > 1:
        middle = (low + high) // 2
        share = _largest(rank, right, len(confidences), Promise(middle / 200, promise.confidence))
        if _accepted(confidences, share).any():
            high = middle
        else:
            low = middle
    return high / 200 if high < 200 else None


def _largest(rank: Floats, right: Bools, rows: int, promise: Promise) -> float:
    """The largest share of all rows that passes together with all before it; 0 if none does.

    The sequence begins where there are enough gold rows to pass at all, but not before a quarter of
    them. If half of them are enough to pass with one wrong, it begins where one wrong row can still
    pass: a single mistake at the very top should not end the sequence. The start depends on how
    many gold rows there are, not on whether they are right."""
    order = np.argsort(rank, kind="stable")
    seen = np.searchsorted(rank[order], _SHARES + _ROUNDING, side="right")
    wrong = np.concatenate([[0], np.cumsum(~right[order])])[seen]
    counts = np.maximum(np.floor(_SHARES * rows + _ROUNDING).astype(np.int64), seen)
    half = np.array([len(rank) // 2])
    spare = int(_passes(np.array([1]), half, np.array([max(rows // 2, half[0])]), promise)[0])
    able = _passes(np.minimum(spare, seen), seen, counts, promise) & (4 * seen >= len(rank))
    if not able.any():
        return 0.0
    start = int(able.argmax())
    failed = ~_passes(wrong[start:], seen[start:], counts[start:], promise)
    passed = int(failed.argmax()) if failed.any() else len(failed)
    return float(_SHARES[start + passed - 1]) if passed else 0.0


def _passes(wrong: Ints, seen: Ints, counts: Ints, promise: Promise) -> Bools:
    """Whether at most the promised share of the unseen rows is wrong. Of ``counts`` rows, ``seen``
    were drawn at random, and ``wrong`` of these are wrong. It is shown if, with more wrong rows
    among the unseen, so few would be found with probability 1 - confidence at most. With many
    unseen rows this is Clopper's and Pearson's bound; with few, the unseen rows may differ from the
    seen by chance, which counts too; if all were seen, there is no uncertainty."""
    wrong, others = np.minimum(wrong, seen), counts - seen
    too_many = np.floor(promise.error * others + _ROUNDING).astype(np.int64) + 1
    chance = np.where(too_many > others, 0.0, _at_most(wrong, counts, wrong + too_many, seen))
    enough = (seen > 0) & (wrong <= promise.error * seen + _ROUNDING)
    return np.asarray(enough & (chance <= 1 - promise.confidence + _ROUNDING))


def _at_most(wrong: Ints, rows: Ints, all_wrong: Ints, seen: Ints) -> Floats:
    """The probability that at most ``wrong`` of ``seen`` rows drawn without replacement are wrong,
    if ``all_wrong`` of ``rows`` are: the hypergeometric distribution, summed downwards."""
    from scipy.special import gammaln  # a quarter of a second to load

    def ways(of: Ints, some: Ints) -> Floats:
        logs: Floats = gammaln(of + 1) - gammaln(some + 1) - gammaln(of - some + 1)
        return logs

    right, seen_right = rows - all_wrong, seen - wrong
    possible = (right >= seen_right) & (wrong <= all_wrong)
    right, all_wrong = np.maximum(right, seen_right), np.maximum(all_wrong, wrong)
    term = np.exp(ways(all_wrong, wrong) + ways(right, seen_right) - ways(rows, seen))
    total = term.copy()
    k = wrong.astype(float)
    while np.any(term > total * 1e-12):
        term = term * k * (right - seen + k) / ((all_wrong - k + 1) * (seen - k + 1))
        term = np.maximum(term, 0.0)
        total += term
        k = np.maximum(k - 1, 0)
    return np.where(possible, np.minimum(total, 1.0), 0.0)


def _accepted(confidences: Floats, share: float) -> Bools:
    """The most confident rows, at most this share of all. Of rows with equal confidence, all or
    none are accepted."""
    if share <= 0:
        return np.zeros(len(confidences), bool)
    ordered = np.sort(confidences)
    most = int(share * len(ordered) + _ROUNDING * len(ordered))
    if most >= len(ordered):
        return np.ones(len(confidences), bool)
    return np.asarray(confidences > ordered[len(ordered) - most - 1])
