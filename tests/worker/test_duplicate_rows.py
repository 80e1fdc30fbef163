"""Duplicate rows through a whole worker: feeder, engine loop and writer, without Ray."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.dispatch.events import NoLease
from pipeline.driver.plan.plan import check_input, make_plan
from pipeline.engine.load import load_engine
from pipeline.input.units import Unit
from pipeline.output.commit.records import ANSWERS, CommitRecord
from pipeline.output.dataset import Dataset
from pipeline.output.tally import Tally
from pipeline.storage.base import open_storage
from pipeline.worker.answer_cache.lookup import AnswerLookup
from pipeline.worker.answer_cache.store import AnswerStore
from pipeline.worker.coordination.messages import LastWords, Lease, Progress
from pipeline.worker.feeder import Feeder
from pipeline.worker.worker import work
from tests.support.next_door import worker_spec
from tests.support.samples import job, write_model

ROWS = 300
DISTINCT = 40


@dataclass
class Alone:
    """A coordinator of one worker."""

    units: list[Unit]
    records: list[CommitRecord] = field(default_factory=list)

    def acquire(self) -> Lease | NoLease:
        return Lease((self.units.pop(0),)) if self.units else NoLease.DONE

    def committed(self, records: Sequence[CommitRecord]) -> None:
        self.records += records

    def listen(self, source: Feeder) -> None:
        pass

    def heartbeat(self, progress: Progress) -> None:
        pass

    def announce(self) -> None:
        pass

    def engine_failed(self, said: LastWords) -> None:
        pass

    def note(self, line: str) -> None:
        pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("duplicates")
    write_model(folder / "model")
    texts = [f"text {n * n % DISTINCT}" for n in range(ROWS)]
    pq.write_table(pa.table({"id": range(ROWS), "text": texts}), folder / "rows.parquet")
    return folder


@pytest.fixture
def run(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable:
    """Runs a job over the rows; the tally of all, and the output."""
    make = AnswerLookup.__init__

    def looked_up(stage: AnswerLookup, store: AnswerStore) -> None:
        store.refresh()  # the simulated engine loads in no time
        make(stage, store)

    monkeypatch.setattr(AnswerLookup, "__init__", looked_up)

    def run(output: str, *lives: slice, **changes: Any) -> tuple[Tally, list[dict[str, Any]]]:
        made = job(
            model=str(folder / "model"),
            input={"path": str(folder / "rows.parquet")},
            output={"path": str(tmp_path / output)},
            **{"engine": {"kind": "simulated"}} | changes,
        )
        total = Tally()
        for units in lives or (slice(None),):
            plan = make_plan(check_input(made))
            dataset = Dataset(open_storage(made.output.path))
            dataset.take_over(plan.manifest)
            alone = Alone(list(plan.missing)[units])
            work(worker_spec(plan), alone, lambda plan=plan: load_engine(made, {}, plan.model))
            for record in alone.records:
                total.add(record.tally)
        return total, dataset.first_rows(ROWS)

    return run


@pytest.mark.parametrize("label", [None, {"choices": ["a", "b"]}, {"regex": "[a-c]+"}])
def test_rows_are_the_same_whether_answered_once_or_each(
    run: Callable, label: dict[str, Any] | None
) -> None:
    once, rows = run("once", label=label)
    each, all_computed = run("each", label=label, duplicates={"answer_once": False})

    assert rows == all_computed
    assert [row["id"] for row in rows] == list(range(ROWS))
    distinct = len({row["text"] for row in rows})
    assert (once.duplicates, each.duplicates) == (ROWS - distinct, 0)


def test_jobs_that_share_a_store_compute_nothing_twice(run: Callable, tmp_path: Path) -> None:
    shared = {"duplicates": {"store": str(tmp_path / "store")}}
    first, rows = run("first", **shared)
    second, again = run("second", **shared)

    assert first.duplicates < second.duplicates == ROWS
    assert rows == again
    assert not (tmp_path / "first" / ANSWERS).exists()


def test_a_job_that_goes_on_uses_the_answers_it_has(run: Callable) -> None:
    first, _ = run("out", slice(1))
    rest, rows = run("out")

    assert 0 < first.rows < ROWS
    assert first.rows + rest.rows == len(rows) == ROWS
    assert rest.duplicates == rest.rows  # all texts had been there


CHANCE = {"sampling": {"temperature": 1.0, "max_tokens": 32}}
SEEDED = {"sampling": {"temperature": 1.0, "max_tokens": 32, "seed": 7}}
LABEL = {"label": {"choices": ["a", "b"]}}
BACKWARDS = slice(None, None, -1)


@pytest.mark.parametrize("chance", [CHANCE, SEEDED, CHANCE | LABEL, SEEDED | LABEL])
def test_what_depends_on_chance_is_drawn_for_every_row(run: Callable, chance: Any) -> None:
    total, rows = run("out", **chance)

    assert total.duplicates == 0
    answers: dict[str, set[str]] = {}
    for row in rows:
        answers.setdefault(row["text"], set()).add(row["completion"])
    # of two choices, all draws for one text may be the same
    assert sum(len(drawn) > 1 for drawn in answers.values()) > len(answers) // 3


def test_without_a_seed_no_run_draws_what_another_did(run: Callable) -> None:
    _, first = run("first", **CHANCE)
    _, second = run("second", **CHANCE)

    assert sum(a == b for a, b in zip(first, second, strict=True)) < ROWS // 20


@pytest.mark.parametrize("more", [{}, LABEL])
def test_with_a_seed_order_and_restarts_change_no_answer(run: Callable, more: Any) -> None:
    _, straight = run("straight", **SEEDED, **more)
    _, other = run("other", slice(2, 3), slice(0, 1), BACKWARDS, **SEEDED, **more)

    assert straight == other
