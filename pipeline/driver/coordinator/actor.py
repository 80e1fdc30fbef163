"""The coordinator as a Ray actor, and its handle in the driver."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

import ray
from ray.exceptions import RayError, RayTaskError

from pipeline.cluster.actor_options import ActorOptions
from pipeline.cluster.remote_actor import RemoteActor, RemoteFuture, start_actor
from pipeline.dispatch.dispatcher import Sizing
from pipeline.dispatch.poison_rows import DeathMemory
from pipeline.driver.coordinator.coordinator import Coordinator, Snapshot
from pipeline.driver.workers.death import DeathOutcome, Sighting
from pipeline.engine.machine.vitals import Vitals
from pipeline.engine.protocol import EngineFacts
from pipeline.errors import JobFailed, RackmillError
from pipeline.input.units import Unit
from pipeline.output.dataset import Dataset
from pipeline.output.runs.run_log import COORDINATOR, LogPlace, RunLog
from pipeline.printable import first_line
from pipeline.rows.row_range import RowRange
from pipeline.storage.base import open_storage
from pipeline.worker.coordination.messages import Progress

_CHECK_SECONDS = 2.0
_CLOSING_SECONDS = 1.0  # for the log's last lines
T = TypeVar("T")


class CoordinatorHandle:
    """The coordinator actor, from the driver."""

    def __init__(
        self,
        units: Sequence[Unit],
        done: Sequence[RowRange],
        rates: Mapping[str, float],
        costs: Sequence[float] | None,
        order: Sequence[int] | None,
        *,
        output: str | None,
        silence_seconds: float,
        log: LogPlace | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """As ``Coordinator``. ``output``: where its commit records are, in case it is lost; None:
        they do not say what is left to do. ``check``: called while the coordinator does not answer;
        raises if it never will."""
        self._check = check
        # on the driver's machine: without the driver it is useless, and others may be cut off
        here = ActorOptions(0, {}, node=ray.get_runtime_context().get_node_id())
        self.actor: RemoteActor[_CoordinatorActor] = start_actor(
            _CoordinatorActor,
            here.options,
            list(units),
            list(done),
            dict(rates),
            costs,
            order,
            output,
            silence_seconds,
            log,
        )
        self._memory: DeathMemory | None = None
        self._workers: dict[str, Progress] = {}
        self._engines: dict[str, EngineFacts] = {}
        self._vitals: dict[str, Vitals] = {}

    def join(self, worker: str, card: str, rate: float) -> None:
        """``worker`` is about to be started."""
        _ask(self.actor.call(Coordinator.join, worker, card, rate), self._check)

    def snapshot(self, expected: Iterable[str] = ()) -> Snapshot:
        """As ``Coordinator.snapshot``. What a lost coordinator knew of workers and deaths is
        kept."""
        call = self.actor.call(Coordinator.snapshot, tuple(expected), self._memory)
        snapshot = _ask(call, self._check)
        self._memory = snapshot.memory or self._memory
        self._workers |= snapshot.workers
        self._engines |= snapshot.engines
        self._vitals |= snapshot.vitals
        return replace(
            snapshot,
            workers=dict(self._workers),
            engines=dict(self._engines),
            vitals=dict(self._vitals),
        )

    def stop(self, seconds: float) -> None:
        """Grant no more leases; rows in flight have this long."""
        _ask(self.actor.call(Coordinator.stop, seconds), self._check)

    def retire(self, worker: str, seconds: float) -> None:
        """As ``Coordinator.retire``."""
        _ask(self.actor.call(Coordinator.retire, worker, seconds), self._check)

    def worker_lost(self, worker: str, seen: Sighting) -> DeathOutcome:
        """As ``Coordinator.worker_lost``."""
        return _ask(self.actor.call(Coordinator.worker_lost, worker, seen), self._check)

    def close_log(self) -> None:
        """The run is over: let it write its part of the log. Raises nothing."""
        with suppress(RayError):  # it may be gone, and we do not wait long
            self.actor.call(_CoordinatorActor.close_log).get(2 * _CLOSING_SECONDS)


def _ask(call: RemoteFuture[T], check: Callable[[], None]) -> T:
    """What the coordinator answers. A call is repeated while the coordinator is restarted. Raises
    JobFailed when it cannot be restarted, and what ``check`` raises."""
    try:
        while not call.ready(_CHECK_SECONDS):
            check()
        return call.get()
    except RayTaskError as e:
        raise e.cause if isinstance(e.cause, RackmillError) else e from None
    except RayError as e:
        raise JobFailed(
            f"the coordinator was lost and could not be restarted: {first_line(e)}",
            "what is committed stays; the same command goes on from there",
        ) from e


# callers wait until it is back: a call may then be made twice, which does no harm
@ray.remote(num_cpus=0, max_concurrency=1, max_restarts=-1, max_task_retries=-1)
class _CoordinatorActor(Coordinator):
    """The coordinator in a process of its own: workers reach it whatever the driver does. When that
    process is lost, another replaces it and starts from the commit records."""

    def __init__(
        self,
        units: Sequence[Unit],
        done: Sequence[RowRange],
        rates: Mapping[str, float],
        costs: Sequence[float] | None,
        order: Sequence[int] | None,
        output: str | None,
        silence_seconds: float,
        log: LogPlace | None,
    ) -> None:
        self._log = RunLog(log.run if log is not None else "", COORDINATOR)
        if log is not None:
            self._log.__enter__()
            self._log.open_at(log.output)
        sizing = Sizing(patience_seconds=silence_seconds)
        super().__init__(units, done, rates, costs, order, sizing=sizing)
        if ray.get_runtime_context().was_current_actor_reconstructed:
            records = Dataset(open_storage(output)).records() if output is not None else {}
            self.restore(records.values())

    def close_log(self) -> None:
        """The run is over: write what was logged, as far as that is possible quickly."""
        self._log.finish(_CLOSING_SECONDS)
