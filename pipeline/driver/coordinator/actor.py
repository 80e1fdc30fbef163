"""The coordinator as a Ray actor, and its handle in the driver."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TypeVar

import ray
from ray.exceptions import RayError, RayTaskError

from pipeline.cluster.actor_options import ActorOptions
from pipeline.cluster.remote_actor import RemoteActor, RemoteFuture, start_actor
from pipeline.dispatch.dispatcher import Sizing
from pipeline.driver.coordinator.coordinator import NOTHING_YET, Coordinator, Snapshot
from pipeline.driver.workers.death import DeathOutcome, Sighting
from pipeline.errors import JobFailed, RackmillError
from pipeline.input.units import Unit
from pipeline.output.dataset import Dataset
from pipeline.output.runs.run_log import COORDINATOR, LogPlace, RunLog
from pipeline.printable import first_line
from pipeline.rows.row_range import RowRange
from pipeline.storage.base import open_storage

_CHECK_SECONDS = 2.0
_CLOSING_SECONDS = 1.0  # for the log's last lines
T = TypeVar("T")


@dataclass(frozen=True)
class CoordinatorSpec:
    """What ``Coordinator`` is made of. ``output``: where its commit records are, in case it is
    lost; None: they do not say what is left to do. ``log``: of the run."""

    units: Sequence[Unit]
    done: Sequence[RowRange]
    rates: Mapping[str, float]
    costs: Sequence[float] | None
    order: Sequence[int] | None
    output: str | None
    silence_seconds: float
    log: LogPlace | None


class CoordinatorHandle:
    """The coordinator actor, from the driver."""

    def __init__(self, spec: CoordinatorSpec, check: Callable[[], None]) -> None:
        """``check``: called while the coordinator does not answer; raises if it never will."""
        self._check = check
        # on the driver's machine: without the driver it is useless, and others may be cut off
        here = ActorOptions(0, {}, node=ray.get_runtime_context().get_node_id())
        self.actor: RemoteActor[_CoordinatorActor] = start_actor(
            _CoordinatorActor, here.options, spec
        )
        self._last = NOTHING_YET

    def join(self, worker: str, card: str, rate: float) -> None:
        """``worker`` is about to be started."""
        _ask(self.actor.call(Coordinator.join, worker, card, rate), self._check)

    def snapshot(self, expected: Iterable[str] = ()) -> Snapshot:
        """As ``Coordinator.snapshot``. What a lost coordinator knew of workers and deaths is
        kept."""
        last = self._last
        call = self.actor.call(Coordinator.snapshot, tuple(expected), last.memory)
        snapshot = _ask(call, self._check)
        self._last = replace(
            snapshot,
            workers={**last.workers, **snapshot.workers},
            engines={**last.engines, **snapshot.engines},
            vitals={**last.vitals, **snapshot.vitals},
            memory=snapshot.memory or last.memory,
        )
        return self._last

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

    def __init__(self, spec: CoordinatorSpec) -> None:
        self._log = RunLog(spec.log.run if spec.log is not None else "", COORDINATOR)
        if spec.log is not None:
            self._log.__enter__()
            self._log.open_at(spec.log.output)
        sizing = Sizing(patience_seconds=spec.silence_seconds)
        super().__init__(spec.units, spec.done, spec.rates, spec.costs, spec.order, sizing=sizing)
        if ray.get_runtime_context().was_current_actor_reconstructed:
            output = spec.output
            records = Dataset(open_storage(output)).records() if output is not None else {}
            self.restore(records.values())

    def close_log(self) -> None:
        """The run is over: write what was logged, as far as that is possible quickly."""
        self._log.finish(_CLOSING_SECONDS)
