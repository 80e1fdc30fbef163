"""`rackmill init`: writes a first job file for a user's data."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from pipeline.cli.options import Force
from pipeline.cli.terminal.console import ERR, OUT
from pipeline.errors import UsageError, did_you_mean
from pipeline.job.file.load import load_job

if TYPE_CHECKING:
    from pipeline.cli.try_out.init.new_job import Task

_SAMPLED = 500  # rows


def init_command(
    data: Annotated[str, typer.Argument(metavar="DATA", help="A file, folder or glob.")],
    task: Annotated[
        str | None,
        typer.Option(metavar="TASK", help="classify, extract, summarise, chat or score."),
    ] = None,
    text: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The column that rows are about.")
    ] = None,
    gold: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="A column of right labels.")
    ] = None,
    choices: Annotated[
        str | None, typer.Option(metavar='"A, B, …"', help="The labels of classify.")
    ] = None,
    model: Annotated[str, typer.Option(metavar="MODEL", help="As job files name it.")] = (
        "gemma-3-270m"
    ),
    job: Annotated[
        Path | None, typer.Option("--job", metavar="JOB.yaml", help="Where to write it.")
    ] = None,
    force: Force = False,
) -> None:
    """Look at the columns of data, ask what is wanted, and write a commented job file."""
    from pipeline.cli.try_out.init.new_job import first_rows_of, look, need_column, write_job

    sample = first_rows_of(data, _SAMPLED)
    found = look(sample)
    if text is not None:
        found = replace(found, text=need_column(found, text))
    if gold is not None:
        values = sorted({str(v) for v in sample.column(need_column(found, gold)).to_pylist() if v})
        found = replace(found, gold=gold, choices=tuple(values))
    ERR.print(f"{data}: {', '.join(found.names)}")
    ERR.print(f"  rows are about  {found.text}   (another: --text COLUMN)")
    if found.gold is not None:
        ERR.print(f"  right labels    {found.gold}: {', '.join(found.choices)}   (--gold COLUMN)")
    wanted = _task(task, labels=bool(found.choices or choices))
    labels = [one.strip() for one in (choices or "").split(",") if one.strip()]
    if wanted == "classify" and not labels and not found.choices and sys.stdin.isatty():
        answer = typer.prompt("The labels, with commas between them", err=True)
        labels = [one.strip() for one in answer.split(",") if one.strip()]
    name = _name(data)
    target = job or Path(f"{name}.yaml")
    if target.exists() and not force:
        raise UsageError(f"{target} is there already", "name another: --job FILE, or --force")
    target.write_text(
        write_job(data, wanted, found, name=name, model=model, choices=labels), encoding="utf-8"
    )
    load_job(target)  # checks the written file; an error is reported with its line
    OUT.print(f"{target}")
    ERR.print(f"next: rackmill plan {target} --show 3, rackmill try {target}")


def _task(named: str | None, *, labels: bool) -> Task:
    from pipeline.cli.try_out.init.new_job import TASKS

    if named is None:
        usual = "classify" if labels else "summarise"
        if not sys.stdin.isatty():
            return cast("Task", usual)
        for name, what in TASKS.items():
            ERR.print(f"  {name:<10} {what}")
        named = typer.prompt("What is wanted?", default=usual, err=True)
    if named not in TASKS:
        hints = did_you_mean(str(named), TASKS) or [f"tasks: {', '.join(TASKS)}"]
        raise UsageError(f"--task {named}: there is no such task", *hints)
    return cast("Task", named)


def _name(data: str) -> str:
    stem = Path(data.rstrip("/*")).name.split(".")[0]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._") or "job"
