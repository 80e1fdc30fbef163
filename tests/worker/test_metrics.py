"""What a worker's totals and leases are in terms of metrics."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.driver.coordinator.coordinator import Coordinator
from pipeline.driver.plan.plan import check_input, make_plan
from pipeline.engine.load import load_engine
from pipeline.engine.machine.card_reading import CardReading, Slowed
from pipeline.engine.machine.vitals import EnergySpan, Vitals
from pipeline.output.dataset import Dataset
from pipeline.storage.base import open_storage
from pipeline.worker.coordination.messages import LeaseRows, Progress
from pipeline.worker.metrics.metrics import (
    METRICS,
    Kind,
    Measurement,
    Metric,
    beginning,
    card_gauges,
    gauges,
    increments,
    joules,
    labels,
)
from pipeline.worker.worker import work
from tests.support.next_door import NextDoor, worker_spec
from tests.support.samples import job, write_model

ROWS, BROKEN, LONG = 300, 7, 133
BEFORE = Progress(rows=10, failed=2, prompt_tokens=500, errors={"Timeout": 2})
AFTER = Progress(
    rows=25,
    failed=3,
    prompt_tokens=900,
    completion_tokens=80,
    preemptions=4,
    recomputed_tokens=60,
    errors={"Timeout": 3, "InvalidRow": 2},
)


def told(samples: Iterable[Measurement]) -> dict[tuple[str, str | None], float]:
    return {(sample.metric.name, sample.value): sample.amount for sample in samples}


def test_counters_grow_by_what_was_done_since() -> None:
    assert told(increments(BEFORE, AFTER)) == {
        ("rackmill_rows_total", "ok"): 14,
        ("rackmill_rows_total", "failed"): 3,
        ("rackmill_row_errors_total", "Timeout"): 1,
        ("rackmill_row_errors_total", "InvalidRow"): 2,
        ("rackmill_prompt_tokens_total", None): 400,
        ("rackmill_completion_tokens_total", None): 80,
        ("rackmill_preemptions_total", None): 4,
        ("rackmill_recomputed_tokens_total", None): 60,
    }


@pytest.mark.parametrize("now", [AFTER, replace(AFTER, preemptions=0, rows=24)])
def test_what_did_not_grow_is_not_counted(now: Progress) -> None:
    assert list(increments(AFTER, now)) == []


def test_gauges_are_what_the_worker_is_at() -> None:
    now = Progress(
        running=16, waiting=40, in_engine=12, kv_blocks=2000, kv_held=700, kv_reserved=150
    )

    assert told(gauges(now, LeaseRows(unfinished=128, finished=30))) == {
        ("rackmill_kv_blocks", None): 2000,
        ("rackmill_kv_blocks_held", None): 700,
        ("rackmill_kv_blocks_reserved", None): 150,
        ("rackmill_batch_size", None): 16,
        ("rackmill_rows_waiting", None): 40,
        ("rackmill_lease_rows", "queued"): 116,
        ("rackmill_lease_rows", "running"): 12,
        ("rackmill_lease_rows", "finished"): 30,
    }


def test_a_workers_cards_are_told_of_together() -> None:
    cards = (
        CardReading(0, watts=300.0, limit_watts=350.0, celsius=70, slowed=(Slowed.POWER,)),
        CardReading(1, watts=200.0, limit_watts=350.0, celsius=91, slowed=tuple(Slowed)),
    )

    assert told(card_gauges(Vitals(0, 1, cards))) == {
        ("rackmill_card_watts", None): 500,
        ("rackmill_card_limit_watts", None): 700,
        ("rackmill_card_celsius", None): 91,
        ("rackmill_card_slowed", "heat"): 1,
        ("rackmill_card_slowed", "power_cap"): 2,
        ("rackmill_card_slowed", "hardware"): 1,
    }


def test_what_cards_do_not_tell_is_left_out() -> None:
    assert list(card_gauges(Vitals(0, 1))) == []
    assert {name for name, _ in told(card_gauges(Vitals(0, 1, (CardReading(0),))))} == {
        "rackmill_card_slowed"
    }


def test_energy_grows_by_what_was_used_since() -> None:
    before = Vitals(0, 1, energy=(EnergySpan("a", 0, 1, 100.0), EnergySpan("b", 0, 1, 10.0)))
    now = Vitals(0, 2, energy=(EnergySpan("a", 0, 2, 300.0), EnergySpan("b", 0, 2, 15.0)))

    assert joules(None, before) == 110
    assert joules(before, now) == 205


def test_rows_that_were_finished_since_the_last_totals_are_not_below_none() -> None:
    """Totals are up to a second older than what is known of leases."""
    now = told(gauges(Progress(in_engine=12), LeaseRows(unfinished=4, finished=8)))

    assert now["rackmill_lease_rows", "queued"] == 0
    assert now["rackmill_lease_rows", "running"] == 4


def test_counters_begin_with_0_but_for_errors_that_seldom_happen() -> None:
    begun = told(beginning())

    assert set(begun.values()) == {0}
    assert ("rackmill_rows_total", "failed") in begun
    assert {name for name, _ in begun} == {
        metric.name
        for metric in METRICS
        if metric.kind is Kind.COUNTER and metric.name != "rackmill_row_errors_total"
    }


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_names_are_as_prometheus_wants_them(metric: Metric) -> None:
    """So that Ray has nothing to add to them but its prefix."""
    assert re.fullmatch(r"ray_rackmill_[a-z_]+", metric.exported)
    assert metric.name.endswith("_total") == (metric.kind is Kind.COUNTER)


def test_every_metric_tells_job_worker_card_and_host() -> None:
    told = labels("nightly", "worker-0", "rtx4090", "left")

    assert told == {"job": "nightly", "worker": "worker-0", "card": "rtx4090", "host": "left"}
    assert all(set(told) <= set(metric.labels) for metric in METRICS)


class Watching(NextDoor):
    """A coordinator that notes, at each heartbeat, what a worker is at."""

    def __init__(self, coordinator: Coordinator) -> None:
        super().__init__(coordinator)
        self.seen: list[tuple[Progress, LeaseRows]] = []

    def heartbeat(self, progress: Progress) -> None:
        assert self.source is not None
        self.seen.append((progress, self.source.lease_rows))
        super().heartbeat(progress)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Watching:
    """A worker's whole life: one row is null, one too long, the engine takes 20 at once."""
    folder = tmp_path_factory.mktemp("watched")
    texts: list[str | None] = [f"text {n}" for n in range(ROWS)]
    texts[BROKEN], texts[LONG] = None, "long " * 400
    pq.write_table(pa.table({"id": range(ROWS), "text": texts}), folder / "rows.parquet")
    made = job(
        model=str(write_model(folder / "model")),
        input={"path": str(folder / "rows.parquet")},
        output={"path": str(folder / "out")},
        sampling={"max_tokens": 60},
        engine={
            "kind": "simulated",
            "max_num_seqs": 20,
            "max_model_len": 128,
            "simulated": {"output_tokens": 20, "step_seconds": 0.005, "num_blocks": 1000},
        },
    )
    plan = make_plan(check_input(made))
    Dataset(open_storage(made.output.path)).take_over(plan.manifest)
    here = Watching(Coordinator(plan.units, [], {"card": 100.0}))
    work(worker_spec(plan), here, lambda: load_engine(made, {}, plan.model))
    return here


def test_every_row_is_counted_once_whoever_found_it_wrong(watched: Watching) -> None:
    counted = told(increments(Progress(), watched.progress))

    assert counted["rackmill_rows_total", "ok"] == ROWS - 2
    assert counted["rackmill_rows_total", "failed"] == 2
    assert counted["rackmill_row_errors_total", "InvalidRow"] == 1
    assert counted["rackmill_row_errors_total", "PromptTooLong"] == 1


def test_blocks_are_reserved_for_what_running_requests_will_hold(watched: Watching) -> None:
    busy = [progress for progress, _ in watched.seen if progress.running]

    assert busy
    for progress in busy:
        assert progress.kv_blocks == 1000
        assert progress.kv_held > 0
        assert progress.kv_held + progress.kv_reserved <= 1000
    assert any(progress.kv_reserved > 0 for progress in busy)


def test_leased_rows_are_those_that_are_not_committed(watched: Watching) -> None:
    for progress, lease in watched.seen:
        assert lease.unfinished + lease.finished <= ROWS
        assert progress.in_engine <= lease.unfinished
    assert any(lease.unfinished and lease.finished for _, lease in watched.seen)
    assert watched.seen[-1][1] == LeaseRows()
