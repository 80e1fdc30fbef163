"""What right answers say of an output's labels, question by question."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.driver.trust.gather import KnownAnswers
from pipeline.driver.trust.parts import OutputPart
from pipeline.errors import UsageError
from pipeline.humanize import count, percent, plural
from pipeline.job.job import Job
from pipeline.job.trust import Trust
from pipeline.output.columns.probabilities import WRITTEN
from pipeline.output.reviews.sample import RANDOM_OF_FIVE
from pipeline.trust.acceptance import Acceptance, NoAcceptance, Promise
from pipeline.trust.calibration import LEAST_GOLD
from pipeline.trust.report import TrustReport, assess


@dataclass(frozen=True)
class TrustedQuestion:
    """One question's answers, and what right ones say of them."""

    known: KnownAnswers
    report: TrustReport

    def as_json(self) -> dict[str, Any]:
        """The report, and what it stands on. ``gold_from``: the column, the file, reviews."""
        known = self.known
        sources = [known.asked.graded.gold_name] if known.told else []
        sources += ["reviews"] if known.reviewed else []
        notes = list(known.notes)
        if known.examples:
            notes.append(
                f"{plural(known.examples, 'right answer')} left out: the prompt's examples have it"
            )
        if known.strange:
            notes.append(f"nothing was calibrated: the right answers have {known.strange[0]}")
        told = self.report.as_json() | (self._of_labels_alone() if known.written else {})
        return {**told, "gold_from": sources, "notes": notes}

    def _of_labels_alone(self) -> dict[str, Any]:
        """What of the report is another where the model wrote its labels: how right they are is
        known, and nothing that stands on probabilities."""
        before = self.report.before
        right = self.report.weighted_accuracy or (before and before.accuracy)
        return {
            "no_calibration": f"{WRITTEN}; nothing is calibrated, nor accepted by confidence",
            "weighted_accuracy": right and asdict(right),
            "before": None,
            "curve": [],
        }


def unsuitable(job: Job, parts: Sequence[OutputPart]) -> tuple[str, str] | None:
    """Why nothing can be said of an output's labels, and the fix; None where it can."""
    where = parts[-1].dataset.storage.address()
    if not job.asked:
        return (
            f"{where} holds no answers that are one of a few choices: nothing can be calibrated",
            "give the job a list of them: label: {choices: […]}",
        )
    name = job.asked[0].columns.probabilities
    for part in parts:
        if name not in part.manifest.results:
            return (
                f"{part.dataset.storage.address()} holds no probabilities of its choices: an "
                "earlier version of rackmill began it",
                "do it again: rackmill run JOB.yaml --fresh",
            )
    if job.sampling.temperature > 0 or (job.label is not None and job.label.votes is not None):
        return (
            f"the labels of {where} were drawn by chance (sampling.temperature "
            f"{job.sampling.temperature:g}): how probable they are says little of how right they "
            "are",
            "leave sampling.temperature away: then each row gets its most probable label",
        )
    return None


def trusted_question(known: KnownAnswers, settings: Trust) -> TrustedQuestion:
    """Without a fit where right answers are none of the choices: see ``KnownAnswers.strange``."""
    accept = settings.accept
    promise = None if accept is None else Promise(accept.error, accept.confidence)
    good = not (known.strange or known.written)
    report = assess(
        known.log_probabilities,
        known.sample,
        known.asked.choices,
        promise if good else None,
        calibrate=good and settings.calibrate == "auto",
        miss=None if known.written else settings.label_sets,
        at_random=RANDOM_OF_FIVE / 5,
    )
    return TrustedQuestion(known, report)


def check(
    judged: Sequence[TrustedQuestion],
    output: str,
    *,
    promised: bool,
    named: Collection[str] = (),
) -> None:
    """Raise UsageError for what somebody who asks has to know before anything is written.
    ``promised``: the promise was asked for by name; ``named``: the questions whose right answers
    were."""
    several = len(judged) > 1

    def label_some(one: TrustedQuestion) -> str:
        which = f" --question {one.known.asked.name}" if several else ""
        return f"label some: rackmill review {output}{which}"

    if not any(one.report.gold for one in judged) and not any(one.known.told for one in judged):
        raise UsageError(
            f"no right answers are known of {output}",
            label_some(judged[0]),
            "or say where they are: --gold COLUMN, or --gold FILE --key COLUMN --value COLUMN",
        )
    for one in judged:
        asked, report, review = one.known.asked, one.report, label_some(one)
        if asked.name in named and not one.known.told:
            raise UsageError(
                f"{asked.gold_key}: {asked.graded.gold_name} holds no right answer: all of them "
                "are empty",
                "name another column or file; or " + review,
            )
        if one.known.strange:
            name = asked.graded.gold_name
            raise UsageError(
                f"{asked.gold_key} ({name}) has {one.known.strange[0]}", *one.known.strange[1:]
            )
        if one.known.written:
            if promised:
                raise UsageError(
                    f"no row of {output} can be accepted by its confidence: {WRITTEN}",
                    f"how right its labels are, it says without a promise: rackmill trust {output}",
                )
            continue
        values = one.known.sample.values
        if len(values) >= LEAST_GOLD and len(set(values.tolist())) == 1:
            raise UsageError(
                f"all {count(len(values))} right answers of {output} are "
                f"{asked.choices[int(values[0])]!r}: nothing can be learned from one label alone",
                f"add rows of another one; to {review}",
            )
        if promised and report.promise is not None:
            _check_promise(report, report.promise, review)


def _check_promise(report: TrustReport, promise: Promise, review: str) -> None:
    outcome = report.acceptance
    if isinstance(outcome, Acceptance):
        return
    asked = (
        f"that at most {percent(promise.error)} are wrong, with {percent(promise.confidence)} "
        "confidence, can be promised of no rows"
    )
    if not isinstance(outcome, NoAcceptance):
        raise UsageError(f"{asked}: {report.no_promise}", review)
    raise UsageError(f"{asked} yet", *best_instead(outcome), review)


def best_instead(outcome: NoAcceptance) -> list[str]:
    """What could be promised, and what a promise needs."""
    lines = []
    if outcome.best_error is not None:
        lines.append(
            f"the best that these right answers allow: --error {outcome.best_error:g}, for "
            f"{plural(outcome.best_rows, 'row')}"
        )
    if outcome.more:
        lines.append(f"it needs {count(outcome.more)} more right answers, at least")
    return lines
