"""A worker's metrics, given to Ray.

What becomes of them there (Ray 2.60, seen): each process sends what it counted to its machine's
agent every ``RAY_metrics_report_interval_ms`` (10 s), and once more when it ends in good order. The
agent keeps counters as long as it lives; a gauge that was not set again for two intervals is no
more exported, be it that the process lives or not. Where Ray collects no metrics, all of this does
nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping

from ray.util.metrics import Counter, Gauge

from pipeline.engine.machine.vitals import Vitals
from pipeline.worker.coordination.messages import LeaseRows, Progress
from pipeline.worker.metrics.metrics import (
    ENERGY,
    METRICS,
    Kind,
    Measurement,
    beginning,
    card_gauges,
    gauges,
    increments,
    joules,
    no_card,
)


class Meter:
    """The metrics of one worker, from its beginning to ``close``. Its methods may be called from
    any thread."""

    def __init__(self, labels: Mapping[str, str]) -> None:
        """``labels``: see ``pipeline.worker.metrics.metrics.labels``."""
        self._labels = dict(labels)
        self._metrics = {
            metric: (Counter if metric.kind is Kind.COUNTER else Gauge)(
                metric.name, metric.help, metric.labels
            )
            for metric in METRICS
        }
        self._told = Progress()
        self._told_vitals: Vitals | None = None
        self._closed = False
        self._lock = threading.Lock()
        self._record(beginning())

    def update(self, progress: Progress, lease: LeaseRows, vitals: Vitals) -> None:
        """The worker is so far, and has so many rows, and its cards are so."""
        with self._lock:
            if not self._closed:
                self._count(progress, vitals)
                self._record(gauges(progress, lease))
                self._record(card_gauges(vitals))

    def close(self, progress: Progress, vitals: Vitals) -> None:
        """These are its last totals; from now on it holds nothing."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._count(progress, vitals)
                self._record(gauges(Progress(), LeaseRows()))
                if vitals.cards:
                    self._record(no_card())

    def _count(self, progress: Progress, vitals: Vitals) -> None:
        self._record(increments(self._told, progress))
        self._record([Measurement(ENERGY, joules(self._told_vitals, vitals))])
        self._told, self._told_vitals = progress, vitals

    def _record(self, samples: Iterable[Measurement]) -> None:
        for sample in samples:
            own = {} if sample.metric.label is None else {sample.metric.label: str(sample.value)}
            # not ``inc``, which will not have 0
            self._metrics[sample.metric]._record(float(sample.amount), self._labels | own)
