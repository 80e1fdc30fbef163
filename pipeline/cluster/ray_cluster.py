"""Starting and joining Ray. What runs on it is in the coordinator and the worker, ``remote`` (a
worker's access to the coordinator) and ``meter`` (its metrics)."""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext, suppress
from pathlib import Path

import ray
from ray.exceptions import AuthenticationError, RayError
from ray.job_config import JobConfig

from pipeline.cluster.actor_options import ActorOptions
from pipeline.cluster.rack_state.allocation import OTHERS, AllocatedCards, Allocation, Key
from pipeline.cluster.rack_state.gcs import Gcs, HeadGone
from pipeline.cluster.rack_state.machines import MACHINE, Machine, machines
from pipeline.cluster.rack_state.slot_usage import SlotUsageSign
from pipeline.cluster.ray_access import TOKEN_MEND, check_access, prepare_access
from pipeline.cluster.ray_processes import RayProcesses
from pipeline.cluster.remote_actor import RemoteActor, RemoteFuture, start_actor
from pipeline.engine.gpu.usable import offer, visible_value
from pipeline.engine.gpu.visible import VARIABLE
from pipeline.engine.machine.facts import own_facts
from pipeline.errors import JobFailed, NoCard, Stopped

_log = logging.getLogger(__name__)
_HEAD_PATIENCE_SECONDS = 15.0
_CARD_SECONDS = 1.0
_TOO_SLOW = "timed out during startup"  # Ray's own words
# A Ray of our own only serves its workers, and nothing monitors it: so no spare workers (each
# checks for signals a hundred times a second; Ray would start one per core), no metrics, hardly
# any statistics, and less frequent checks of its own. On a CPU every process that wakes up slows
# an engine down.
_QUIET = {
    "RAY_num_workers_soft_limit": "0",
    "RAY_prestart_worker_first_driver": "0",
    "RAY_enable_metrics_collection": "0",
    "RAY_event_stats": "0",
    "REPORTER_UPDATE_INTERVAL_MS": "600000",
    "RAY_kill_idle_workers_interval_ms": "2000",
    "RAY_memory_monitor_refresh_ms": "1000",
    "RAY_object_manager_timer_freq_ms": "1000",
    "RAY_raylet_check_gc_period_milliseconds": "5000",
    "RAY_raylet_report_resources_period_milliseconds": "1000",
}


class Cluster:
    """A connection to Ray: one that we start and stop, or an existing one."""

    def __init__(
        self,
        address: str | None,
        queued: str | None = None,
        *,
        patient: bool = False,
        processes: RayProcesses | None = None,
    ) -> None:
        """``queued``: the job's name in the rack's queue; ``patient``: see ``AllocatedCards``;
        ``processes``: those of a Ray of our own, for callers that may have to end them while it is
        still starting. Raises UsageError if no Ray can be joined at ``address``, JobFailed if Ray
        cannot be started."""
        check_access(address)
        if address:
            # our own message has to report in time that a rack's head is gone: Ray would end this
            # process a second after the Ray on its machine
            os.environ.setdefault("RAY_raylet_death_check_interval_milliseconds", "3600000")
            os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        # Ray starts workers with niceness 15: other programs would slow the engines down
        os.environ.setdefault("RAY_worker_niceness", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # the run's own messages report workers that end
        ray._private.worker.print_to_stdstream = lambda *_, **__: None
        prepare_access(address)
        own = {} if address else _alone()
        # Ray's own switch for "no other machines": then it listens on loopback
        ray._private.ray_constants.ENABLE_RAY_CLUSTER = address is not None
        self._processes = None if address else processes or RayProcesses()
        try:
            with self._processes or nullcontext():
                _init(address or "local", own, self._processes)
        except AuthenticationError as e:
            raise JobFailed(f"Ray at {address} does not take this token", TOKEN_MEND) from e
        except Exception as e:  # Ray raises this very class if it does not start in time
            where = f"Ray at {address} does not answer" if address else "Ray could not be started"
            hints = (f"or its token is another one: {TOKEN_MEND}",) if address else ()
            raise JobFailed(f"{where}: {e}", *hints) from e
        self._rack = Gcs(ray.get_runtime_context().gcs_address) if address else None
        self.cards: AllocatedCards | None = None
        self.sign: SlotUsageSign | None = None
        if self._rack is not None:
            self.sign = SlotUsageSign(self._rack, queued or secrets.token_hex(4))
            if queued is not None:
                self.cards = AllocatedCards(self._rack, queued, patient=patient)
        _log.info(
            "%s; what it and the engines print is in %s",
            f"joined Ray at {address}" if address else "started a Ray of its own",
            self.log_folder,
        )
        self._heard = time.monotonic()  # when the head last answered
        self._lost = False
        # tasks that examine machines without facts
        self._looking: dict[str, RemoteFuture[bytes]] = {}

    @property
    def gpus(self) -> int:
        """The number of GPUs that Ray knows of."""
        return int(ray.cluster_resources().get("GPU", 0))

    @property
    def keeps_engines(self) -> bool:
        """Whether engines stay loaded for the next job: true where a job queue has the cards."""
        return self.cards is not None

    @property
    def chooses_cards(self) -> bool:
        """Whether we decide which of a machine's cards an engine gets: on a Ray of our own, and
        where a job queue has the cards. Elsewhere others may be at work, and Ray decides."""
        return self._rack is None or self.keeps_engines

    @property
    def waits_for_cards(self) -> bool:
        """Whether a job without a card from its queue waits for one instead of ending."""
        return self.cards is not None and self.cards.patient

    def allotted(self, note: Callable[[str], None]) -> frozenset[Key] | None:
        """The cards that a job of the queue may use; None: all. A patient job waits for some, and
        notes that. Raises NoCard, Stopped."""
        if self.cards is None:
            return None
        told = False
        while True:
            allotment = self.cards.look() or Allocation(why=OTHERS)
            if allotment.cards:
                return allotment.cards
            if allotment.why != OTHERS:
                raise Stopped(f"stopped before any engine was started, as {allotment.why} asks")
            if not self.cards.patient:
                raise NoCard("no card is assigned to this job for now")
            if not told:
                note("all cards are other jobs' for now: waiting for some (rackmill jobs)")
                told = True
            time.sleep(_CARD_SECONDS)

    @property
    def log_folder(self) -> Path:
        """The folder in which Ray keeps the output of workers."""
        return Path(ray._private.worker._global_node.get_logs_dir_path())

    def machines(self, patience_seconds: float = 0.0) -> list[Machine]:
        """The machines of the joined rack, with the resources of each. If a machine has not written
        its facts, a task examines it, which may take a while: at most ``patience_seconds``. Raises
        HeadGone."""
        assert self._rack is not None
        found = machines(self._rack)
        unknown = [m.node for m in found if m.facts is None and m.works]
        if not unknown:
            return found
        for node in unknown:
            if node.id not in self._looking:
                task = _own_facts.options(**ActorOptions(0, {}, node=node.id).options)
                self._looking[node.id] = RemoteFuture(task.remote())
        waiting = [self._looking[node.id].ref for node in unknown]
        ray.wait(waiting, num_returns=len(waiting), timeout=patience_seconds)
        for node in unknown:
            if self._looking[node.id].ready():
                with suppress(RayError):
                    self._rack.put(MACHINE + node.id, self._looking[node.id].get())
                del self._looking[node.id]
        return machines(self._rack)

    def check_head(self) -> None:
        """Raise HeadGone if the rack's head has not answered for a while: Ray ends soon after its
        head, and ends the processes that use it."""
        if self._rack is None:
            return
        now = time.monotonic()
        try:
            self._rack.nodes()
            self._heard = now
        except HeadGone as e:
            if now - self._heard < _HEAD_PATIENCE_SECONDS:
                return
            self._lost = True
            raise HeadGone(
                e.message,
                "what is committed stays; once it is back, the same command goes on from there",
            ) from e

    def is_free(self, placement: ActorOptions) -> bool:
        """Whether the machine of ``placement`` now has the resources that it requests."""
        if placement.node is None:
            return True
        free = ray._private.state.available_resources_per_node().get(placement.node, {})
        return bool(free.get("GPU", 0) >= placement.gpus and free.get("CPU", 0) >= placement.cpus)

    def keep_card(self, placement: ActorOptions) -> RemoteActor[object] | None:
        """Keep others from taking the card that is free now, as long as the result is held."""
        if not placement.gpus:
            return None
        return start_actor(_Nobody, placement.options)

    def close(self) -> None:
        if self._rack is not None:
            self._rack.close()
        if not self._lost:  # otherwise Ray would wait for the head
            ray.shutdown()
        if self._processes is not None:
            self._processes.end()


def _init(address: str, own: Mapping[str, object], processes: RayProcesses | None) -> None:
    """Ray gives its daemons 30 s to start. A machine that is busy, or reads them from a disk for
    the first time, may need longer: so one more try."""
    for patient in (True, False):
        config = JobConfig()
        config._py_driver_sys_path = _Folders()
        try:
            ray.init(
                address=address,
                namespace="rackmill",
                **own,
                job_config=config,
                log_to_driver=False,
                logging_level=logging.ERROR,
                configure_logging=True,
            )
            return
        except Exception as e:  # Ray raises this very class
            if processes is None or not patient or _TOO_SLOW not in str(e):
                raise
            processes.end(0.0)


class _Folders(list[str]):
    """The folders in which Ray's processes first look for modules. Ray adds the working folder; a
    folder with another `pipeline` is left out, since that would be taken for ours."""

    def extend(self, folders: Iterable[str]) -> None:
        super().extend(folder for folder in folders if not _has_another_pipeline(Path(folder)))


def _has_another_pipeline(folder: Path) -> bool:
    ours = Path(__file__).parents[1]
    found = [folder / ours.name, folder / f"{ours.name}.py"]
    return ours not in found and any(one.exists() for one in found)


def _alone() -> dict[str, object]:
    """Prepare for a Ray of our own. Returns its arguments for ``ray.init``."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    # it would check all logs ten times a second for new lines to send to a driver
    node = ray._private.node.Node
    node.start_log_monitor = lambda _: None
    # and there is no web page to serve, and no machine to add
    node.start_api_server = lambda *_, **__: None
    node.start_monitor = lambda _: None
    # no job is submitted to it: its port stays free for a rack that is about to listen on it
    ray._private.parameter.RayParams.dashboard_agent_listen_port = property(
        lambda _: 0, lambda *_: None
    )
    # Ray itself counts the cards in CUDA_VISIBLE_DEVICES, whether they exist or not
    cards = offer().gpus
    if cards:
        os.environ[VARIABLE] = visible_value(cards)
    return {"include_dashboard": False, "num_gpus": len(cards)}


def _describe() -> bytes:
    return own_facts().encode()


_own_facts = ray.remote(num_cpus=0, max_retries=0)(_describe)


@ray.remote(num_cpus=0)
class _Nobody:
    """Holds a card and does nothing with it."""
