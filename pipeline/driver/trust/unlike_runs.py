"""Runs of a schedule for which a promise over all of its runs does not hold.

Right answers of a column, or of a file, may lie in some of the runs alone. They speak for another
run, too, as long as its rows look alike. Where they do not, its own right answers have to show that
the promise holds for it; else nothing of it is accepted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipeline.driver.trust.question import TrustedQuestion
from pipeline.humanize import percent
from pipeline.trust.acceptance import Acceptance, Promise, upper_bound
from pipeline.trust.arrays import Bools, Ints
from pipeline.trust.calibration import decide, uncalibrated
from pipeline.trust.cross_fitted import CrossFitted, cross_fit
from pipeline.trust.drift import SIGNIFICANT, Drift, drift
from pipeline.trust.gold_sample import GoldSample

FROM = "inherited_from"  # in a run's block: whose right answers it is calibrated by
NOT_ALIKE = "its rows differ from those that the promise was made of"


@dataclass(frozen=True)
class RunByRun:
    """``whole``: what is known of a question over all runs, which counts what is accepted in those
    that the promise holds for. ``parts``: the same for each run. ``apart``: how each differs from
    the runs with the right answers; None where the promise holds for it."""

    whole: TrustedQuestion
    parts: tuple[TrustedQuestion, ...]
    apart: tuple[Drift | None, ...]

    def blocks(self, addresses: Sequence[str]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """What summaries hold, of the whole and of each run, which lies at one of ``addresses``."""
        names = [address.rpartition("/")[2].removeprefix("run=") for address in addresses]
        those = ", ".join(n for n, differs in zip(names, self.apart, strict=True) if not differs)
        whole, blocks = self.whole.as_json(), [part.as_json() for part in self.parts]
        every = zip(names, addresses, self.apart, blocks, strict=True)
        for name, address, differs, block in every:
            if differs is None:
                continue
            line = (
                f"the rows of the run {name} differ from those with right answers "
                f"({in_words(differs)}): its promise is taken back: no row of it is accepted; "
                f"label some: rackmill review {address}, then rackmill trust {address}"
            )
            whole["notes"] = [*whole["notes"], line]
            block |= {FROM: those, "drift": differs.as_json(), "notes": [*block["notes"], line]}
        told = zip(blocks, self.apart, strict=True)
        return whole, [whole if differs is None else block for block, differs in told]


def in_words(apart: Drift) -> str:
    """How far two runs lie apart."""
    return (
        f"confidences differ by {percent(apart.confidences)}, the shares of the labels by "
        f"{percent(apart.shares)}"
    )


def run_by_run(one: TrustedQuestion, rows: Sequence[int]) -> RunByRun:
    """``rows``: of each run, that have an answer."""
    report = one.report
    outcome, promise = report.acceptance, report.promise
    parts: list[TrustedQuestion] = [one] * len(rows)
    apart: list[Drift | None] = [None] * len(rows)
    if len(rows) < 2 or not isinstance(outcome, Acceptance) or promise is None:
        return RunByRun(one, tuple(parts), tuple(apart))
    sample = one.known.sample.in_order()
    of_run = np.repeat(np.arange(len(rows)), rows)
    found = _differing(one, of_run, sample, len(rows))
    accepted = report.decide(one.known.log_probabilities).accepted
    assert accepted is not None
    judged: CrossFitted | None = None
    for run, differs in enumerate(found):
        if differs is None:
            continue
        judged = judged or cross_fit(
            one.known.log_probabilities, sample, calibrate=report.calibration is not None
        )
        inside = of_run == run
        if _shows_it(judged, sample, inside, accepted, outcome, promise):
            continue
        apart[run] = differs
        parts[run] = replace(one, report=replace(report, acceptance=None, no_promise=NOT_ALIKE))
        accepted &= ~inside
    held = replace(outcome, rows=int(accepted.sum()))
    whole = replace(one, report=replace(report, acceptance=held))
    parts = [whole if differs is None else part for part, differs in zip(parts, apart, strict=True)]
    return RunByRun(whole, tuple(parts), tuple(apart))


def _differing(
    one: TrustedQuestion, of_run: Ints, sample: GoldSample, runs: int
) -> list[Drift | None]:
    """How each run differs that has fewer right answers than a draw among all rows would give it;
    None where that is by no more than chance, or it has as many."""
    from scipy.special import bdtr  # a quarter of a second to load

    drawn = np.bincount(of_run[sample.rows[sample.random]], minlength=runs)
    shares = np.bincount(of_run, minlength=runs) / len(of_run)
    few = bdtr(drawn, int(drawn.sum()), shares) < SIGNIFICANT / runs
    decided = decide(
        one.report.calibration or uncalibrated(len(one.known.asked.choices)),
        one.known.log_probabilities,
    )
    known = ~few[of_run]

    def labels(rows: Bools) -> Ints:
        return np.bincount(decided.labels[rows], minlength=len(one.known.asked.choices))

    found: list[Drift | None] = [None] * runs
    for run in np.flatnonzero(few).tolist():
        rows = of_run == run
        sure = decided.confidences
        apart = drift(sure[known], sure[rows], labels(known), labels(rows))
        found[run] = apart if apart.found else None
    return found


def _shows_it(
    judged: CrossFitted,
    sample: GoldSample,
    inside: Bools,
    accepted: Bools,
    outcome: Acceptance,
    promise: Promise,
) -> bool:
    """Whether a run's own right answers show that the promise holds for its accepted rows."""
    own = sample.random & inside[sample.rows] & (judged.confidences >= outcome.threshold)
    wrong = int(np.sum(own & (judged.labels != sample.values)))
    seen, rows = int(own.sum()), int(np.sum(inside & accepted))
    return (
        seen > 0 and upper_bound(wrong, seen, max(seen, rows), promise.confidence) <= promise.error
    )
