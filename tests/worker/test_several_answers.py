"""Several answers of a row through a whole run with the simulated engine: draws, resume, and what
verify and simulate make of the output."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from pipeline import Job, UsageError, job_from
from pipeline.dispatch.events import NoLease
from pipeline.driver.coordinator.coordinator import Coordinator
from pipeline.driver.plan.plan import Plan, check_input, make_plan
from pipeline.engine.load import load_engine
from pipeline.engine.protocol import Engine
from pipeline.output.dataset import Dataset
from pipeline.output.manifest import read_manifest
from pipeline.output.rows.redo import select
from pipeline.output.tally import Tally
from pipeline.output.verify.dataset import verify
from pipeline.output.verify.promises import COUNTED, check_table
from pipeline.rows.request import Request
from pipeline.rows.workload import RequestShape
from pipeline.simulate.run_trace import read_trace
from pipeline.storage.base import open_storage
from pipeline.worker.coordination.messages import Lease, Progress
from pipeline.worker.worker import work
from tests.chaos.in_process import run_here
from tests.support.next_door import NextDoor, worker_spec
from tests.support.samples import write_model

ROWS, N = 40, 4
NAN = float("nan")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("several")
    write_model(folder / "model")
    texts = [f"text {n}" if n % 2 else "the same text" for n in range(ROWS)]
    pq.write_table(pa.table({"id": range(ROWS), "text": texts}), folder / "rows.parquet")
    return folder


def made(
    folder: Path, output: Path, sampling: dict[str, Any], *, rows: bool = False, **changes: Any
) -> Job:
    return job_from(
        {
            "name": "several",
            "model": str(folder / "model"),
            "input": {"path": str(folder / "rows.parquet")},
            "prompt": "{text}",
            "sampling": {"max_tokens": 12, "temperature": 1.0} | sampling,
            "output": {"path": str(output), "n": "rows" if rows else "lists"},
            "engine": {"kind": "simulated", "simulated": {"output_tokens": 6}},
        }
        | changes
    )


def answers(
    folder: Path, output: Path, sampling: dict[str, Any], **changes: Any
) -> list[dict[str, Any]]:
    run_here(made(folder, output, sampling, **changes))
    assert verify(open_storage(str(output))).faults == []
    rows = ds.dataset(output).to_table().to_pylist()
    assert [row["id"] for row in rows] == list(range(ROWS))
    return rows


def test_every_row_has_all_its_answers_and_no_two_draws_are_tied(
    folder: Path, tmp_path: Path
) -> None:
    rows = answers(folder, tmp_path / "out", {"n": N, "min_tokens": 8})

    assert {len(row["completions"]) for row in rows} == {N}
    assert {len(row["finish_reasons"]) for row in rows} == {N}
    seen = Counter(text for row in rows for text in row["completions"])
    assert max(seen.values()) == 1  # of eight words of 22 and more


def test_with_a_seed_they_are_those_of_any_other_run_and_the_first_is_that_of_one_alone(
    folder: Path, tmp_path: Path
) -> None:
    one = answers(folder, tmp_path / "one", {"seed": 5})
    several = answers(folder, tmp_path / "several", {"seed": 5, "n": N})
    again = answers(folder, tmp_path / "again", {"seed": 5, "n": N})

    assert [r["completions"] for r in several] == [r["completions"] for r in again]
    assert [r["completions"][0] for r in several] == [r["completion"] for r in one]
    assert all(len(set(r["completions"])) > 1 for r in several)


def test_as_rows_they_are_what_they_are_as_lists(folder: Path, tmp_path: Path) -> None:
    lists = answers(folder, tmp_path / "lists", {"seed": 5, "n": N})
    output = tmp_path / "rows"
    run_here(made(folder, output, {"seed": 5, "n": N}, rows=True))

    assert verify(open_storage(str(output))).faults == []
    rows = ds.dataset(output).to_table().to_pylist()
    assert [(r["id"], r["answer"]) for r in rows] == [(i, n) for i in range(ROWS) for n in range(N)]
    for one, several in (
        ("completion", "completions"),
        ("finish_reason", "finish_reasons"),
        ("completion_tokens", "completion_tokens"),
    ):
        assert [r[one] for r in rows] == [value for r in lists for value in r[several]]


def test_as_rows_a_row_that_fails_does_so_in_all_its_answers(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    engine = {"kind": "simulated", "simulated": {"faults": {"refuse_on": "text 7"}}}
    run_here(made(folder, output, {"n": N}, rows=True, engine=engine))

    assert verify(open_storage(str(output))).faults == []
    rows = ds.dataset(output).to_table().to_pylist()
    assert [(r["id"], r["answer"]) for r in rows if r["error"]] == [(7, n) for n in range(N)]
    record = json.loads((output / "_rackmill/summary.json").read_text())
    assert (record["rows"], record["failed"]) == (ROWS, 1)


def test_as_rows_error_rows_are_done_again_with_all_their_answers(
    folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    sampling = {"n": N, "seed": 5}
    simulated = {"output_tokens": 6, "faults": {"refuse_on": "text 7"}}
    faulty = {"kind": "simulated", "simulated": simulated}
    run_here(made(folder, output, sampling, rows=True, engine=faulty))
    before = ds.dataset(output).to_table().to_pylist()

    redo_here(made(folder, output, sampling, rows=True))

    assert verify(open_storage(str(output))).faults == []
    after = ds.dataset(output).to_table().to_pylist()
    assert all(r["error"] is None for r in after)
    assert [r for r in after if r["id"] != 7] == [r for r in before if r["id"] != 7]
    assert [r["answer"] for r in after if r["id"] == 7] == list(range(N))


def redo_here(job: Job) -> None:
    """As `rackmill retry`, in this process alone."""
    dataset = Dataset(open_storage(job.output.path))
    whole = make_plan(check_input(job))
    redo = select(whole.committed, frozenset())
    coordinator = Coordinator(redo.units, [], {"card": 100.0})
    plan = replace(whole, missing=redo.units, redo=redo)
    spec = worker_spec(plan, redo=redo)
    work(spec, NextDoor(coordinator), lambda: load_engine(job, {}, plan.model))
    records = dataset.state().commits
    dataset.recover(records.values())
    total = Tally()
    for record in records.values():
        total.add(record.tally)
    summary = json.loads((Path(job.output.path) / "_rackmill/summary.json").read_text())
    counted = {name: getattr(total, name) for name in COUNTED}
    dataset.finish(summary | counted, "")


class Bereaved(NextDoor):
    """A worker all of whose rows were in an engine that died."""

    def acquire(self) -> Lease | NoLease:
        answer = super().acquire()
        return replace(answer, losses=1) if isinstance(answer, Lease) else answer


@pytest.mark.parametrize("rows", [False, True])
def test_an_engine_that_died_with_a_row_counts_in_the_attempts_of_each_of_its_errors(
    folder: Path, tmp_path: Path, rows: bool
) -> None:
    label = {"regex": "[ab]"}
    job = made(folder, tmp_path / "out", {"n": N}, rows=rows, label=label)
    plan = make_plan(check_input(job))
    dataset = Dataset(open_storage(job.output.path))
    dataset.take_over(plan.manifest)
    coordinator = Coordinator(plan.units, [], {"card": 100.0})

    work(worker_spec(plan), Bereaved(coordinator), lambda: wrong_engine(plan))

    errors = [row["error"] for row in dataset.first_rows(ROWS * N) if row["error"]]
    assert len(errors) == ROWS * (N if rows else 1)
    assert {error["attempts"] for error in errors} == {2}


def wrong_engine(plan: Plan) -> Engine:
    """Its answers are none that the job allows."""
    engine = load_engine(plan.job, {}, plan.model)
    step = engine.step
    engine.step = lambda: [replace(one, text="c") for one in step()]  # type: ignore[method-assign]
    return engine


def test_votes_make_one_answer_of_a_row(folder: Path, tmp_path: Path) -> None:
    label = {"regex": "[ab]", "votes": 5}

    rows = answers(folder, tmp_path / "out", {}, label=label)

    assert {row["completion"] for row in rows} <= {"a", "b"}
    assert {round(5 * row["confidence"]) for row in rows} <= {3, 4, 5}


def test_a_row_with_an_answer_that_failed_is_an_error_and_the_others_are_done(
    folder: Path, tmp_path: Path
) -> None:
    engine = {"kind": "simulated", "simulated": {"faults": {"refuse_on": "text 7"}}}

    rows = answers(folder, tmp_path / "out", {"n": N}, engine=engine)

    assert [row["id"] for row in rows if row["error"]] == [7]
    assert rows[7]["completions"] is None


class Watched(NextDoor):
    """A worker's job beside this process, seen at each of its engine's steps. ``beats``: how many
    rows were taken, and what the worker said. ``added``: the prompts that the engine was given."""

    def __init__(self, job: Job) -> None:
        plan = make_plan(check_input(job))
        Dataset(open_storage(job.output.path)).take_over(plan.manifest)
        super().__init__(Coordinator(plan.units, [], {"card": 100.0}))
        self.beats: list[tuple[int, Progress]] = []
        self.added: Counter[tuple[int, ...]] = Counter()

        def load() -> Engine:
            engine = load_engine(job, {}, plan.model)
            add = engine.add

            def added(request: Request) -> None:
                self.added[tuple(request.prompt_ids)] += 1
                add(request)

            engine.add = added  # type: ignore[method-assign]
            return engine

        work(worker_spec(plan), self, load)

    def heartbeat(self, progress: Progress) -> None:
        assert self.source is not None
        self.beats.append((self.source.taken, progress))
        super().heartbeat(progress)


@pytest.fixture
def _heard_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.worker.engine_loop.engine_loop._HEARTBEAT_SECONDS", 0.0)


def test_a_row_with_an_answer_that_failed_has_no_other_in_the_engine(
    folder: Path, tmp_path: Path
) -> None:
    simulated = {"output_tokens": 6, "faults": {"refuse_on": "text 7"}}
    engine = {"kind": "simulated", "max_num_seqs": 1, "simulated": simulated}

    seen = Watched(made(folder, tmp_path / "out", {"n": N}, engine=engine))

    assert sorted(Counter(seen.added.values()).items()) == [(1, 1), (N, ROWS // 2 - 1), (80, 1)]
    assert (seen.progress.rows, seen.progress.failed) == (ROWS, 1)


@pytest.mark.usefixtures("_heard_at_every_step")
def test_rows_that_wait_are_counted_as_rows(folder: Path, tmp_path: Path) -> None:
    simulated = {"output_tokens": 6}
    engine = {"kind": "simulated", "max_num_seqs": 2, "simulated": simulated}

    seen = Watched(made(folder, tmp_path / "out", {"n": N}, engine=engine))

    assert any(said.waiting for _, said in seen.beats)
    assert all(said.waiting + said.in_engine <= taken - said.rows for taken, said in seen.beats)


@pytest.mark.usefixtures("_heard_at_every_step")
def test_no_more_rows_are_taken_than_make_enough_requests(folder: Path, tmp_path: Path) -> None:
    many = 64
    beats = Watched(made(folder, tmp_path / "out", {"n": many})).beats
    taken = next(taken for taken, _ in beats if taken)  # at first there may be no row yet

    assert 0 < taken * many < 512 + many


def test_the_output_is_a_trace_of_as_many_requests(folder: Path, tmp_path: Path) -> None:
    rows = answers(folder, tmp_path / "out", {"n": N})
    metadata = {"rackmill.requests": RequestShape(answers=N).encode()}
    for path in (tmp_path / "out").glob("*.parquet"):
        pq.write_table(pq.read_table(path).replace_schema_metadata(metadata), path)

    trace = read_trace(tmp_path / "out")

    assert trace.rows_of_run == ROWS
    assert [r.output_tokens for r in trace.rows] == [
        tokens for row in rows for tokens in row["completion_tokens"]
    ]
    assert all(r.inner[-1][1] == r.prompt_tokens for r in trace.rows)


def test_rows_count_once_and_their_answers_each(folder: Path, tmp_path: Path) -> None:
    rows = answers(folder, tmp_path / "out", {"n": N})

    summary = json.loads((tmp_path / "out/_rackmill/summary.json").read_text())
    assert summary["rows"] == ROWS
    assert summary["completion_tokens"] == sum(sum(r["completion_tokens"]) for r in rows)


@pytest.mark.parametrize("column", ["completions", "finish_reasons", "completion_tokens"])
def test_verify_finds_rows_that_lack_an_answer(folder: Path, tmp_path: Path, column: str) -> None:
    answers(folder, tmp_path / "out", {"n": N})
    dataset = Dataset(open_storage(str(tmp_path / "out")))
    content = dataset.manifest()
    assert content is not None
    manifest = read_manifest(content, "here")
    record = next(iter(dataset.state().commits.values()))
    table = pq.read_table(tmp_path / "out" / record.file)
    assert check_table(table, record, manifest) == []

    lists = table[column].to_pylist()
    lists[1] = lists[1][:-1]
    place = table.column_names.index(column)
    field = table.schema.field(column)
    damaged = table.set_column(place, field, pa.array(lists, field.type))

    faults = [fault.what for fault in check_table(damaged, record, manifest)]
    assert f"has 1 row without {N} answers and no error" in faults


@pytest.mark.parametrize("values", [[NAN, 1.0], [[1.0, NAN], None], [{"x": NAN}, {"x": 2.0}]])
def test_as_rows_what_is_unlike_itself_is_the_same_in_all_answers(
    folder: Path, tmp_path: Path, values: list[Any]
) -> None:
    pq.write_table(pa.table({"text": ["a", "b"], "kept": values}), tmp_path / "rows.parquet")
    source = {"path": str(tmp_path / "rows.parquet")}

    run_here(made(folder, tmp_path / "out", {"n": N}, rows=True, input=source))

    verdict = verify(open_storage(str(tmp_path / "out")))
    assert (verdict.faults, verdict.compared_rows) == ([], 2)


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        ("answer", "are not numbered from 0 to 3"),
        ("id", "differ in id"),
        ("short", "its record says"),
    ],
)
def test_verify_finds_rows_that_do_not_belong_to_one(
    folder: Path, tmp_path: Path, damage: str, what: str
) -> None:
    output = tmp_path / "out"
    run_here(made(folder, output, {"n": N}, rows=True))
    dataset = Dataset(open_storage(str(output)))
    content = dataset.manifest()
    assert content is not None
    manifest = read_manifest(content, "here")
    record = next(iter(dataset.state().commits.values()))
    table = pq.read_table(output / record.file)
    assert check_table(table, record, manifest) == []

    if damage == "short":
        table = table.slice(1)
    else:
        values = table[damage].to_pylist()
        values[1] = 3
        values[5] = 77
        field = table.schema.field(damage)
        place = table.column_names.index(damage)
        table = table.set_column(place, field, pa.array(values, field.type))

    assert any(what in fault.what for fault in check_table(table, record, manifest))


def test_rows_of_one_answer_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"set sampling\.n"):
        made(folder, tmp_path, {}, rows=True)
