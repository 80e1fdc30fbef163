"""The coordinator: the dispatcher's state machine with names, a clock and a tally. It sees leases
and facts, never rows, so its memory grows with the number of units."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pipeline.dispatch.dispatcher import Dispatcher, Sizing
from pipeline.dispatch.events import (
    Committed,
    Done,
    Expired,
    GaveUp,
    GiveUp,
    Grant,
    Joined,
    LeaseRequested,
    Lost,
    NoLease,
    Reported,
    Resumed,
    Returned,
    Ticked,
)
from pipeline.dispatch.poison_rows import DeathMemory
from pipeline.driver.coordinator.unit_index import UnitIndex
from pipeline.driver.workers.death import DeathOutcome, Sighting, death_outcome
from pipeline.engine.machine.card_reading import CardReading
from pipeline.engine.machine.vitals import Vitals
from pipeline.engine.protocol import EngineFacts
from pipeline.humanize import plural
from pipeline.input.units import Unit
from pipeline.logs import about
from pipeline.output.commit.records import CommitRecord
from pipeline.output.rows.redo import Redone
from pipeline.output.tally import Tally
from pipeline.rows.row_range import RowRange
from pipeline.worker.coordination.messages import GiveUpRows, LastWords, Lease, Orders, Progress

_log = logging.getLogger(__name__)
# after a restart: by then every living worker has said what it holds (heartbeats: 1 s)
_LISTEN_SECONDS = 5.0
_FRESH_SECONDS = 5.0
_NAP_SECONDS = 10.0  # the driver looks every second


@dataclass(frozen=True)
class Snapshot:
    """How far a run is. ``workers``: the running totals of each, including lost ones, and
    ``vitals``: their cards. Since the last snapshot: ``silent``: workers whose leases expired, and
    ``notes``: what to print."""

    units: int
    units_done: int
    committed: Tally  # of this run's commits
    workers: Mapping[str, Progress]
    engines: Mapping[str, EngineFacts]
    silent: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    lost_rows: int = 0  # finished by workers that were lost before they committed them
    memory: DeathMemory | None = None  # of why engines died, in case this coordinator is lost
    vitals: Mapping[str, Vitals] = field(default_factory=dict)
    present: frozenset[str] = frozenset()  # workers that have just reported their cards
    waited: tuple[float, float] = (
        0.0,
        0.0,
    )  # see ``loop.WaitingTime``; of a whole run

    @property
    def done(self) -> bool:
        return self.units_done == self.units

    @property
    def active(self) -> dict[str, Vitals]:
        """The cards as they are now, by worker."""
        return {worker: self.vitals[worker] for worker in sorted(self.present)}

    def cards_of(self, worker: str) -> tuple[CardReading, ...]:
        """As that worker last reported them."""
        vitals = self.vitals.get(worker)
        return () if vitals is None else vitals.cards

    @property
    def begun(self) -> bool:
        """Whether any engine has made a step."""
        return any(progress.first_step for progress in self.workers.values())


NOTHING_YET = Snapshot(0, 0, Tally(), {}, {})


class Coordinator:
    """Hands out rows of a run's units and counts what comes back."""

    def __init__(
        self,
        units: Sequence[Unit],
        done: Iterable[RowRange],
        rates: Mapping[str, float],
        costs: Sequence[float] | None = None,
        order: Sequence[int] | None = None,
        *,
        sizing: Sizing | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``done``: what is committed. ``rates``: expected rows per second of each kind of card.
        ``costs``: predicted costs of units, in any measure. ``order``: in which units are handed
        out (None: input order)."""
        self._units = units
        self._rates = dict(rates)
        self._clock = clock
        self._index = UnitIndex(units)
        spans = self._index.all_within(done)
        rows = [unit.rows for unit in units]
        self._dispatcher = Dispatcher(rows, spans, costs=costs, order=order, sizing=sizing)
        self._handle = self._dispatcher.handle
        self._tally = Tally()
        self._workers: dict[str, Progress] = {}
        self._engines: dict[str, EngineFacts] = {}
        self._vitals: dict[str, Vitals] = {}
        self._vitals_at: dict[str, float] = {}
        self._beats: dict[str, tuple[float, float]] = {}  # last heartbeat, busy seconds
        self._silent: list[str] = []
        self._notes: list[str] = []
        self._last_words: dict[str, LastWords] = {}
        self._known: set[str] = set()  # workers that joined
        self._lost: set[str] = set()  # a late message from them may still come
        self._stop_at: float | None = None
        self._retiring: dict[str, float] = {}  # workers, and until when each may finish rows
        self._restored = self._remembers = False
        self._awaited: set[str] = set()  # workers that have not yet said what they hold
        self._looked = self._expire_from = clock()
        self._listen_until = -math.inf

    def join(self, worker: str, card: str, rate: float | None = None) -> None:
        """A worker was started: it will come, and gets its share. ``rate``: expected rows per
        second of such a card, if it is a new kind."""
        self._known.add(worker)
        self._lost.discard(worker)
        if rate is not None:
            self._rates.setdefault(card, rate)
        self._handle(Joined(worker, self._clock(), card, self._rate(card)))

    def acquire(self, worker: str, holding: Iterable[Unit] | None = None) -> Lease | NoLease:
        """A lease for ``worker``, or why it gets none. ``holding``: what it has, if it says so."""
        if self._stop_at is not None:
            return NoLease.DONE if self._dispatcher.done else NoLease.STOP
        if worker in self._retiring or worker in self._lost:
            return NoLease.STOP
        if self._clock() < self._listen_until:
            return NoLease.WAIT
        if holding is not None:
            self._reconcile(worker, holding)
        for answer in self._handle(LeaseRequested(worker, self._clock())):
            if isinstance(answer, Grant):
                units = tuple(self._index.unit(span) for span in answer.spans)
                self._say_granted(worker, units, answer)
                return Lease(units, answer.losses, answer.quarantined, answer.why)
            if isinstance(answer, Done):
                return NoLease.DONE
        return NoLease.WAIT

    def _say_granted(self, worker: str, units: Sequence[Unit], grant: Grant) -> None:
        with about(worker=worker):
            for unit in units:
                if grant.quarantined:
                    where = f"row {unit.start} of file {unit.shard}"
                    _log.warning("%s is quarantined after %d deaths", where, grant.losses)
                else:
                    _log.debug("granted rows %d to %d of %s", unit.start, unit.stop, unit.id)

    def _reconcile(self, worker: str, holding: Iterable[Unit]) -> None:
        """Take back what the worker does not have, although a lost message or coordinator made it
        look so: otherwise no one would ever get those rows."""
        held = self._dispatcher.ranges.holdings.get(worker)
        if held is None or not held.rows:
            return
        spans = self._index.all_within(unit.row_range for unit in holding)
        stale = tuple(
            piece.span
            for piece in held.ranges.values()
            if not any(
                s.unit == piece.unit and s.start < piece.stop and piece.start < s.stop
                for s in spans
            )
        )
        if stale:
            self._handle(Returned(worker, self._clock(), stale))

    def commit(self, records: Iterable[CommitRecord | Redone]) -> None:
        """These commit records exist, or rows in them were done again."""
        for record in records:
            before = self._dispatcher.ranges.committed_rows
            for span in self._index.within(record.row_range):
                self._handle(Committed(span))
            if self._dispatcher.ranges.committed_rows > before:
                self._tally.add(record.tally)

    def heartbeat(
        self,
        worker: str,
        progress: Progress,
        active: int = 0,
        flights: Iterable[RowRange] | None = None,
        vitals: Vitals | None = None,
    ) -> Orders:
        """The worker is alive. ``active``: rows it has started and not finished; ``flights``: rows
        that its engine may have until the next heartbeat; ``vitals``: of its cards."""
        now = self._clock()
        if vitals is not None:
            self._vitals[worker] = vitals
            self._vitals_at[worker] = now
        if worker not in self._known:
            return Orders(introduce=True)
        last, busy = self._beats.get(worker, (now, 0.0))
        if progress.running or progress.rows > self._rows_before(worker):
            busy += now - last
        self._beats[worker] = now, busy
        self._workers[worker] = progress
        tokens = progress.prompt_tokens + progress.completion_tokens
        flying = None if flights is None else self._index.all_within(flights)
        waiting = progress.waiting
        report = Reported(worker, now, progress.rows, busy, tokens, active, flying, waiting)
        requests = [r for r in self._handle(report) if isinstance(r, GiveUp)]
        stop_at = self._retiring.get(worker) if self._stop_at is None else self._stop_at
        if stop_at is not None:
            return Orders(stop_seconds=max(0.0, stop_at - now))
        for asked in requests:
            with about(worker=worker):
                _log.info(
                    "work stealing: asked to give up rows of %s", self._index.unit(asked.span).id
                )
        index = self._index
        return Orders(
            tuple(
                GiveUpRows(index.unit(r.span), index.row_of(r.span.unit, r.keep)) for r in requests
            )
        )

    def introduce(
        self, worker: str, card: str, facts: EngineFacts | None, holding: Iterable[Unit]
    ) -> None:
        """The answer to ``Orders.introduce``, from a worker that is older than this coordinator.
        ``facts``: of its engine, if it is loaded; ``holding``: what it has leased."""
        self._known.add(worker)
        if facts is not None:
            self._engines[worker] = facts
        spans = self._index.all_within(unit.row_range for unit in holding)
        self._handle(Resumed(worker, self._clock(), self._rate(card), spans))

    def restore(self, records: Iterable[CommitRecord]) -> None:
        """Replace a coordinator that was lost. ``records``: all commit records of the dataset, also
        those of earlier runs. Grants nothing until workers have had time to say what they hold."""
        self.commit(records)
        self._restored = True
        self._listen_until = self._clock() + _LISTEN_SECONDS
        rows = plural(self._tally.rows, "row")
        self._notes.append(f"the coordinator was lost and is back: {rows} of this run are there")

    def stop(self, seconds: float) -> None:
        """Grant no more leases. Rows in flight may be finished within ``seconds``."""
        self._stop_at = self._clock() + seconds

    def retire(self, worker: str, seconds: float) -> None:
        """Grant ``worker`` no more leases: others need its card. Its rows in flight may be finished
        within ``seconds``."""
        self._retiring[worker] = self._clock() + seconds

    def returned(self, worker: str, holding: Iterable[Unit]) -> None:
        """``worker``, which has to release its card, holds no more than this: others do the rest at
        once."""
        if worker in self._retiring:
            self._reconcile(worker, holding)

    def gave_up(self, worker: str, unit: Unit, stop: int) -> None:
        """Of the leased ``unit``, ``worker`` keeps the rows before ``stop`` (of the shard)."""
        for kept in self._index.kept(unit, stop):
            self._handle(GaveUp(worker, self._clock(), kept))

    def note(self, worker: str, line: str) -> None:
        """Print this for whoever watches the run."""
        self._notes.append(f"{worker}: {line}")

    def engine_ready(self, worker: str, facts: EngineFacts) -> None:
        self._engines[worker] = facts

    def engine_failed(self, worker: str, said: LastWords) -> None:
        """The engine of ``worker`` is gone."""
        self._last_words[worker] = said

    def worker_lost(self, worker: str, seen: Sighting) -> DeathOutcome:
        """Lease to others what ``worker`` held. ``seen``: by the driver."""
        self._retiring.pop(worker, None)
        self._lost.add(worker)
        said = self._last_words.pop(worker, None)
        outcome = death_outcome(seen, said)
        flights = None if said is None else self._index.all_within(said.rows)
        self._handle(Lost(worker, self._clock(), outcome.why, flights, outcome.blame))
        self._put_out(worker)
        with about(worker=worker):
            _log.info("what it held is leased to others: %s", outcome.why)
        finished, gain = self._rows_before(worker), self._dispatcher.gain(worker)
        return replace(outcome, finished=finished, gain=gain)

    def snapshot(self, expected: Iterable[str] = (), memory: DeathMemory | None = None) -> Snapshot:
        """How far the run is. ``expected``: the workers that should be there. ``memory``: from an
        earlier snapshot, for what a coordinator lost since then has told no one else."""
        now = self._clock()
        if self._restored and not self._remembers and memory is not None:
            self._remembers = True
            self._dispatcher.recall(memory)
        if now - self._looked > _NAP_SECONDS:  # this process slept: it cannot know who was silent
            self._expire_from = now + _LISTEN_SECONDS
        self._looked = now
        if self._restored:
            for worker in set(expected) - self._known - self._awaited:
                self._awaited.add(worker)  # from now on it may be silent as long as others
                self._handle(Reported(worker, now))
        for answer in self._handle(Ticked(now)) if now >= self._expire_from else ():
            if isinstance(answer, Expired):
                with about(worker=answer.worker):
                    _log.warning("nothing was heard of it for too long")
                self._silent.append(answer.worker)
                self._put_out(answer.worker)
        silent, self._silent = tuple(self._silent), []
        notes, self._notes = tuple(self._notes), []
        return Snapshot(
            units=len(self._units),
            units_done=self._dispatcher.ranges.units_done,
            committed=self._tally,
            workers=dict(self._workers),
            engines=dict(self._engines),
            silent=silent,
            notes=notes,
            lost_rows=self._dispatcher.lost_rows,
            memory=self._dispatcher.memory,
            vitals=dict(self._vitals),
            present=frozenset(w for w, at in self._vitals_at.items() if now - at < _FRESH_SECONDS),
        )

    def _put_out(self, worker: str) -> None:
        """Show a lost worker as idle in its last totals."""
        self._vitals_at.pop(worker, None)
        if worker in self._workers:
            self._workers[worker] = replace(self._workers[worker], running=0, kv_use=0.0)

    def _rate(self, card: str) -> float:
        return self._rates.get(card) or max(self._rates.values(), default=1.0)

    def _rows_before(self, worker: str) -> int:
        return self._workers[worker].rows if worker in self._workers else 0
