"""`rackmill schedule`: jobs that run by themselves, and the service that runs them."""

from __future__ import annotations

import signal
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.options import Json, address_option, set_option
from pipeline.cli.terminal.console import ERR, OUT, print_json
from pipeline.errors import JobFailed, UsageError
from pipeline.humanize import plural, rate
from pipeline.input.output_apart import check_places
from pipeline.job.file.load import job_from, load_job
from pipeline.job.when.cron import Cron
from pipeline.logs import file_log
from pipeline.printable import printable
from pipeline.user_folder import state_folder

if TYPE_CHECKING:
    from pipeline.service.scheduler.schedule_db import Run, ScheduleDb, StoredSchedule

schedule_app = typer.Typer(
    name="schedule",
    help="Jobs that run by themselves, each time over what is new in their input.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
_SHOWN_TIMES = 5
_POLL_SECONDS = 1.0

Name = Annotated[str, typer.Argument(metavar="NAME", help="The schedule: its job's name.")]
State = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Where schedules are kept; else schedules.db in $RACKMILL_STATE or ~/.local/state.",
    ),
]


def _state_file(given: Path | None) -> Path:
    return state_folder() / "schedules.db" if given is None else given.absolute()


def _db(given: Path | None) -> ScheduleDb:
    """The schedules in the given file, or in the usual one."""
    from pipeline.service.scheduler.schedule_db import ScheduleDb

    return ScheduleDb(_state_file(given))


@schedule_app.command("apply")
def apply_command(
    files: Annotated[list[Path], typer.Argument(metavar="JOB.yaml…", help="Job files.")],
    state: State = None,
    settings: Annotated[list[str] | None, set_option("Change one setting of each.")] = None,
    as_json: Json = False,
) -> None:
    """Have these jobs run when their `schedule:` says. Applied again, a file replaces itself."""
    from pipeline.input.changes.compare import absolute
    from pipeline.output.growing.growing import GrowingDataset
    from pipeline.output.runs.job_file import job_content

    jobs = [load_job(path, settings or ()) for path in files]
    for path, job in zip(files, jobs, strict=True):
        if job.schedule is None:
            raise UsageError(
                f"{path}: the job has no schedule",
                'add, for example: schedule: {cron: "0 2 * * *", timezone: Europe/Berlin}',
            )
        check_places(job)
        GrowingDataset(job.output.path).published()
    db = _db(state)
    now = datetime.now(UTC)
    applied = []
    for job in jobs:
        times = job.schedule
        assert times is not None
        output = absolute(job.output.path)
        new = db.apply(job.name, job_content(job), output, now, suspended=times.suspend)
        following = Cron(times.cron, times.timezone).next_times(now, _SHOWN_TIMES)
        applied.append({"name": job.name, "new": new, "output": output,
                        "next": [t.isoformat() for t in following]})  # fmt: skip
        if not as_json:
            OUT.print(f"{job.name} {'added' if new else 'changed'} → {output}")
            shown = ", ".join(f"{t:%a %Y-%m-%d %H:%M %Z}" for t in following)
            OUT.print("  suspended" if times.suspend else f"  next: {shown}")
    if as_json:
        print_json({"applied": applied})
    elif not _service_runs(db.path):
        ERR.print("no scheduler is running: start one with rackmill schedule serve")


@schedule_app.command("list")
def list_command(state: State = None, as_json: Json = False) -> None:
    """All schedules: when each runs next, and how its last run ended."""
    db = _db(state)
    now = datetime.now(UTC)
    found = []
    for schedule in db.schedules():
        times = schedule.job["schedule"]
        cron = Cron(times["cron"], times.get("timezone", "UTC"))
        runs = db.runs(schedule.name)
        last = runs[0] if runs else None
        found.append(
            {
                "name": schedule.name,
                "cron": cron.line,
                "timezone": cron.timezone,
                "suspended": schedule.suspended,
                "next": None
                if schedule.suspended
                else cron.next_times(now, 1)[0].isoformat(timespec="minutes"),
                "last": str(last.state) if last else None,
                "last_due": last.due.isoformat(timespec="seconds") if last else None,
                "output": schedule.output,
            }
        )
    if as_json:
        print_json({"schedules": found, "scheduler_running": _service_runs(db.path)})
        return
    if not found:
        OUT.print("no schedules; rackmill schedule apply JOB.yaml adds one")
    for one in found:
        OUT.print(f"{one['name']}  {one['cron']}  {one['timezone']} → {one['output']}")
        coming = "suspended" if one["suspended"] else f"next {one['next']}"
        last_run = f"last {one['last']} ({one['last_due']})" if one["last"] else "never ran"
        OUT.print(f"  {coming} · {last_run}")


@schedule_app.command("run-now")
def run_now_command(
    name: Name,
    full: Annotated[
        bool, typer.Option("--full", help="All of the input, in place of what is there.")
    ] = False,
    state: State = None,
    as_json: Json = False,
) -> None:
    """Run once, now, and wait for the end. Exit codes as of `run`."""
    from pipeline.service.scheduler.notify import Notifier
    from pipeline.service.scheduler.process import RunProcess
    from pipeline.service.scheduler.schedule_db import RunState
    from pipeline.service.scheduler.service import only_one

    db = _db(state)
    schedule = db.schedule(name)
    now = datetime.now(UTC)
    run = db.begin(name, now, now, manual=True, full=full)
    assert run is not None  # none began in this very microsecond
    while run is not None and run.state is RunState.UNDER_WAY:
        key = run.key
        try:
            with only_one(db.path), file_log(_service_log(db.path)):
                ended = RunProcess(db.path, schedule, run).wait(sys.stderr)
                db.end(run, ended, datetime.now(UTC))
                if (run := db.run(key)) is not None:
                    Notifier(db).tell(schedule, run)
        except UsageError:  # a scheduler is running: it does the work
            time.sleep(_POLL_SECONDS)
            run = db.run(key)
    if run is None:
        raise JobFailed(f"the schedule {name} was deleted meanwhile")
    if run.state is not RunState.SUCCEEDED:
        raise JobFailed(f"the run of {name} {run.state}: {run.reason or ''}")
    result = dict(run.result or {})
    if as_json:
        print_json(result)
    else:
        ERR.print(f"→ {schedule.output}")
    summary = result.get("summary")
    raise typer.Exit(3 if summary and summary["failed"] else 0)


@schedule_app.command("suspend")
def suspend_command(name: Name, state: State = None) -> None:
    """Let no more runs begin; one that is under way goes on."""
    _db(state).suspend(name, suspended=True)


@schedule_app.command("resume")
def resume_command(name: Name, state: State = None) -> None:
    """Let runs begin again. The last time that was missed is made up for at once, unless
    `startingDeadlineSeconds` says that it is too late."""
    _db(state).suspend(name, suspended=False)


@schedule_app.command("delete")
def delete_command(name: Name, state: State = None) -> None:
    """Forget the schedule and its history. The dataset stays."""
    _db(state).delete(name)


@schedule_app.command("history")
def history_command(name: Name, state: State = None, as_json: Json = False) -> None:
    """What the runs of a schedule came to, the newest first."""
    db = _db(state)
    schedule = db.schedule(name)
    runs = db.runs(name)
    if as_json:
        each = [run.as_json() for run in runs]
        print_json({"name": name, "output": schedule.output, "runs": each})
        return
    for run in runs:
        OUT.print(f"{run.due:%Y-%m-%d %H:%M:%S}  {run.state}{_in_words(run)}")
    OUT.print(f"→ {schedule.output}/_history/history.md" if runs else "never ran")


@schedule_app.command("logs")
def logs_command(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="Its last run; else the scheduler itself."),
    ] = None,
    state: State = None,
) -> None:
    """What the scheduler did, by time (UTC); or what the last run of a schedule said."""
    from pipeline.service.scheduler.process import last_log

    path = _state_file(state)
    if name is None:
        log = _service_log(path)
        logs = [one for one in (log.with_name(f"{log.name}.1"), log) if one.exists()]
        if not logs:
            raise UsageError(
                f"no scheduler has logged to {log}", "start one with rackmill schedule serve"
            )
    else:
        _db(state).schedule(name)
        last = last_log(path, name)
        if last is None:
            raise UsageError(f"{name} never ran", f"rackmill schedule run-now {name} runs it now")
        logs = [last]
    ERR.print("\n".join(f"→ {log}" for log in logs))
    for log in logs:
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
            OUT.print(printable(line))


@schedule_app.command("serve")
def serve_command(
    state: State = None,
    address: Annotated[str | None, address_option("Runs join this Ray.")] = None,
    notify_command: Annotated[
        str | None,
        typer.Option(metavar="CMD", help="Gets each run's end as JSON on stdin; no shell."),
    ] = None,
) -> None:
    """Run scheduled jobs, until stopped: the service. One for each file of schedules."""
    from pipeline.service.scheduler.notify import Notifier
    from pipeline.service.scheduler.process import RunProcess
    from pipeline.service.scheduler.service import Service, only_one

    db = _db(state)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())

    def begin(schedule: StoredSchedule, run: Run) -> RunProcess:
        ERR.print(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}  {schedule.name}: run of {run.due}")
        return RunProcess(db.path, schedule, run, address)

    with only_one(db.path), file_log(_service_log(db.path)):
        service = Service(db, begin, Notifier(db, notify_command))
        there = plural(len(db.schedules()), "schedule")
        ERR.print(f"scheduler: {there} in {db.path}; log: {_service_log(db.path)}")
        try:
            while not stop.is_set():
                service.tick()
                stop.wait(_POLL_SECONDS)
        finally:
            service.stop()


@schedule_app.command("run-once", hidden=True)
def perform_command(
    name: Name,
    due: str,
    parent: int,
    state: Annotated[Path, typer.Option()],
    full: bool = False,
    address: str | None = None,
) -> None:
    """What the scheduler runs for one run: its result is one JSON object on stdout."""
    from pipeline.cli.run.run_watcher import attended
    from pipeline.service.queue.unsubmitted_runs import guest_of
    from pipeline.service.scheduler.process import end_with
    from pipeline.service.scheduler.run_once import run_once

    end_with(parent)
    job = job_from(_db(state).schedule(name).job)
    alone = job.schedule is None or job.schedule.concurrencyPolicy != "Allow"
    with attended() as (watcher, stop), guest_of(address, job) as queued:
        done = run_once(
            job,
            datetime.fromisoformat(due),
            full=full,
            alone=alone,
            address=address,
            queued=queued,
            watcher=watcher,
            stop=stop,
        )
    print_json(done.as_json())
    raise typer.Exit(done.exit_code)


def _service_log(path: Path) -> Path:
    """The log of the scheduler for the schedules in ``path``."""
    return path.with_suffix(".log")


def _service_runs(path: Path) -> bool:
    from pipeline.service.scheduler.service import is_running

    return is_running(path)


def _in_words(run: Run) -> str:
    from pipeline.output.runs.status import taken_back
    from pipeline.report.trust.words import taken_back_words

    if run.reason:
        return f" · {run.reason}"
    result = run.result or {}
    summary = result.get("summary")
    if summary is None:
        return " · nothing new" if run.result is not None else ""
    parts = [
        plural(summary["rows"], "row"),
        f"{rate(summary['rows_per_second'])} rows/s",
        f"{summary['failed']} failed",
    ]
    if summary.get("accuracy") is not None:
        parts.append(f"accuracy {summary['accuracy']:.3f}")
    if result.get("drift") is not None:
        parts.append(f"drift {result['drift']:.3f}")
    parts += taken_back_words(taken_back(summary))
    if run.notice:
        parts.append(f"notice not delivered: {run.notice}")
    return " · " + " · ".join(parts)
