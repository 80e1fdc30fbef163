"""What was promised of one run of a schedule, held for the next: as long as it looks like the same.

A run without enough right answers of its own is calibrated as the last one was that had them. Its
promise holds for the new rows, too, unless confidences or the shares of the labels show that they
come from elsewhere: then it is taken back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from pipeline.driver.trust.gather import KnownAnswers, gather
from pipeline.driver.trust.parts import keep_trust, kept_of_trust, part_of
from pipeline.driver.trust.question import TrustedQuestion, trusted_question, unsuitable
from pipeline.driver.trust.rewrite import rewrite
from pipeline.driver.trust.rewrite_reports import rewrite_reports
from pipeline.driver.trust.unlike_runs import FROM, NOT_ALIKE, in_words
from pipeline.errors import UsageError
from pipeline.job.job import Job
from pipeline.output.dataset import Dataset
from pipeline.trust.acceptance import Acceptance, Promise
from pipeline.trust.calibration import ChoiceCalibration, decide
from pipeline.trust.drift import Drift, drift


def inherit(
    current: Dataset,
    earlier: Sequence[tuple[str, Dataset]],
    job: Job,
    note: Callable[[str], None] = lambda line: None,
) -> bool:
    """Calibrate a run that has come to its end as the last of the ``earlier`` ones (by name, the
    oldest first) was that had right answers, where it has none of its own. Whether it was.

    Raises as a run where storage fails.
    """
    source = next(
        ((name, of, found) for name, of in reversed(earlier) if (found := _calibrated(of))), None
    )
    if source is None or not job.asked:
        return False
    name, of, found = source
    own = kept_of_trust(current, "questions")
    wanted = [q for q in found if not (own.get(q) or {}).get("calibration")]
    if not wanted:
        return False
    try:
        part, before = part_of(current), part_of(of)
        if unsuitable(job, [part, before]) is not None:
            return False
        pairs = zip(gather([part], job, {}), gather([before], job, {}), strict=True)
        judged = [
            _inherited(known, then, found[known.asked.name], job)
            if known.asked.name in wanted
            else (trusted_question(known, job.trust), None)
            for known, then in pairs
        ]
    except UsageError as e:
        note(f"nothing was taken over from the run {name}: {e.message}")
        return False
    blocks = {one.known.asked.name: one.as_json() for one, _ in judged}
    for one, apart in judged:
        if apart is None:
            continue
        block = blocks[one.known.asked.name]
        block |= {FROM: name, "drift": apart.as_json()}
        line = _words(name, apart, promised=bool(found[one.known.asked.name].get("promise")))
        block["notes"] = [*block["notes"], line]
        if apart.found:
            note(line)
    rewrite(part, 0, [one for one, _ in judged])
    keep_trust(current, blocks, {})
    rewrite_reports(current, blocks, job)
    return True


def _calibrated(dataset: Dataset) -> dict[str, dict[str, Any]]:
    """The questions that were calibrated by right answers of this run."""
    blocks = kept_of_trust(dataset, "questions").items()
    return {q: one for q, one in blocks if one.get("calibration") and FROM not in one}


def _inherited(
    known: KnownAnswers, then: KnownAnswers, block: dict[str, Any], job: Job
) -> tuple[TrustedQuestion, Drift | None]:
    """``known`` as the run of ``then`` was calibrated, and how far both lie apart."""
    fit = block["calibration"]
    calibration = ChoiceCalibration(fit["slope"], tuple(fit["intercepts"]))
    plain = job.trust.model_copy(update={"accept": None, "calibrate": "off"})
    base = trusted_question(known, plain)
    if not len(known.log_probabilities) or not len(then.log_probabilities):
        return base, None
    now, before = (decide(calibration, one.log_probabilities) for one in (known, then))
    counts = [np.bincount(d.labels, minlength=len(known.asked.choices)) for d in (before, now)]
    apart = drift(before.confidences, now.confidences, *counts)
    outcome = block.get("acceptance") or {}
    acceptance = None
    if "threshold" in outcome and not apart.found:
        rows = int(np.sum(now.confidences >= outcome["threshold"]))
        known_as = {one.name for one in fields(Acceptance)}
        facts = {key: value for key, value in outcome.items() if key in known_as}
        acceptance = Acceptance(**(facts | {"rows": rows}))
    promise = Promise(**block["promise"]) if block.get("promise") else None
    report = replace(
        base.report,
        calibration=calibration,
        no_calibration=None,
        promise=promise,
        acceptance=acceptance,
        no_promise=NOT_ALIKE if apart.found else None,
    )
    return TrustedQuestion(known, report), apart


def _words(name: str, apart: Drift, *, promised: bool) -> str:
    far = in_words(apart)
    if not apart.found:
        return f"calibrated by the right answers of the run {name}, whose rows look alike ({far})"
    back = "its promise is taken back: no row is accepted" if promised else "it may be off"
    return (
        f"calibrated by the right answers of the run {name}, but the rows of this one differ from "
        f"those ({far}): {back}; label some of this run, then rackmill trust: rackmill review"
    )
