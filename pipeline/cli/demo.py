"""`rackmill demo`: 512 tweets labelled, wherever rackmill is installed, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.columns import columns_of, padded
from pipeline.cli.console import OUT, note
from pipeline.cli.options import Fresh, Output, Settings, load_with

if TYPE_CHECKING:
    from pipeline.report.summary import Summary

_JOB, _DATA = "label-tweets.yaml", "data/tweets"
_WRONG = 3
_BAR_CHARACTERS = 40
_PACKAGE = Path(__file__).parents[1]


def gallery() -> Path:
    """The folder of example jobs, with their data: part of the package where that was installed
    from a wheel, in a clone the one beside it."""
    installed = _PACKAGE / "gallery"
    return installed if installed.is_dir() else _PACKAGE.parent / "jobs"


def demo_command(
    rows: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Only the first N of 512.")
    ] = None,
    output: Output = None,
    settings: Settings = None,
    fresh: Fresh = False,
) -> None:
    """Label 512 tweets with Gemma 3 270M, into runs/label-tweets in this folder, and show how well
    that went. Exit codes are those of `run`."""
    note("demo    512 tweets that people graded: negative, or positive?")
    data = (gallery() / _DATA).resolve()
    here = Path.cwd().resolve()
    if data.is_relative_to(here):  # as the job file says it: `run` goes on with the same output
        data = data.relative_to(here)
    changes = [f"input.path={data}", *(settings or [])]
    job = load_with(gallery() / _JOB, changes, output=output)
    from pipeline.cli.run.watch import attended, print_result
    from pipeline.driver.run import RunOptions, run

    with attended() as (watcher, stop):
        summary = run(job, RunOptions(rows, fresh), watcher, stop)
    print_result(summary)
    if summary.labels:
        _picture(summary)
    raise typer.Exit(summary.exit_code)


def _picture(summary: Summary) -> None:
    from pipeline.cli.show import row_lines
    from pipeline.humanize import plural
    from pipeline.output.commit.records import PAGE
    from pipeline.output.stored_rows import StoredRows
    from pipeline.report import selection

    OUT.print()
    for line in share_lines(summary.labels, OUT.width):
        OUT.print(line)
    if summary.accuracy is not None:
        right = f"{summary.graded_right} of {plural(summary.graded, 'row')}"
        OUT.print(f"\nas people graded them: {right}, {100 * summary.accuracy:.1f} %")
    stored = StoredRows(summary.output)
    wrong = selection.rows(stored, selection.Selection(wrong=True, rows=_WRONG))
    if wrong:
        OUT.print("\nwhere they differ, for example:")
    for line in row_lines(stored, wrong, OUT.width):
        OUT.print(line)
    OUT.print(f"\nmore of them:  rackmill show {summary.output} --wrong")
    OUT.print(f"the report:    {summary.output}/{PAGE}")


def share_lines(labels: Mapping[str, int], width: int) -> list[str]:
    """A line for each label, of ``width`` columns at most where its name leaves room for a bar:
    name, bar, how many, and which share of all."""
    from pipeline.humanize import count

    names = max(map(columns_of, labels), default=0)
    numbers = max((len(count(n)) for n in labels.values()), default=0)
    room = max(1, min(_BAR_CHARACTERS, width - names - numbers - len("     100 %")))
    most, every = max(labels.values(), default=0), sum(labels.values())
    return [
        f"{padded(name, names)}  {'█' * max(1, round(n / most * room)) if n else '':<{room}}  "
        f"{count(n):>{numbers}} {n / every:>4.0%}".replace("%", " %")
        for name, n in labels.items()
    ]
