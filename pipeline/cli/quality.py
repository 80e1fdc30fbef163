"""`rackmill quality`: what a conversion costs, on the user's own texts."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from pipeline.fleet.quality import Comparison
    from pipeline.report.quality import Interval

_out = Console(highlight=False, soft_wrap=True)
_err = Console(stderr=True, highlight=False, soft_wrap=True)


def quality_command(
    reference: Annotated[
        str, typer.Option(metavar="MODEL", help="The model to compare with, as in job files.")
    ],
    candidate: Annotated[
        list[str], typer.Option(metavar="MODEL", help="A model to judge (may be repeated).")
    ],
    data: Annotated[str, typer.Option(metavar="PATH", help="Texts: Parquet, JSON Lines or CSV.")],
    column: Annotated[str, typer.Option(metavar="NAME", help="Their column.")] = "text",
    rows: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Only the first N rows.")
    ] = None,
    output: Annotated[
        str, typer.Option(metavar="PATH", help="Where scores, result and picture go.")
    ] = "runs/quality",
    top_k: Annotated[
        int,
        typer.Option(
            min=2,
            max=16_384,
            metavar="K",
            help="Likeliest tokens kept of each position (8 bytes each): the more, the nearer "
            "the KL divergence is to the exact one.",
        ),
    ] = 2048,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY.PATH=VALUE",
            help="Change one setting of the score jobs (may be repeated).",
        ),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start over: forget what the output holds.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object on stdout, nothing else.")
    ] = False,
) -> None:
    """Perplexity, KL divergence and greedy-token agreement of models against a reference."""
    from pipeline.cli.watch import make_watcher
    from pipeline.fleet.quality import compare
    from pipeline.fleet.run import RunOptions

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # both stop the run the same way
    # Ray prints to stdout what it thinks of dying workers; data alone belongs there
    with contextlib.redirect_stdout(sys.stderr):
        comparison = compare(
            reference,
            candidate,
            data,
            column=column,
            output=output,
            top_k=top_k,
            settings=settings or (),
            options=RunOptions(rows, fresh),
            watch=lambda: make_watcher(_err),
            note=lambda line: _err.print(f"  {line}", style="dim", markup=False),
        )
    if as_json:
        print(json.dumps(comparison.as_json(), indent=1, ensure_ascii=False))
    else:
        print_comparison(_out, comparison)


def print_comparison(console: Console, comparison: Comparison) -> None:
    """The comparison on a screen."""
    from rich.table import Table

    from pipeline.report.units import duration, plural

    def show(value: Interval, digits: str = ".3g") -> str:
        return f"{value.value:{digits}} [{value.low:{digits}}, {value.high:{digits}}]"

    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="")
    for head in ("", "perplexity", "drop", "KL, nats/token", "same greedy token"):
        table.add_column(head, no_wrap=True)
    first = comparison.candidates[0].quality
    table.add_row(comparison.reference, show(first.reference_perplexity, ".2f"), "", "", "")
    for one in comparison.candidates:
        q = one.quality
        table.add_row(
            one.model,
            show(q.perplexity, ".2f"),
            f"× {show(q.ratio, '.3f')}, {show(q.difference, '+.2f')}",
            show(q.kl),
            f"{100 * q.agreement.value:.1f} % "
            f"[{100 * q.agreement.low:.1f}, {100 * q.agreement.high:.1f}]",
        )
    console.print(
        f"{comparison.column} of {comparison.data}: {plural(comparison.rows, 'row')}, "
        f"{plural(comparison.tokens, 'token')}, scored in {duration(comparison.seconds)}; "
        "in brackets 95 % bootstrap intervals over rows",
        markup=False,
    )
    console.print(table)
    if comparison.failed:
        failed = plural(comparison.failed, "row")
        console.print(f"{failed} could not be scored and are left out", markup=False)
    console.print(f"→ {comparison.picture}\n→ {comparison.result}", markup=False)
