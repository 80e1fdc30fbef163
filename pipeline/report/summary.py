"""A finished run as one object: `--json` prints it, and the report is made from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from pipeline.budget.predict import Prediction
from pipeline.engine.protocol import EngineFacts
from pipeline.job.resources import ApiPrice
from pipeline.output.shared_answers import EngineAgreement
from pipeline.output.tally import Tally
from pipeline.output.totals import rounded, totals
from pipeline.report.comparison.intervals import Share
from pipeline.report.energy import Energy
from pipeline.worker.metrics.timeline import TimelineInterval, merged, resampled

REPORTED_INTERVALS = 10


@dataclass(frozen=True)
class Work:
    """What the engines did in this run, without what was there already.

    ``seconds``: from the first engine's first step to the last completion of all engines.
    ``kv_count_error``: the largest difference between our count of an engine's blocks and its own,
    0..1 of all blocks; None if we kept no count. ``timelines``: one for each worker.
    """

    rows: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    preemptions: int = 0
    recomputed_tokens: int = 0
    lost_rows: int = 0  # finished by workers that were lost before they committed them
    kv_count_error: float | None = None
    timelines: Sequence[Sequence[TimelineInterval]] = ()
    seconds: float = 0.0
    ready_seconds: float = 0.0  # from the start of the run to the first engine's first step
    engines: Sequence[EngineFacts] = ()
    waited_seconds: float = 0.0  # for cards that the run did not have; in neither of the others


@dataclass(frozen=True)
class Summary:
    """A finished run. Counts are over the whole dataset, rates over this run's work.

    ``seconds``: wall time of the whole run, loading included; ``work_seconds``: of generating.
    ``waited_seconds``: the part of ``seconds`` in which the run had no cards. ``energy_kwh``:
    measured, of whole cards while engines had them; None unless all of it was metered.
    ``energy_covered``: the share of the engines' time that was metered, 0..1. ``energy_cost``: at
    ``resources.price_kwh``.
    """

    name: str
    rows: int
    succeeded: int
    failed: int
    reused: int
    duplicates: int  # rows answered by the answer to an equal one
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    ready_seconds: float
    work_seconds: float
    rows_per_second: float
    completion_tokens_per_second: float
    prompt_tokens_per_second: float
    preemptions: int
    recomputed_tokens: int
    recomputed_share: float  # of the tokens that the engines computed, 0..1
    mean_kv_use: float  # share of the blocks held by running requests, mean over time, 0..1
    mean_batch: float  # requests that got a token, mean over time
    output: str
    report: str
    model: str
    quantization: str
    fingerprint: str
    engines: tuple[dict[str, Any], ...]
    reused_failed: int = 0  # of the reused rows, those with an error
    errors: dict[str, int] = field(default_factory=dict)
    error_examples: dict[str, str] = field(default_factory=dict)
    error_reasons: dict[str, dict[str, int]] = field(default_factory=dict)  # type -> reason -> rows
    labels: dict[str, int] = field(default_factory=dict)
    no_confidence: str | None = None  # why labels have no confidence; None if they have one
    gold: str | None = None
    accuracy: float | None = None
    graded: int = 0  # answers whose right answer is known
    graded_right: int = 0
    confusion: dict[str, dict[str, int]] = field(default_factory=dict)  # gold -> label -> answers
    # question -> the four fields above and ``labels``, if a row has several questions
    questions: dict[str, dict[str, Any]] = field(default_factory=dict)
    scored_tokens: int = 0
    logprob: float | None = None  # of all scored tokens together, natural logarithm
    perplexity: float | None = None  # exp(-logprob / scored_tokens)
    versions: dict[str, str] = field(default_factory=dict)
    kv_count_error: float | None = None
    timeline: tuple[dict[str, float], ...] = ()
    model_seconds: float = 0.0  # part of `seconds`: fetching and converting the model, once
    predicted_seconds: float | None = None  # in total, without `model_seconds`
    predicted_ready_seconds: float | None = None
    predicted_work_seconds: float | None = None
    prediction_basis: str | None = None
    lost_rows: int = 0  # finished by workers that were lost before they committed them: done again
    lost_share: float = 0.0  # of the rows that the engines finished, 0..1
    generation: int = 0  # changes whenever error rows are done again
    waited_seconds: float = 0.0
    energy_kwh: float | None = None
    energy_wh_per_1000_rows: float | None = None
    energy_covered: float = 0.0
    energy_seconds: float = 0.0  # metered time, summed over engines
    energy_by: str | None = None  # "counters" of the cards, or "samples" of their power
    energy_cost: float | None = None
    api_cost: float | None = None  # for the same tokens, at ``resources.api_price``
    predicted_kwh: float | None = None
    requests: int = 0  # sent to the engines for the rows that succeeded
    completion_lengths: dict[int, int] = field(default_factory=dict)  # upper end -> answers
    longest_completion: int = 0  # tokens
    answers: int = 1  # of each row
    drawn: int = 1  # answers that an engine wrote for each row: the same, or all that voted for one
    left: tuple[str, ...] = ()  # input files that were incomplete: left for the next run
    model_context: int = 0  # the most tokens that the model takes; 0: not known
    licence: str = ""  # of the model; its terms apply to what the model wrote
    # question -> what right answers say about its labels (``trust.report.TrustReport``), and
    # where they come from; in a job with choices the question is ``label``
    trust: dict[str, dict[str, Any]] = field(default_factory=dict)
    answered_by: dict[str, int] = field(default_factory=dict)  # engine -> rows, if engines differ
    # for each two of them (``output.shared_answers.EngineAgreement``), with a 95 % interval
    agreement: tuple[dict[str, Any], ...] = ()

    @property
    def answered(self) -> int:
        """Rows that succeeded in this run."""
        return self.rows - self.reused - (self.failed - self.reused_failed)

    @property
    def exit_code(self) -> int:
        """0: every row succeeded; 3: finished, some rows are error rows."""
        return 3 if self.failed else 0

    def as_json(self) -> dict[str, Any]:
        """Plain data, rounded to what is meaningful."""
        return rounded(asdict(self))

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Summary:
        """From what ``as_json`` of this or an earlier version made. Raises TypeError or ValueError
        if it is no summary."""
        known = {one.name for one in fields(cls)}
        made = {name: value for name, value in content.items() if name in known}
        for name in ("engines", "timeline", "left", "agreement"):
            made[name] = tuple(made.get(name, ()))
        lengths = dict(made.get("completion_lengths", {}))
        made["completion_lengths"] = {int(upper): n for upper, n in lengths.items()}
        return cls(**made)


def measured(
    total: Tally,
    work: Work,
    provenance: Mapping[str, str],
    *,
    gold: str | None = None,
    foretold: Prediction | None = None,
    predicted_kwh: float | None = None,
    energy: Energy | None = None,
    price_kwh: float | None = None,
    api_price: ApiPrice | None = None,
    agreement: Sequence[EngineAgreement] = (),
) -> dict[str, Any]:
    """The fields of a summary that follow from what was counted and measured. ``total``: the tally
    of the whole dataset."""
    span = work.seconds
    kwh = energy.kwh if energy is not None and energy.complete else None
    by = None if energy is None else "counters" if energy.counted else "samples"
    computed = work.prompt_tokens + work.completion_tokens + work.recomputed_tokens
    intervals = resampled(work.timelines, REPORTED_INTERVALS)
    over = merged(intervals) if intervals else TimelineInterval(0.0, 0.0)
    return {
        **totals(total, graded=gold is not None),
        "gold": gold,
        "ready_seconds": work.ready_seconds,
        "work_seconds": span,
        "rows_per_second": work.rows / span if span else 0.0,
        "completion_tokens_per_second": work.completion_tokens / span if span else 0.0,
        "prompt_tokens_per_second": work.prompt_tokens / span if span else 0.0,
        "preemptions": work.preemptions,
        "recomputed_tokens": work.recomputed_tokens,
        "recomputed_share": work.recomputed_tokens / computed if computed else 0.0,
        "lost_rows": work.lost_rows,
        "lost_share": min(1.0, work.lost_rows / work.rows) if work.rows else 0.0,
        "mean_kv_use": over.kv_use,
        "mean_batch": over.batch,
        "kv_count_error": work.kv_count_error,
        "timeline": tuple(asdict(i) for i in intervals),
        "model": provenance["model"],
        "quantization": provenance["quantization"],
        "fingerprint": provenance["fingerprint"],
        "engines": tuple(asdict(facts) | {"held": sorted(facts.held)} for facts in work.engines),
        "versions": {k: v for k, v in provenance.items() if k.endswith("_version")},
        "predicted_seconds": foretold and foretold.seconds,
        "predicted_ready_seconds": foretold and foretold.ready_seconds,
        "predicted_work_seconds": foretold and foretold.work_seconds,
        "prediction_basis": foretold and foretold.basis,
        "predicted_kwh": predicted_kwh or None,
        "waited_seconds": work.waited_seconds,
        "energy_kwh": kwh,
        "energy_wh_per_1000_rows": 1e6 * kwh / work.rows if kwh and work.rows else None,
        "energy_covered": energy.covered if energy else 0.0,
        "energy_seconds": energy.seconds if energy else 0.0,
        "energy_by": by,
        "energy_cost": kwh * price_kwh if kwh is not None and price_kwh is not None else None,
        "api_cost": api_price and api_price.cost(total.prompt_tokens, total.completion_tokens),
        "agreement": tuple(_with_interval(one) for one in agreement),
    }


def _with_interval(one: EngineAgreement) -> dict[str, Any]:
    low, high = Share(one.equal, one.rows).bounds
    return asdict(one) | {"low": low, "high": high}
