"""Rows that go wrong, through a whole worker and the coordinator, without Ray: what is left is one
error row for each of them, and a result for all others."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.driver.coordinator.coordinator import Coordinator
from pipeline.driver.plan.plan import check_input, make_plan
from pipeline.driver.workers.death import DeathOutcome, sighting
from pipeline.engine.load import load_engine
from pipeline.engine.protocol import Engine
from pipeline.errors import EngineFailed
from pipeline.output.dataset import Dataset
from pipeline.rows.request import Completion
from pipeline.storage.base import open_storage
from pipeline.worker.coordination.messages import LastWords
from pipeline.worker.engine_loop import engine_loop
from pipeline.worker.engine_loop.in_hand import K, Timeouts
from pipeline.worker.worker import work
from tests.support.next_door import NextDoor, worker_spec
from tests.support.samples import job, write_model

pytestmark = pytest.mark.early

ROWS = 300
POISON = {123, 250}


@dataclass
class Story:
    rows: list[dict[str, Any]]
    losses: list[DeathOutcome] = field(default_factory=list)

    @property
    def errors(self) -> dict[int, dict[str, Any]]:
        return {row["id"]: row["error"] for row in self.rows if row["error"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faults")
    write_model(folder / "model")
    texts = [f"text {n}" + (" poison" if n in POISON else "") for n in range(ROWS)]
    pq.write_table(pa.table({"id": range(ROWS), "text": texts}), folder / "rows.parquet")
    return folder


@pytest.fixture(scope="module")
def run(folder: Path) -> Callable[..., Story]:
    """Runs a job with engines that fail as ``simulated`` says, one after the other."""
    outputs = itertools.count()

    def run(
        simulated: dict[str, Any],
        *,
        change: Callable[[Engine], Engine] = lambda engine: engine,
        on_hang: Callable[[LastWords], None] | None = None,
        **changes: Any,
    ) -> Story:
        made = job(
            model=str(folder / "model"),
            input={"path": str(folder / "rows.parquet")},
            output={"path": str(folder / f"out-{next(outputs)}")},
            **{
                "engine": {
                    "kind": "simulated",
                    "max_num_seqs": 64,
                    "simulated": {"faults": simulated},
                }
            }
            | changes,
        )
        plan = make_plan(check_input(made))
        dataset = Dataset(open_storage(made.output.path))
        dataset.take_over(plan.manifest)
        coordinator = Coordinator(plan.units, [], {"card": 100.0})
        story = Story([])
        for life in range(30):
            spec = worker_spec(plan, prove_engine=life > 0)
            here = NextDoor(coordinator, f"worker-0.{life}")
            try:
                work(spec, here, lambda: change(load_engine(made, {}, plan.model)), on_hang=on_hang)
            except EngineFailed as e:
                seen = sighting(e, away=False, lighter=None)
                story.losses.append(coordinator.worker_lost(here.name, seen))
                continue
            break
        assert coordinator.snapshot().done
        story.rows = dataset.first_rows(ROWS)
        assert [row["id"] for row in story.rows] == list(range(ROWS))
        return story

    return run


@pytest.fixture(scope="module")
def killed(run: Callable[..., Story]) -> Story:
    return run({"fail_on": "poison"})


def test_rows_that_kill_their_engine_become_error_rows_and_no_others(killed: Story) -> None:
    assert set(killed.errors) == POISON
    for error in killed.errors.values():
        assert error["type"] == "EngineFailure"
        deaths = error["attempts"]
        assert deaths >= 3
        assert f"its engine died {deaths} times with this row: " in error["message"]
        assert "the simulated engine fails, as it was asked to" in error["message"]


def test_the_search_for_them_takes_few_engines(killed: Story) -> None:
    assert len(killed.losses) <= 12
    # a card that did nothing wrong is not counted out
    in_vain = [not loss.progress for loss in killed.losses]
    assert (True, True) not in pairwise(in_vain)


def test_a_request_that_fails_alone_costs_its_row_only(run: Callable[..., Story]) -> None:
    story = run({"refuse_on": "poison"})

    assert story.losses == []
    assert set(story.errors) == POISON
    assert {e["type"] for e in story.errors.values()} == {"EngineFailure"}
    assert {e["attempts"] for e in story.errors.values()} == {1}


@pytest.fixture
def steps_for_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows have so many of their engine's steps as they would have hundredths of a second: however
    slow the machine, those that end are in time."""

    class InSteps(Timeouts[K]):
        steps = 0

        def begin(self, key: K, now: float) -> None:
            super().begin(key, self.steps / 100)

        def over(self, now: float) -> list[K]:
            self.steps += 1
            return super().over(self.steps / 100)

    monkeypatch.setattr(engine_loop, "Timeouts", InSteps)


@pytest.mark.usefixtures("steps_for_seconds")
def test_a_row_that_takes_too_long_makes_room(run: Callable[..., Story]) -> None:
    engine = {
        "kind": "simulated",
        "max_num_seqs": 2,
        "simulated": {"faults": {"endless_on": "poison"}},
    }
    story = run({}, engine=engine, faults={"row_timeout_seconds": 2.0})

    assert story.losses == []
    assert set(story.errors) == POISON
    for error in story.errors.values():
        assert (error["type"], error["attempts"]) == ("Timeout", 1)
        assert error["message"] == "not finished 2.0 s after it was begun"


@pytest.mark.usefixtures("steps_for_seconds")
def test_waiting_does_not_count_as_working(run: Callable[..., Story]) -> None:
    """300 rows, one at a time, take longer than any of them may."""
    engine = {"kind": "simulated", "max_num_seqs": 1, "simulated": {"output_tokens": 4}}
    story = run({}, engine=engine, faults={"row_timeout_seconds": 2.0})

    assert story.errors == {}


@pytest.mark.parametrize(
    "changes",
    [
        {"label": {"choices": ["a", "b"]}},
        {"label": {"regex": "[a-c]{3}"}},
        {"sampling": {"n": 3, "temperature": 1.0}},
    ],
)
def test_the_shape_of_the_answer_makes_no_difference(
    run: Callable[..., Story], changes: dict[str, Any]
) -> None:
    story = run({"fail_on": "poison"}, **changes)

    assert set(story.errors) == POISON


@pytest.mark.usefixtures("steps_for_seconds")
def test_a_row_whose_answers_take_too_long_together_makes_room(run: Callable[..., Story]) -> None:
    engine = {
        "kind": "simulated",
        "max_num_seqs": 4,
        "simulated": {"faults": {"endless_on": "poison"}},
    }
    sampling = {"n": 3, "temperature": 1.0, "max_tokens": 16}
    faults = {"row_timeout_seconds": 2.0}
    story = run({}, engine=engine, faults=faults, sampling=sampling)

    assert story.losses == []
    assert {n: e["type"] for n, e in story.errors.items()} == dict.fromkeys(POISON, "Timeout")
    assert all(len(r["completions"]) == 3 for r in story.rows if not r["error"])


class Held:
    """Something that hangs until it is found to hang."""

    def __init__(self) -> None:
        self.found: list[LastWords] = []
        self._free = threading.Event()

    def bark(self, said: LastWords) -> None:
        self.found.append(said)
        self._free.set()

    def wait(self) -> None:
        assert self._free.wait(60)


def test_an_engine_that_is_not_loaded_in_time_is_found(run: Callable[..., Story]) -> None:
    held = Held()

    def change(engine: Engine) -> Engine:
        held.wait()
        return engine

    run({}, change=change, on_hang=held.bark, faults={"load_timeout_seconds": 1})

    assert held.found == [LastWords("the engine was not loaded for 1.0 s")]


def test_an_engine_that_hangs_is_found_with_the_rows_it_has(run: Callable[..., Story]) -> None:
    held = Held()

    def change(engine: Engine) -> Engine:
        step = engine.step

        def stepped() -> list[Completion]:
            if engine.stats.steps == 3:
                held.wait()
            return step()

        engine.step = stepped  # type: ignore[method-assign]
        return engine

    run({}, change=change, on_hang=held.bark, faults={"step_timeout_seconds": 2})

    [said] = held.found
    assert said.why == "the engine made no step for 2.0 s"
    assert said.rows
    assert {(one.shard, one.rows) for one in said.rows} == {(0, 1)}


class Unheard(NextDoor):
    """A coordinator that does not answer when it is told of an engine's end."""

    def engine_failed(self, said: LastWords) -> None:
        raise TimeoutError("the coordinator does not answer")


def test_how_an_engine_failed_is_known_though_the_coordinator_does_not_answer(
    folder: Path, tmp_path: Path
) -> None:
    """Rows that were finished before are committed, too."""
    made = job(
        model=str(folder / "model"),
        input={"path": str(folder / "rows.parquet")},
        output={"path": str(tmp_path / "out")},
        engine={
            "kind": "simulated",
            "max_num_seqs": 1,
            "simulated": {"faults": {"fail_on": "poison"}},
        },
    )
    plan = make_plan(check_input(made))
    Dataset(open_storage(made.output.path)).take_over(plan.manifest)
    here = Unheard(Coordinator(plan.units, [], {"card": 100.0}))

    with pytest.raises(EngineFailed, match="fails, as it was asked to"):
        work(worker_spec(plan), here, lambda: load_engine(made, {}, plan.model))

    assert sum(record.tally.rows for record in here.records) > 0
