"""`rackmill quality`: the loss of a conversion, on the user's own texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.options import Fresh, Json, results_option, rows_option, set_option
from pipeline.cli.terminal.console import OUT, note, only_data_on_stdout, tell
from pipeline.humanize import duration, plural

if TYPE_CHECKING:
    from pipeline.driver.comparison.quality import QualityReport
    from pipeline.report.comparison.quality import Bootstrap


def quality_command(
    reference: Annotated[
        str, typer.Option(metavar="MODEL", help="The model to compare with, as in job files.")
    ],
    candidate: Annotated[
        list[str], typer.Option(metavar="MODEL", help="A model to judge (may be repeated).")
    ],
    data: Annotated[str, typer.Option(metavar="PATH", help="Texts: Parquet, JSON Lines or CSV.")],
    column: Annotated[str, typer.Option(metavar="NAME", help="Their column.")] = "text",
    rows: Annotated[int | None, rows_option("Only the first N rows.")] = None,
    output: Annotated[str, results_option("Where scores, result and picture go.")] = "runs/quality",
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
        list[str] | None, set_option("Change one setting of the score jobs (may be repeated).")
    ] = None,
    fresh: Fresh = False,
    as_json: Json = False,
) -> None:
    """Perplexity, KL divergence and greedy-token agreement of models against a reference."""
    from pipeline.cli.run.run_watcher import RunWatcher
    from pipeline.driver.comparison.quality import compare
    from pipeline.driver.run import RunOptions

    with only_data_on_stdout():
        comparison = compare(
            reference,
            candidate,
            data,
            column=column,
            output=output,
            top_k=top_k,
            settings=settings or (),
            options=RunOptions(rows, fresh),
            watch=RunWatcher,
            note=note,
        )
    tell(comparison, print_comparison, as_json=as_json)


def print_comparison(comparison: QualityReport) -> None:
    """The comparison in 80 columns."""

    def line(name: str, text: str) -> None:
        OUT.print(f"  {name:<18} {text}")

    OUT.print(
        f"{comparison.column} of {comparison.data}: {plural(comparison.rows, 'row')}, "
        f"{plural(comparison.tokens, 'token')}, in {duration(comparison.seconds)}"
    )
    OUT.print("in brackets: 95 % bootstrap intervals over rows", style="dim")
    first = comparison.candidates[0].quality
    OUT.print(f"\n{comparison.reference} (reference)")
    line("perplexity", _show(first.reference_perplexity, ".2f"))
    for one in comparison.candidates:
        q = one.quality
        OUT.print(f"\n{one.model}")
        line("perplexity", _show(q.perplexity, ".2f"))
        line("perplexity drop", f"× {_show(q.ratio, '.3f')}, {_show(q.difference, '+.2f')}")
        line("KL divergence", f"{_show(q.kl, '.3g')} nats a token")
        line("same greedy token", f"{_show(q.agreement, '.1f', 100)} %")
    OUT.print()
    if comparison.failed:
        failed = plural(comparison.failed, "row")
        OUT.print(f"left out: {failed} that could not be scored")
    OUT.print(f"→ {comparison.picture}\n→ {comparison.result}")


def _show(value: Bootstrap, digits: str, factor: float = 1.0) -> str:
    middle, low, high = (factor * v for v in (value.value, value.low, value.high))
    return f"{middle:{digits}} [{low:{digits}}, {high:{digits}}]"
