"""The `rackmill` command: data on stdout, everything else on stderr, exit codes for scripts."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from pipeline.cli.calibrate import calibrate_command
from pipeline.cli.cancel import cancel_command
from pipeline.cli.clean import clean_command
from pipeline.cli.console import make_console, prepare_streams, print_json
from pipeline.cli.fit import fit_command
from pipeline.cli.jobs import (
    drive_command,
    jobs_command,
    logs_command,
    stop_command,
    submit_command,
    watch_command,
)
from pipeline.cli.model import model_app
from pipeline.cli.quality import quality_command
from pipeline.cli.rack import rack_address, rack_app
from pipeline.cli.retry import retry_command
from pipeline.cli.schedule import schedule_app, scheduler_command
from pipeline.cli.simulate import simulate_command
from pipeline.cli.status import status_command
from pipeline.cli.verify import verify_command
from pipeline.errors import RackmillError, Stopped, UsageError
from pipeline.job.file.load import line_of, load_job
from pipeline.job.job import Job
from pipeline.printable import without_secrets

app = typer.Typer(
    name="rackmill",
    help="Batch inference on gaming GPUs: label datasets with int4 Gemma 3, Parquet to Parquet.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(model_app)
app.add_typer(rack_app)
app.add_typer(schedule_app)
app.command("scheduler")(scheduler_command)
app.command("submit")(submit_command)
app.command("jobs")(jobs_command)
app.command("watch")(watch_command)
app.command("logs")(logs_command)
app.command("stop")(stop_command)
app.command("drive", hidden=True)(drive_command)
app.command("fit")(fit_command)
app.command("quality")(quality_command)
app.command("simulate")(simulate_command)
app.command("calibrate")(calibrate_command)
app.command("status")(status_command)
app.command("cancel")(cancel_command)
app.command("retry")(retry_command)
app.command("verify")(verify_command)
app.command("clean")(clean_command)
_STOPPED = 130  # what shells say of a command that Ctrl-C ended
_LONGEST_LINE = 2000  # characters of a message: names from outside may be of any length
_err = make_console(stderr=True)

JobFile = Annotated[Path, typer.Argument(metavar="JOB.yaml", help="The job file.")]
Output = Annotated[str | None, typer.Option(metavar="PATH", help="Instead of output.path.")]
Rows = Annotated[int | None, typer.Option(min=0, metavar="N", help="Only the first N rows.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY.PATH=VALUE", help="Change one setting (may be repeated)."),
]
Workers = Annotated[int | None, typer.Option(min=1, metavar="N", help="Engines to run at once.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Start over: forget what the output holds.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else.")]


@app.command("run")
def run_command(
    job: JobFile,
    output: Output = None,
    rows: Rows = None,
    workers: Workers = None,
    settings: Set = None,
    fresh: Fresh = False,
    address: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="On this rack; auto: the one of this machine."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Do the job. Exit 0: every row succeeded; 3: some failed; 1: not finished; 2: bad input;
    130: stopped on request."""
    from pipeline.cli.interrupts import stopping_on_signals
    from pipeline.cli.watch import make_watcher, print_result
    from pipeline.driver.run import RunOptions, run
    from pipeline.driver.stop import Stop
    from pipeline.service.queue.unsubmitted_runs import guest_of

    loaded = load_with(job, settings, output=output, workers=workers)
    address = rack_address(address) if address == "auto" else address
    watcher, stop = make_watcher(_err), Stop()
    # Ray prints to stdout what it thinks of dying workers; data alone belongs there
    with (
        watcher,
        contextlib.redirect_stdout(sys.stderr),
        stopping_on_signals(stop),
        guest_of(address, loaded) as queued,
    ):
        options = RunOptions(rows, fresh, address, queued, patient=queued is not None)
        summary = run(loaded, options, watcher, stop)
    if as_json:
        print_json(summary.as_json())
    else:
        print_result(_err, summary)
    raise typer.Exit(summary.exit_code)


@app.command("plan")
def plan_command(
    job: JobFile,
    output: Output = None,
    rows: Rows = None,
    settings: Set = None,
    workers: Workers = None,
    fresh: Fresh = False,
    gpus: Annotated[
        str | None, typer.Option(metavar='"4x rtx3090,…"', help="For these cards, not for mine.")
    ] = None,
    price_kwh: Annotated[
        float | None,
        typer.Option(min=0, metavar="PRICE", help="Of a kWh; else resources.price_kwh, or 0.30."),
    ] = None,
    price_gpu_hour: Annotated[
        float, typer.Option(min=0, metavar="PRICE", help="Of renting one card for an hour.")
    ] = 0.0,
    watts: Annotated[
        float | None, typer.Option(min=0, metavar="W", help="Of one card, not its board power.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say what `run` would do, whether it fits, how long it takes and what it costs."""
    from pipeline.budget.cards.lookup import parse_gpus
    from pipeline.cli.show_plan import plan_as_json, print_plan
    from pipeline.cluster.engine_groups import asked_groups, local_groups
    from pipeline.driver.forecast.forecast import Forecaster
    from pipeline.driver.forecast.types import Prices
    from pipeline.driver.plan import check_input, make_plan
    from pipeline.engine.load import check_answer_shape
    from pipeline.input.shards import check_whole
    from pipeline.report.profile import load_profile

    loaded = load_with(job, settings, output=output, workers=workers)
    if gpus:
        parse_gpus(gpus)  # what is wrong with it is said at once
    inputs = check_input(loaded, rows)
    for line in inputs.files.waiting:
        _note(line)
    check_answer_shape(loaded)
    plan = make_plan(inputs, fresh=fresh, report=_note, fetch=False)
    forecast, fits = None, []
    if any(unit.rows for unit in plan.missing):
        known = loaded.resources.price_kwh if price_kwh is None else price_kwh
        prices = Prices(Prices().per_kwh if known is None else known, price_gpu_hour, watts)
        forecaster = Forecaster(plan, load_profile(), prices)
        if gpus:
            groups = asked_groups(loaded, gpus, forecaster.spread, _note)
        else:
            groups = local_groups(loaded, len(plan.missing), forecaster.spread, _note)
        groups = forecaster.usable(groups, _note)
        fits = forecaster.fits(groups)
        forecast = forecaster.forecast(groups)
    if as_json:
        print_json(plan_as_json(plan, forecast, fits))
    else:
        print_plan(make_console(), plan, forecast, fits)
    check_whole(plan.input.files)


@app.command("doctor")
def doctor_command(as_json: Json = False) -> None:
    """Say what is wrong with this machine, and how to fix it."""
    from pipeline.cli.doctor import examine, print_findings

    findings = examine()
    if as_json:
        print_json({"ok": all(f.ok for f in findings), "findings": [vars(f) for f in findings]})
    else:
        print_findings(make_console(), findings)
    raise typer.Exit(0 if all(f.ok for f in findings) else 1)


def load_with(
    path: Path, settings: list[str] | None, *, output: str | None, workers: int | None = None
) -> Job:
    """The job of a file, with what the command line says of it."""
    lines = list(settings or [])
    if output is not None:
        lines.append(f"output.path={json.dumps(output)}")
    if workers is not None:
        lines.append(f"resources.workers={workers}")
    return load_job(path, lines)


def _note(line: str) -> None:
    _err.print(line, style="dim", markup=False)


def main() -> None:
    """The entry point: no traceback reaches a user."""
    prepare_streams()
    try:
        code = app(standalone_mode=False)
        if code == _STOPPED:  # what typer makes of Ctrl-C
            raise KeyboardInterrupt
        sys.exit(code if isinstance(code, int) else 0)
    except RackmillError as error:
        _explain(error)
        _leave(error.exit_code)
    except BrokenPipeError:
        sys.exit(1)
    except (KeyboardInterrupt, typer.Abort):
        _err.print("stopped")
        _leave(_STOPPED)
    except Exception as e:
        if hasattr(e, "format_message"):  # click's own complaints about arguments
            _err.print(f"error: {e.format_message()}", markup=False)
            sys.exit(2)
        _crash(e)


def program() -> NoReturn:
    """``main`` as a process of its own, up to its very end.

    Libraries in C++ have threads that are not always over when the process tears their variables
    down: once in some hundred runs it was aborted then, after all was done and said. So what Python
    has to do at the end is done, and nothing else.
    """
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # it is heeded as Ctrl-C is
    try:
        main()
        code = 0
    except SystemExit as e:
        code = e.code if isinstance(e.code, int) else int(e.code is not None)
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):  # nobody reads it, the disk is full, it is closed
            code = code or 1
    os._exit(code)


def _leave(code: int) -> NoReturn:
    """End now, even while a Ray starts in the background that nobody needs any more."""
    background = sys.modules.get("pipeline.cluster.background")
    if background is not None and background.is_starting():
        sys.stdout.flush()
        sys.stderr.flush()
        background.end_what_starts()
        os._exit(code)
    sys.exit(code)


def _explain(error: RackmillError) -> None:
    said = "" if isinstance(error, Stopped) else f"error: {_where(error)}"
    # a line break may be in a file's name: what follows is to look like nothing of ours
    texts = (f"{said}{error.message}", *(f"  {hint}" for hint in error.hints))
    for line in (text.replace("\n", "\n  ") for text in texts):
        short = line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]}…"
        _err.print(short, markup=False)


def _where(error: RackmillError) -> str:
    """The job file's line, or the option, for an error that begins with one of its keys."""
    if not isinstance(error, UsageError):
        return ""
    dotted = error.message.split(" ")[0].rstrip(":")
    key = dotted.split(".")[0]
    for option, value in zip(sys.argv, [*sys.argv[1:], ""], strict=True):
        if option == "--set" and value.partition("=")[0].split(".")[0] == key:
            return f"--set {value}: "
        if option == "--output" and dotted == "output.path":
            return "--output: "
    path = next((Path(a) for a in sys.argv[1:] if a.endswith((".yaml", ".yml"))), None)
    if path is None or key not in Job.model_fields:
        return ""
    return f"{line_of(path, dotted)}: "


def _crash(e: Exception) -> None:
    """A mistake of ours: one line for the user, the traceback in a file."""
    import tempfile
    import traceback

    with tempfile.NamedTemporaryFile(
        "w", prefix="rackmill-crash-", suffix=".txt", delete=False
    ) as file:
        file.write(without_secrets("".join(traceback.format_exception(e))))
    _err.print(f"error: rackmill failed unexpectedly: {type(e).__name__}: {e}", markup=False)
    _err.print(f"  this is a defect; please report it with {file.name}", markup=False)
    sys.exit(1)


if __name__ == "__main__":
    program()
