"""`rackmill clean`: removes files that runs left next to a dataset."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.options import Json, OutputFolder
from pipeline.cli.terminal.console import OUT, print_json
from pipeline.humanize import plural, size


def clean_command(
    output: OutputFolder,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be removed.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Remove abandoned attempts, half-written files and records of old runs; never anything that
    a commit record names. Exit 1 while a run is at work there: nothing is touched then."""
    from pipeline.output.clean import find_litter, summed_up
    from pipeline.output.dataset import Dataset
    from pipeline.storage.base import open_storage

    dataset = Dataset(open_storage(output))
    litter = find_litter(dataset)
    if not dry_run:
        dataset.delete_all(one.path for one in litter)
    total = sum(one.size for one in litter)
    if as_json:
        print_json(
            {
                "output": output,
                "removed": not dry_run,
                "files": [vars(one) for one in litter],
                "bytes": total,
            }
        )
        return
    verb = "would remove" if dry_run else "removed"
    for kind, (files, there) in summed_up(litter).items():
        OUT.print(f"  {kind}: {plural(files, 'file')}, {size(there)}")
    if litter:
        OUT.print(f"{verb} {plural(len(litter), 'file')}, {size(total)}")
    else:
        OUT.print(f"nothing to remove in {output}")
