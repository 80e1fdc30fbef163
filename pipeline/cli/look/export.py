"""`rackmill export`: a dataset as one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.look.show import Where
from pipeline.cli.options import Force, Json, OutputFolder
from pipeline.cli.terminal.console import OUT, print_json
from pipeline.errors import UsageError
from pipeline.humanize import plural, size


def export_command(
    output: OutputFolder,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A .csv, .parquet, .jsonl or .xlsx file.")
    ],
    where: Where = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Write a dataset as one file: CSV, Parquet, JSON Lines or a spreadsheet."""
    from pipeline.output.export import export
    from pipeline.output.rows.stored_rows import StoredRows
    from pipeline.report.selection import Selection, tables

    stored = StoredRows(output)
    check_target(output, file, force=force)
    rows = export(tables(stored, Selection(where=where)), stored.schema, file)
    written = file.stat().st_size
    if as_json:
        print_json({"output": output, "file": str(file), "rows": rows, "bytes": written})
    else:
        OUT.print(f"{plural(rows, 'row')} → {file} ({size(written)})")


def check_target(output: str, file: Path, *, force: bool) -> None:
    """Raise UsageError for a file that exists, or would be among the data of ``output``."""
    if file.exists() and not force:
        raise UsageError(f"{file} is there already", "replace it with --force, or name another")
    if "://" not in output and file.resolve().is_relative_to(Path(output).resolve()):
        raise UsageError(f"{file} lies in the output: readers would take it for data")
