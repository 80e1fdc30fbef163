"""A few right answers, and an output whose labels and confidences can be trusted: `rackmill trust`,
and the same by itself at the end of a run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from pipeline.driver.background.heartbeat import Heartbeat
from pipeline.driver.stop.stop import Stop
from pipeline.driver.trust.gather import gather
from pipeline.driver.trust.parts import (
    OutputPart,
    job_of,
    keep_trust,
    kept_of_trust,
    part_of,
    parts_at,
)
from pipeline.driver.trust.question import TrustedQuestion, check, trusted_question, unsuitable
from pipeline.driver.trust.rewrite import rewrite
from pipeline.driver.trust.rewrite_reports import rewrite_reports
from pipeline.driver.trust.settings import (
    TrustOptions,
    named_questions,
    settings_of,
    settled,
    with_settings,
)
from pipeline.driver.trust.unlike_runs import run_by_run
from pipeline.errors import Stopped, UsageError
from pipeline.job.job import Job
from pipeline.output.commit.records import TRUST
from pipeline.output.dataset import Dataset
from pipeline.output.reviews.gold import gold_of
from pipeline.output.runs.job_file import job_content
from pipeline.output.runs.run_log import new_run
from pipeline.output.runs.run_registry import refuse_second
from pipeline.rows.gold_row import GoldRow
from pipeline.storage.base import Storage, open_storage

_log = logging.getLogger(__name__)
Note = Callable[[str], None]
Blocks = Mapping[str, dict[str, Any]]


@dataclass(frozen=True)
class TrustResult:
    """``questions``: what is known of each one's labels; ``files_changed``: of the output."""

    output: str
    questions: Blocks
    files_changed: int

    def as_json(self) -> dict[str, Any]:
        return dict(vars(self))


def trust(
    output: str,
    options: TrustOptions | None = None,
    note: Note = lambda line: None,
    stop: Stop | None = None,
) -> TrustResult:
    """Calibrate the labels of ``output`` by the right answers that are known, write them anew, and
    say how good they are. The same right answers a second time change nothing.

    Raises UsageError for what cannot be done, before anything is written; AlreadyRunning while a
    run works there; Stopped; and as a run does where storage fails.
    """
    options, stop = options or TrustOptions(), stop or Stop()
    parts = parts_at(output)
    for part in parts:
        refuse_second(part.dataset.storage, note)
    asked = {} if options.named else kept_of_trust(parts[-1].dataset, "asked")
    job = settled(with_settings(job_of(parts[-1]), asked), parts[-1], options)
    asked = settings_of(job) if options.named else asked
    problem = unsuitable(job, parts)
    if problem is not None:
        raise UsageError(*problem)
    judged = _judged(parts, job, _reviews(open_storage(output), job))
    named = named_questions(job, options)
    check(judged, output, promised=options.promised, named=named)
    runs = [run_by_run(one, [part.answered for part in parts]) for one in judged]
    addresses = [part.dataset.storage.address() for part in parts]
    told = {run.whole.known.asked.name: run.blocks(addresses) for run in runs}
    changed = 0
    firsts = accumulate((part.answered for part in parts), initial=0)
    try:
        for number, (part, first) in enumerate(zip(parts, firsts, strict=False)):
            storage = part.dataset.storage
            blocks = {name: each[number] for name, (_, each) in told.items()}
            with Heartbeat(storage, None, stop, new_run(), part.rows), stop.being_heeded():
                _keep_settings(part, job)
                of_part = [run.parts[number] for run in runs]
                changed += rewrite(part, first, of_part, lambda: stop.asked)
                keep_trust(part.dataset, blocks, asked)
                rewrite_reports(part.dataset, blocks, job)
    except KeyboardInterrupt:
        raise Stopped(
            "stopped: some files have their new labels, the others the old ones",
            "the same command goes on from there",
        ) from None
    _log.info("trust: %d files changed", changed)
    return TrustResult(output, {name: whole for name, (whole, _) in told.items()}, changed)


def trust_run(dataset: Dataset, job: Job, note: Note = lambda line: None) -> Blocks:
    """The same for a run that has come to its end: where right answers are known. What of them
    cannot be used is said, and fails no run. Raises as a run where storage fails."""
    asked = kept_of_trust(dataset, "asked")
    if any(one.graded.gold is not None for one in job.asked):
        asked = {}
    job = with_settings(job, asked)
    known = any(one.graded.gold is not None for one in job.asked)
    earlier = dataset.storage.read(TRUST) is not None
    reviews = _reviews(dataset.storage, job)
    if not (known or earlier or any(reviews.values())):
        return {}
    part = part_of(dataset)
    if asked:
        _keep_settings(part, job)
    problem = unsuitable(job, [part])
    if problem is not None:
        note(f"no labels are calibrated: {problem[0]}")
        return {}
    try:
        judged = _judged([part], job, reviews)
    except UsageError as e:
        note(f"no labels are calibrated: {e.message}")
        return {}
    rewrite(part, 0, judged)
    blocks = {one.known.asked.name: one.as_json() for one in judged}
    if earlier or any(one.report.gold for one in judged):
        keep_trust(dataset, blocks, asked)
    return blocks


def _judged(
    parts: Sequence[OutputPart], job: Job, reviews: Mapping[str, Sequence[GoldRow]]
) -> list[TrustedQuestion]:
    return [trusted_question(known, job.trust) for known in gather(parts, job, reviews)]


def _reviews(storage: Storage, job: Job) -> dict[str, list[GoldRow]]:
    return {asked.name: gold_of(storage, asked.name) for asked in job.asked}


def _keep_settings(part: OutputPart, job: Job) -> None:
    """What was asked for by name holds from now on, until a run says otherwise."""
    before = part.dataset.job()
    if before is None:
        return
    asked = job_content(job)
    content = {k: v for k, v in before.items() if k != "trust"}
    content |= {key: asked[key] for key in ("label", "questions", "trust") if key in asked}
    if content != before:
        part.dataset.keep_job(content)
