"""Coordinator, workers and the output folder together, and everything that can befall them in any
order: workers die with their commits written and told, written and not told, or not written; fall
silent and wake up again; have to let their card go; the coordinator is lost and comes back; the
driver is run again while what it had started before still works. In the end every row is there
once."""

from __future__ import annotations

import io
import secrets
from dataclasses import dataclass, field
from itertools import pairwise

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pipeline.dispatch.dispatcher import Sizing
from pipeline.dispatch.events import NoLease
from pipeline.dispatch.poison_rows import DeathMemory
from pipeline.driver.coordinator.coordinator import Coordinator
from pipeline.driver.workers.death import DeathCause, Sighting
from pipeline.input.units import Unit, leaves, part
from pipeline.output.commit.commit_tree import commit_rows
from pipeline.output.commit.records import CommitRecord
from pipeline.output.dataset import Dataset
from pipeline.output.tally import Tally
from pipeline.rows.row_range import RowRange
from pipeline.storage.base import open_storage
from pipeline.worker.coordination.messages import Lease, Progress
from tests.support.samples import quick

UNITS = (Unit("a", 0, 0, 8), Unit("b", 0, 8, 14), Unit("c", 1, 0, 5))
ROWS = [(unit.shard, row) for unit in UNITS for row in range(unit.start, unit.stop)]
_SIZING = Sizing(longest_seconds=8, shortest_seconds=2)
_ROUND_SECONDS = 5.0
_MOST_ROUNDS = 60


@dataclass
class Open:
    """A unit with a worker. ``begun`` rows of it were handed to the engine, ``done`` came back."""

    unit: Unit
    begun: int = 0
    done: set[int] = field(default_factory=set)

    @property
    def whole(self) -> bool:
        return len(self.done) == self.unit.rows


@dataclass
class Worker:
    name: str
    units: list[Open] = field(default_factory=list)
    rows: int = 0  # done in all
    silent: bool = False  # its heartbeats do not arrive, nor does what it asks
    leaves: bool = False  # the driver has it let its card go

    said: list[Unit] | None = None  # what it said last that it holds

    @property
    def holding(self) -> list[Unit]:
        return [one.unit for one in self.units]

    @property
    def active(self) -> int:
        return sum(one.begun - len(one.done) for one in self.units)


class AnyFate(RuleBasedStateMachine):
    """Every command that a worker gives is one rule; so is every accident."""

    @initialize()
    def begin(self) -> None:
        self._address = f"memory://any-fate/{secrets.token_hex(8)}"
        self.dataset = Dataset(open_storage(self._address))
        self.now = 0.0
        self.workers: list[Worker] = []
        self.orphans: list[Worker] = []  # of drivers before, or thought dead
        self.hired = 0
        self.start()

    def start(self) -> None:
        """A driver: plans from what is committed, and hires."""
        self.memory: DeathMemory | None = None  # of deaths, that the driver has of its coordinators
        state = self.dataset.state()
        self.dataset.recover(state.commits.values())
        done = [record.row_range for record in state.commits.values()]
        self.coordinator = self.new_coordinator(done)
        for _ in range(2):
            self.start_workers()

    def new_coordinator(self, done: list[RowRange]) -> Coordinator:
        return Coordinator(UNITS, done, {"card": 1.0}, sizing=_SIZING, clock=lambda: self.now)

    def start_workers(self) -> None:
        self.hired += 1
        self.workers.append(Worker(f"w{self.hired}"))
        self.coordinator.join(self.workers[-1].name, "card")

    def worker(self, data: st.DataObject, *, silent: bool = False) -> Worker | None:
        found = [w for w in self.workers if w.silent == silent]
        return data.draw(st.sampled_from(found)) if found else None

    # -- what workers do

    @rule(data=st.data())
    def ask(self, data: st.DataObject) -> None:
        if worker := self.worker(data):
            self.acquire(worker)

    def acquire(self, worker: Worker) -> None:
        lease = self.coordinator.acquire(worker.name, worker.holding)
        if isinstance(lease, Lease):
            assert lease.units
            worker.units += [Open(unit) for unit in lease.units]
        elif lease is NoLease.DONE:
            assert self.coordinator.snapshot().done
        elif lease is NoLease.STOP:
            assert worker.leaves

    @rule(data=st.data(), rows=st.integers(1, 6))
    def compute(self, data: st.DataObject, rows: int) -> None:
        """Hand rows on in order; some that were handed on come back, in any order."""
        everyone = self.workers + self.orphans
        worker = data.draw(st.sampled_from(everyone))
        for one in worker.units:
            more = min(rows, one.unit.rows - one.begun)
            one.begun += more
            rows -= more
            flying = sorted(set(range(one.begun)) - one.done)
            if flying:
                back = data.draw(st.sets(st.sampled_from(flying)))
                one.done |= back
                worker.rows += len(back)

    @rule(data=st.data(), told=st.sampled_from([True, True, True, False]))
    def commit(self, data: st.DataObject, told: bool) -> None:
        """A whole unit. Not ``told``: the worker died between writing and telling."""
        worker = data.draw(st.sampled_from(self.workers + self.orphans))
        for one in [one for one in worker.units if one.whole]:
            worker.units.remove(one)
            records = self.settle(one.unit)
            if worker in self.workers and not worker.silent and told:
                self.coordinator.commit(records)
            elif worker in self.workers and not told:
                self.lose(worker)
                return

    @rule(data=st.data(), back=st.booleans())
    def commit_the_front(self, data: st.DataObject, back: bool) -> None:
        """The rows that are done first are committed by themselves, as at a stop, and the rest is
        forgotten by the worker, which ends."""
        if worker := self.worker(data):
            for one in worker.units:
                front = next(i for i in range(one.unit.rows + 1) if i not in one.done)
                if front:
                    unit = part(one.unit, one.unit.start, one.unit.start + front)
                    self.coordinator.commit(self.settle(unit))
            self.lose(worker)

    def settle(self, unit: Unit) -> list[CommitRecord]:
        def rows(start: int, stop: int) -> tuple[pa.Table, Tally]:
            assert unit.start <= start < stop <= unit.stop
            return pa.table({"row": list(range(start, stop))}), Tally(rows=stop - start)

        records = commit_rows(self.dataset, unit, rows, {})
        covered = {(r.row_range.shard, row) for r in records for row in range(*r.row_range[1:])}
        assert covered >= {(unit.shard, row) for row in range(unit.start, unit.stop)}
        return records

    @rule(data=st.data(), passed=st.floats(0.0, 3.0))
    def beat(self, data: st.DataObject, passed: float) -> None:
        self.now += passed
        if worker := self.worker(data):
            self.report(worker)

    def report(self, worker: Worker) -> None:
        progress = Progress(rows=worker.rows, running=worker.active)
        orders = self.coordinator.heartbeat(worker.name, progress, active=worker.active)
        if orders.introduce:
            worker.said = worker.holding
            self.coordinator.introduce(worker.name, "card", None, worker.said)
        for asked in orders.give_up:
            stop = asked.unit.stop  # what is not there any more is done
            for one in worker.units:
                if (one.unit.shard, one.unit.start) == (asked.unit.shard, asked.unit.start):
                    stop = min(one.unit.stop, max(asked.keep, one.unit.start + one.begun))
                    one.unit = part(one.unit, one.unit.start, stop)
            worker.units = [one for one in worker.units if one.unit.rows]
            self.coordinator.gave_up(worker.name, asked.unit, stop)

    # -- what befalls them

    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        if worker := self.worker(data, silent=data.draw(st.booleans())):
            self.lose(worker)

    def lose(self, worker: Worker, *, blameless: bool = False) -> None:
        """The driver sees that a worker's process is gone, and hires another."""
        self.workers.remove(worker)
        cause = DeathCause.TAKEN if blameless else DeathCause.VANISHED
        self.coordinator.worker_lost(worker.name, Sighting(cause, "it died"))
        self.start_workers()

    @rule(data=st.data(), seconds=st.floats(0.0, 30.0))
    def retire(self, data: st.DataObject, seconds: float) -> None:
        """The driver wants a worker's card for another job."""
        if worker := self.worker(data, silent=data.draw(st.booleans())):
            worker.leaves = True
            self.coordinator.retire(worker.name, seconds)

    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        """A worker that was to let its card go has ended, with whatever it still held."""
        if leaving := [w for w in self.workers if w.leaves]:
            self.lose(data.draw(st.sampled_from(leaving)), blameless=True)

    @rule(data=st.data())
    def fall_silent(self, data: st.DataObject) -> None:
        if worker := self.worker(data):
            worker.silent = True

    @rule(data=st.data())
    def wake_up(self, data: st.DataObject) -> None:
        if worker := self.worker(data, silent=True):
            worker.silent = False

    @rule(passed=st.floats(0.0, 40.0))
    def look(self, passed: float) -> None:
        """The driver looks: those of whom nothing was heard for long are replaced. It cannot be
        sure that they are dead."""
        self.now += passed
        snapshot = self.coordinator.snapshot([w.name for w in self.workers], self.memory)
        self.memory = snapshot.memory or self.memory
        silent = snapshot.silent
        for worker in [w for w in self.workers if w.name in silent]:
            self.orphans.append(worker)
            self.lose(worker)

    @rule(knows=st.booleans(), late=st.booleans())
    def lose_the_coordinator(self, knows: bool, late: bool) -> None:
        """What it knew beyond the records is lost; the workers are still there. Not ``knows``: the
        records say nothing of what is to be done, as in a retry. ``late``: what a worker told the
        one before about its leases is told again, as old as it is."""
        self.coordinator = self.new_coordinator([])
        self.coordinator.restore(self.dataset.records().values() if knows else [])
        for worker in self.workers if late else []:
            if worker.said is not None and not worker.silent:
                self.coordinator.introduce(worker.name, "card", None, worker.said)

    @precondition(lambda self: self.hired < 12)
    @rule()
    def lose_the_driver(self) -> None:
        """The command is run again while what the first had started still works for a while."""
        self.orphans += self.workers
        self.workers = []
        self.start()

    # -- what holds

    @invariant()
    def no_row_is_there_twice(self) -> None:
        if hasattr(self, "dataset"):
            rows = self.published()
            assert all(a < b for a, b in pairwise(rows))

    def published(self) -> list[tuple[int, int]]:
        """(shard, row) as a reader of the folder sees them."""
        found = []
        for path, _ in self.dataset.storage.files(""):
            if path.endswith(".parquet") and not path.startswith("."):
                content = self.dataset.storage.read(path) or b""
                table = pq.read_table(io.BytesIO(content))
                found += [(int(path[:5]), row) for row in table["row"].to_pylist()]
        return found

    def teardown(self) -> None:
        """From now on all behave: the job ends, whatever was before."""
        if not hasattr(self, "dataset"):
            return
        for _ in range(_MOST_ROUNDS):
            if self.coordinator.snapshot([w.name for w in self.workers]).done:
                break
            for worker in list(self.workers):
                worker.silent = False
                if worker.leaves:
                    self.lose(worker, blameless=True)
                    continue
                for one in worker.units:
                    worker.rows += one.unit.rows - len(one.done)
                    self.coordinator.commit(self.settle(one.unit))
                worker.units = []
                self.report(worker)
                self.acquire(worker)
            self.look(_ROUND_SECONDS)
        snapshot = self.coordinator.snapshot()
        assert snapshot.done, "nothing moves any more"
        assert self.published() == ROWS
        state = self.dataset.state()
        found = [state.commits[leaf.id] for unit in UNITS for leaf in leaves(unit, state.cuts)]
        assert len(found) == len(state.commits)
        fsspec.filesystem("memory").store.clear()


TestAnyFate = AnyFate.TestCase
TestAnyFate.settings = quick
