"""Stops the run that works on an output, wherever it runs; `rackmill cancel` is the old name."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.options import Json
from pipeline.cli.terminal.console import OUT, note, print_json
from pipeline.humanize import count


def cancel_command(
    output: Annotated[
        str, typer.Argument(metavar="OUTPUT", help="The output folder of the run, any address.")
    ],
    grace: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="For what is in flight; by default faults.grace_seconds of its job.",
        ),
    ] = None,
    wait: Annotated[bool, typer.Option(help="Until it has stopped.")] = True,
    as_json: Json = False,
) -> None:
    """Stop a run gracefully: what is in flight is finished and committed. Exit 0: none is alive
    (--no-wait: it was asked); 1: it did not stop; 2: there is no such output."""
    stop_run(output, grace, wait=wait, as_json=as_json)


def stop_run(output: str, grace: float | None, *, wait: bool, as_json: bool) -> None:
    """Stop the run that works on ``output``, and print how it ended."""
    from pipeline.driver.stop.cancel import cancel

    result = cancel(
        output,
        grace_seconds=grace,
        wait=wait,
        note=note,
    )
    if as_json:
        print_json(result.as_json())
        return
    run = result.run
    if not result.was_alive:
        OUT.print(f"no run is at work on {result.output}")
    elif not result.waited:
        OUT.print(f"asked to stop; how far it is: rackmill status {output}")
        return
    if run is None:
        return
    state = "died" if result.died else "failed" if run.state == "failed" else "stopped"
    left = run.rows - run.rows_done
    if run.state == "ended":
        OUT.print(f"the job is done: {run.course}")
        return
    when = f" after {result.seconds:.1f} s" if result.was_alive else ""
    OUT.print(f"{state}{when}: {run.course}, {count(left)} are left")
    if run.message and run.state == "failed":
        OUT.print(f"  {run.message}")
    OUT.print("  rackmill run with the same job goes on from there")
