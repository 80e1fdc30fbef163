"""The metrics of a rack's workers: what they are called, and how they follow from how far a worker
is. Pure: ``worker.metrics.meter`` gives them to Ray, whose agent on each machine exports them.

Ray puts ``ray_`` before a name and leaves the rest as it is: it appends ``_total`` to the name of a
counter only where that is missing, so names here are those of Prometheus but for the prefix.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from pipeline.engine.machine.card_reading import Slowed
from pipeline.errors import RowErrorType

if TYPE_CHECKING:
    from pipeline.engine.machine.vitals import Vitals
    from pipeline.worker.coordination.messages import LeaseRows, Progress

LABELS = ("job", "worker", "card", "host")  # every metric has them
_PREFIX = "ray_"


class Kind(StrEnum):
    """Prometheus' word for it."""

    COUNTER = "counter"
    GAUGE = "gauge"


@dataclass(frozen=True, slots=True)
class Metric:
    """``label``: one that it has beside ``LABELS``, with one of ``values``. A counter starts at 0
    as soon as its worker does, unless its label says what seldom happens (``rare``)."""

    name: str
    help: str
    label: str | None = None
    values: tuple[str, ...] = ()
    rare: bool = False

    @property
    def kind(self) -> Kind:
        """As Prometheus' names say it: those of counters end in ``_total``."""
        return Kind.COUNTER if self.name.endswith("_total") else Kind.GAUGE

    @property
    def exported(self) -> str:
        """Its name in Prometheus."""
        return _PREFIX + self.name

    @property
    def labels(self) -> tuple[str, ...]:
        return LABELS if self.label is None else (*LABELS, self.label)


@dataclass(frozen=True, slots=True)
class Measurement:
    """By how much a counter grew, or what a gauge is. ``value`` of the metric's own label: None
    where it has none."""

    metric: Metric
    amount: float
    value: str | None = None


ROWS = Metric(
    "rackmill_rows_total",
    "Rows that got their result: an answer, or an error row.",
    "outcome",
    ("ok", "failed"),
)
ROW_ERRORS = Metric(
    "rackmill_row_errors_total",
    "Error rows by the type in their error column.",
    "type",
    tuple(kind.value for kind in RowErrorType),
    rare=True,
)
PROMPT_TOKENS = Metric(
    "rackmill_prompt_tokens_total", "Prompt tokens of rows that have their result."
)
COMPLETION_TOKENS = Metric(
    "rackmill_completion_tokens_total", "Generated tokens of rows that have their result."
)
PREEMPTIONS = Metric(
    "rackmill_preemptions_total",
    "Requests that the engine put back into its queue for lack of KV blocks.",
)
RECOMPUTED_TOKENS = Metric(
    "rackmill_recomputed_tokens_total", "Tokens that were computed again because of preemptions."
)
KV_BLOCKS = Metric("rackmill_kv_blocks", "KV-cache blocks of the engine in all.")
KV_HELD = Metric("rackmill_kv_blocks_held", "KV-cache blocks that running requests hold.")
KV_RESERVED = Metric(
    "rackmill_kv_blocks_reserved",
    "KV-cache blocks that admission keeps free for what admitted requests will yet hold.",
)
BATCH_SIZE = Metric("rackmill_batch_size", "Requests that the engine runs at once.")
ROWS_WAITING = Metric(
    "rackmill_rows_waiting",
    "Requests of rows that were taken up and wait for their admission to the engine.",
)
LEASE_ROWS = Metric(
    "rackmill_lease_rows",
    "Rows that are leased to the worker and not committed.",
    "state",
    ("queued", "running", "finished"),
)
CARD_WATTS = Metric("rackmill_card_watts", "Power that the worker's cards draw, in watts.")
CARD_LIMIT = Metric(
    "rackmill_card_limit_watts",
    "Power that the worker's cards may draw as they are set now, in watts.",
)
CARD_CELSIUS = Metric("rackmill_card_celsius", "Temperature of the worker's hottest card.")
CARD_SLOWED = Metric(
    "rackmill_card_slowed",
    "Of the worker's cards, how many run below their full clock for that reason.",
    "reason",
    tuple(reason.value.replace(" ", "_") for reason in Slowed),
)
ENERGY = Metric(
    "rackmill_energy_joules_total",
    "Energy that the worker's cards used, whoever else uses them too.",
)
METRICS = (
    ROWS,
    ROW_ERRORS,
    PROMPT_TOKENS,
    COMPLETION_TOKENS,
    PREEMPTIONS,
    RECOMPUTED_TOKENS,
    KV_BLOCKS,
    KV_HELD,
    KV_RESERVED,
    BATCH_SIZE,
    ROWS_WAITING,
    LEASE_ROWS,
    CARD_WATTS,
    CARD_LIMIT,
    CARD_CELSIUS,
    CARD_SLOWED,
    ENERGY,
)


def labels(job: str, worker: str, card: str, host: str) -> dict[str, str]:
    """The values of ``LABELS``. ``card``: its kind; on a host ``worker`` tells cards apart."""
    return dict(zip(LABELS, (job, worker, card, host), strict=True))


def beginning() -> Iterator[Measurement]:
    """Counters of a worker that has done nothing: where a series begins with 0, Prometheus sees
    its first growth, too."""
    for metric in METRICS:
        if metric.kind is Kind.COUNTER and not metric.rare:
            for value in metric.values or (None,):
                yield Measurement(metric, 0, value)


def increments(before: Progress, now: Progress) -> Iterator[Measurement]:
    """What the counters grew by from one of a worker's totals to the next; those that did not grow
    are left out."""
    known = {(metric, value): amount for metric, value, amount in _totals(before)}
    for metric, value, amount in _totals(now):
        grown = amount - known.get((metric, value), 0)
        if grown > 0:
            yield Measurement(metric, grown, value)


def gauges(now: Progress, lease: LeaseRows) -> Iterator[Measurement]:
    """What a worker is at. ``lease``: of the rows that it has leased."""
    yield Measurement(KV_BLOCKS, now.kv_blocks)
    yield Measurement(KV_HELD, now.kv_held)
    yield Measurement(KV_RESERVED, now.kv_reserved)
    yield Measurement(BATCH_SIZE, now.running)
    yield Measurement(ROWS_WAITING, now.waiting)
    running = min(now.in_engine, lease.unfinished)
    yield Measurement(LEASE_ROWS, lease.unfinished - running, "queued")
    yield Measurement(LEASE_ROWS, running, "running")
    yield Measurement(LEASE_ROWS, lease.finished, "finished")


def card_gauges(vitals: Vitals) -> Iterator[Measurement]:
    """How a worker's cards are; what they do not tell is left out."""
    cards = vitals.cards
    watts = [card.watts for card in cards if card.watts is not None]
    limits = [card.limit_watts for card in cards if card.limit_watts is not None]
    celsius = [card.celsius for card in cards if card.celsius is not None]
    for metric, values in ((CARD_WATTS, watts), (CARD_LIMIT, limits)):
        if values:
            yield Measurement(metric, sum(values))
    if celsius:
        yield Measurement(CARD_CELSIUS, max(celsius))
    if cards:
        for reason, value in zip(Slowed, CARD_SLOWED.values, strict=True):
            yield Measurement(CARD_SLOWED, sum(reason in card.slowed for card in cards), value)


def no_card() -> Iterator[Measurement]:
    """The same of a worker that has none any more."""
    for metric in (CARD_WATTS, CARD_LIMIT, CARD_CELSIUS, CARD_SLOWED):
        for value in metric.values or (None,):
            yield Measurement(metric, 0, value)


def joules(before: Vitals | None, now: Vitals) -> float:
    """By how much the energy of a worker's cards grew."""
    return max(0.0, _joules(now) - (0.0 if before is None else _joules(before)))


def _joules(vitals: Vitals) -> float:
    return sum(span.joules for span in vitals.energy)


def _totals(progress: Progress) -> Iterable[tuple[Metric, str | None, int]]:
    errors: Mapping[str, int] = progress.errors
    yield ROWS, "ok", progress.rows - progress.failed
    yield ROWS, "failed", progress.error_rows
    for kind, number in errors.items():
        yield ROW_ERRORS, kind, number
    yield PROMPT_TOKENS, None, progress.prompt_tokens
    yield COMPLETION_TOKENS, None, progress.completion_tokens
    yield PREEMPTIONS, None, progress.preemptions
    yield RECOMPUTED_TOKENS, None, progress.recomputed_tokens
