"""All commands, in the order and the groups in which `rackmill --help` lists them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer
import typer.core

from pipeline.cli.look.clean import clean_command
from pipeline.cli.look.compare import compare_command
from pipeline.cli.look.export import export_command
from pipeline.cli.look.judge import judge_command
from pipeline.cli.look.review import review_command
from pipeline.cli.look.show import show_command
from pipeline.cli.look.trust import trust_command
from pipeline.cli.look.verify import verify_command
from pipeline.cli.models_and_machines.calibrate import calibrate_command
from pipeline.cli.models_and_machines.doctor.command import doctor_command
from pipeline.cli.models_and_machines.model.command import model_app
from pipeline.cli.models_and_machines.quality import quality_command
from pipeline.cli.models_and_machines.simulate.command import simulate_command
from pipeline.cli.rack.command import rack_app
from pipeline.cli.rack.jobs.command import (
    drive_command,
    jobs_command,
    stop_command,
    submit_command,
    watch_command,
)
from pipeline.cli.rack.logs import logs_command
from pipeline.cli.run.command import run_command
from pipeline.cli.run.retry import retry_command
from pipeline.cli.run.status import status_command
from pipeline.cli.run.stop import cancel_command
from pipeline.cli.schedule import schedule_app, serve_command
from pipeline.cli.try_out.demo import demo_command
from pipeline.cli.try_out.fit.command import fit_command
from pipeline.cli.try_out.init.command import init_command
from pipeline.cli.try_out.plan.command import plan_command
from pipeline.cli.try_out.trying import try_command

# group -> name -> its function or subcommands, and a short description
_GROUPS: dict[str, dict[str, tuple[Callable[..., None] | typer.Typer, str]]] = {
    "Try": {
        "demo": (demo_command, "512 tweets labelled, on this machine"),
        "init": (init_command, "a first job file for your data"),
        "fit": (fit_command, "which models fit which cards"),
        "plan": (plan_command, "what run would do: cost, time, fit"),
        "try": (try_command, "a few rows at once, the engine stays warm"),
    },
    "Run": {
        "run": (run_command, "do the job"),
        "status": (status_command, "how far a job is, and what next"),
        "stop": (stop_command, "stop a run, or a submitted job"),
        "retry": (retry_command, "do the error rows again"),
    },
    "Look": {
        "show": (show_command, "rows of an output, to look at"),
        "trust": (trust_command, "how right the labels are, and which to accept"),
        "compare": (compare_command, "two outputs: which is better"),
        "judge": (judge_command, "outputs without right answers: which is better"),
        "review": (review_command, "say what is right, on a page"),
        "export": (export_command, "one file: CSV, Parquet, JSONL, Excel"),
        "verify": (verify_command, "prove a dataset whole and right"),
        "clean": (clean_command, "remove what runs left lying"),
    },
    "Rack": {
        "rack": (rack_app, "several machines as one"),
        "submit": (submit_command, "put a job into the rack's queue"),
        "jobs": (jobs_command, "what the queue holds"),
        "watch": (watch_command, "see a submitted job through"),
        "logs": (logs_command, "what a run has said"),
    },
    "Schedule": {
        "schedule": (schedule_app, "jobs that run by themselves"),
    },
    "Models and machines": {
        "model": (model_app, "list, fetch, convert and check models"),
        "quality": (quality_command, "what a conversion costs in quality"),
        "simulate": (simulate_command, "replay a trace on simulated cards"),
        "calibrate": (calibrate_command, "measure this machine for simulate"),
        "doctor": (doctor_command, "what is wrong here, and the fix"),
    },
}


class _Grouped(typer.core.TyperGroup):
    """Lists its commands by group."""

    def format_commands(self, _context: Any, formatter: Any) -> None:
        width = max(len(name) for group in _GROUPS.values() for name in group)
        for title, group in _GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([(f"{n:<{width}}", short) for n, (_, short) in group.items()])


app = typer.Typer(
    name="rackmill",
    cls=_Grouped,
    help="Batch inference on gaming GPUs: label datasets with int4 Gemma 3, Parquet to Parquet.",
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"rackmill {version('rackmill')}")
        raise typer.Exit


@app.callback()
def _top(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001 - its callback says it
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Which this is.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


for _group in _GROUPS.values():
    for _name, (_command, _) in _group.items():
        if isinstance(_command, typer.Typer):
            app.add_typer(_command, name=_name)
        else:
            app.command(_name)(_command)
app.command("drive", hidden=True)(drive_command)
# their earlier names
app.command("cancel", hidden=True)(cancel_command)
app.command("scheduler", hidden=True)(serve_command)
