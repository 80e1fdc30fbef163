"""`rackmill verify`: proves that a finished dataset is correct, or lists what is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from pipeline.cli.options import Json, OutputFolder
from pipeline.cli.terminal.console import OUT, print_json
from pipeline.humanize import count, plural, size

if TYPE_CHECKING:
    from pipeline.output.verify.dataset import Verification

_SHOWN = 20  # faults; --json has all of them


def verify_command(output: OutputFolder, as_json: Json = False) -> None:
    """Prove that a dataset is whole and right: each input row once and in order, every file as it
    was committed, one schema, counts that add up. Of a schedule's output each run is looked at.
    Exit 0: it is; 1: what is wrong is listed."""
    from pipeline.output.growing.growing import is_growing, parts_of
    from pipeline.output.verify.dataset import verify

    verdicts = [verify(part) for part in parts_of(output)]
    ok = all(verdict.ok for verdict in verdicts)
    if as_json:
        one = [verdict.as_json() for verdict in verdicts]
        print_json({"ok": ok, "output": output, "runs": one} if is_growing(output) else one[0])
    else:
        for verdict in verdicts:
            _print(verdict)
    raise typer.Exit(0 if ok else 1)


def _print(verdict: Verification) -> None:
    output = verdict.output
    for fault in verdict.faults[:_SHOWN]:
        OUT.print(f"{fault.where}: {fault.what}")
        OUT.print(f"  {fault.fix}")
    if len(verdict.faults) > _SHOWN:
        more = count(len(verdict.faults) - _SHOWN)
        OUT.print(f"… and {more} more: rackmill verify {output} --json")
    for note in verdict.notes:
        OUT.print(f"note: {note}")
    what = f"{plural(verdict.rows, 'row')} in {plural(verdict.files, 'file')}"
    if verdict.ok:
        compared = ""
        if verdict.compared_rows:
            compared = f"; kept columns of {plural(verdict.compared_rows, 'row')} are the input's"
        OUT.print(
            f"{output} is whole and right: {what} ({size(verdict.size)}), each input row once and "
            f"in order; hashes, schema and counts match{compared}"
        )
    else:
        OUT.print(f"{output} is not right: {plural(len(verdict.faults), 'fault')} in {what}")
