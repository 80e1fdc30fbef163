"""`rackmill trust`: the accuracy of an output's labels, from a few right answers."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.options import Json, OutputFolder
from pipeline.cli.run.signals import stopping_on_signals
from pipeline.cli.terminal.console import OUT, note, print_json
from pipeline.driver.stop.stop import Stop
from pipeline.humanize import plural


def trust_command(
    output: OutputFolder,
    gold: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE|COLUMN",
            help="Where right answers are, instead of where the job says; of one of several "
            "questions NAME=FILE|COLUMN (may be repeated).",
        ),
    ] = None,
    key: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Of the file and the output: which row.")
    ] = None,
    value: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Of the file: the right answer.")
    ] = None,
    error: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Accept rows of which at most so many are wrong: 0.05."),
    ] = None,
    confidence: Annotated[
        float | None, typer.Option(metavar="SHARE", help="… with this probability: 0.95.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Calibrate labels and confidences by the right answers that are known (a column, a file,
    reviews), accept as many rows as can be promised, and say how good all that is."""
    from pipeline.driver.trust.settings import TrustOptions
    from pipeline.driver.trust.trust import trust
    from pipeline.report.trust.words import lines

    options = TrustOptions(tuple(gold or ()), key, value, error, confidence)
    stop = Stop()
    with stopping_on_signals(stop):
        made = trust(output, options, note, stop)
    if as_json:
        print_json(made.as_json())
        return
    for name, block in made.questions.items():
        several = len(made.questions) > 1
        if several:
            OUT.print(f"{name}:")
        for line in lines(block, output, name if several else None):
            OUT.print(line)
    changed = made.files_changed
    OUT.print(f"{plural(changed, 'file')} written anew" if changed else "nothing had to be changed")
