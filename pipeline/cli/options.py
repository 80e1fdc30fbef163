"""Arguments and options that several commands share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from pipeline.job.file.load import load_job
from pipeline.job.job import Job


def set_option(help: str) -> Any:
    """``--set KEY.PATH=VALUE``."""
    return typer.Option("--set", metavar="KEY.PATH=VALUE", help=help)


def rows_option(help: str) -> Any:
    """``--rows N``, for a command that needs at least one row."""
    return typer.Option(min=1, metavar="N", help=help)


def results_option(help: str) -> Any:
    """``--output PATH``, for the results of a command over several models or outputs."""
    return typer.Option(metavar="PATH", help=help)


def address_option(help: str) -> Any:
    """``--address HOST:PORT``, of a Ray."""
    return typer.Option(metavar="HOST:PORT", help=help)


JobFile = Annotated[Path, typer.Argument(metavar="JOB.yaml", help="The job file.")]
OutputFolder = Annotated[
    str, typer.Argument(metavar="OUTPUT", help="The output folder, any address.")
]
Output = Annotated[str | None, typer.Option(metavar="PATH", help="Instead of output.path.")]
Rows = Annotated[int | None, typer.Option(min=0, metavar="N", help="Only the first N rows.")]
Settings = Annotated[list[str] | None, set_option("Change one setting (may be repeated).")]
Workers = Annotated[int | None, typer.Option(min=1, metavar="N", help="Engines to run at once.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Start over: forget what the output holds.")]
RackAddress = Annotated[
    str | None, address_option("Of the rack's head; else the rack of this machine.")
]
KvDtype = Annotated[
    Literal["auto", "bf16", "fp8"], typer.Option(help="What the KV cache is kept in.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace a file that is there.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else.")]


def load_with(
    path: Path, settings: list[str] | None, *, output: str | None, workers: int | None = None
) -> Job:
    """The job from a file, with the changes from the command line."""
    lines = list(settings or [])
    if output is not None:
        lines.append(f"output.path={json.dumps(output)}")
    if workers is not None:
        lines.append(f"resources.workers={workers}")
    return load_job(path, lines)
