"""The driver's loop: hires workers, watches over them, replaces those that were lost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.data.plan import Plan
from pipeline.data.units import predicted_costs
from pipeline.engine.machine import cpu_environment
from pipeline.engine.vllm_engine import environment as vllm_environment
from pipeline.errors import EngineFailed, JobFailed, RackmillError
from pipeline.fleet.coordinator import Snapshot
from pipeline.fleet.forecast import Forecast
from pipeline.fleet.provenance import provenance
from pipeline.fleet.watcher import Watcher
from pipeline.fleet.work import WorkerSpec
from pipeline.spec.job import Job

_MAX_RESTARTS = 3
_POLL_SECONDS = 1.0


def work_through(
    plan: Plan, forecast: Forecast, cluster: Any, watcher: Watcher, expected_tokens: float | None
) -> Snapshot:
    """Run workers until every unit is committed. ``expected_tokens``: of an answer, if known."""
    from pipeline.fleet.cluster import CoordinatorHandle, Placement, WorkerHandle, wait_for_any

    job = plan.job
    crews = [placed.crew for placed in forecast.placed]
    simulated = job.engine.kind == "simulated"
    gpus = 0 if simulated or crews[0].shared else forecast.engines
    workers = forecast.engines
    watcher.planned(plan, forecast)

    spec = WorkerSpec(
        job=_with_absolute_folders(job),
        shards=tuple(replace(s, path=_absolute(s.path)) for s in plan.input.files.shards),
        input_schema=plan.input.files.schema,
        columns=plan.input.columns,
        model=plan.model,
        engine_arguments={p.crew.name: p.choice.arguments for p in forecast.placed},
        provenance=provenance(plan),
        expected_tokens=expected_tokens,
    )

    def placement(number: int) -> Placement:
        if simulated:
            return Placement(0, {})
        eager = any(a.get("enforce_eager") for a in spec.engine_arguments.values())
        environment = vllm_environment(gpu=bool(gpus), eager=eager)
        if not gpus:
            environment |= cpu_environment(number, workers)
        return Placement(1 if gpus else 0, environment)

    done = [record.span for record in plan.committed.values()]
    rates = {p.crew.name: 1 / p.estimate.cost.seconds for p in forecast.placed}
    costs = predicted_costs(plan.units, plan.input.files.shards)
    coordinator = CoordinatorHandle(plan.units, done, rates, costs)
    cards = [p.crew.name for p in forecast.placed for _ in range(p.crew.number)]
    crew: dict[int, WorkerHandle] = {}
    restarts = 0

    def hire(number: int) -> None:
        name = f"worker-{number}" + (f".{restarts}" if restarts else "")
        coordinator.join(name, cards[number])
        crew[number] = WorkerHandle(name, spec, coordinator, placement(number))

    for number in range(workers):
        hire(number)
    try:
        while crew:
            wait_for_any(list(crew.values()), _POLL_SECONDS)
            snapshot = coordinator.snapshot()
            watcher.progress(snapshot, plan)
            for number, worker in list(crew.items()):
                if snapshot.done and worker.name not in snapshot.engines:
                    worker.kill()  # others were done before its engine was loaded
                    del crew[number]
                    continue
                silent = worker.name in snapshot.silent
                if silent:
                    worker.kill()
                elif not worker.ended():
                    continue
                del crew[number]
                why = "nothing was heard of it for too long" if silent else worker.failure()
                if why is None:
                    continue
                if isinstance(why, RackmillError) and not isinstance(why, EngineFailed):
                    raise why
                hopeless = coordinator.worker_lost(worker.name)
                restarts += 1
                if hopeless or restarts > _MAX_RESTARTS * workers:
                    log = f"its output is in {cluster.log_folder}"
                    raise JobFailed(f"{worker.name} stopped: {why}", log)
                watcher.worker_lost(worker.name, str(why))
                hire(number)
        final = coordinator.snapshot()
        watcher.progress(final, plan)
        return final
    finally:
        for worker in crew.values():
            worker.kill()


def _absolute(path: str) -> str:
    """A local path that holds in any process's working folder; other addresses as they are."""
    return path if "://" in path else str(Path(path).resolve())


def _with_absolute_folders(job: Job) -> Job:
    output = job.output.model_copy(update={"path": _absolute(job.output.path)})
    store = job.duplicates.store
    absolute = {"store": _absolute(store)} if store is not None else {}
    duplicates = job.duplicates.model_copy(update=absolute)
    return job.model_copy(update={"output": output, "duplicates": duplicates})
