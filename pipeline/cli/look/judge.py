"""`rackmill judge`: which of several outputs answers better, as a model sees it."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.options import Fresh, Json, set_option
from pipeline.cli.terminal.console import OUT, print_json

if TYPE_CHECKING:
    from pipeline.driver.comparison.judge import Judged


def judge_command(
    outputs: Annotated[
        list[str], typer.Argument(metavar="A B …", help="Output folders over the same rows.")
    ],
    criteria: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What better means, as a question.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="The judge; else the model of A's job.")
    ] = None,
    rows: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Only N rows, drawn at random.")
    ] = None,
    output: Annotated[
        str, typer.Option(metavar="PATH", help="Where pairs, verdicts and the result go.")
    ] = "runs/judge",
    settings: Annotated[
        list[str] | None, set_option("Change one setting of the judge's job (may be repeated).")
    ] = None,
    fresh: Fresh = False,
    as_json: Json = False,
) -> None:
    """Have a model say which of every two answers is better, each pair in both orders. Answers
    that win in one order alone are a tie. The result is on Elo's scale, with intervals."""
    from pipeline.cli.run.watch import RunWatcher
    from pipeline.driver.comparison.judge import CRITERIA, JudgeOptions, judge
    from pipeline.errors import UsageError

    if len(outputs) < 2:
        raise UsageError("there is one output: two or more are needed", "rackmill judge A B")
    options = JudgeOptions(criteria or CRITERIA, model, rows, output, tuple(settings or ()), fresh)
    # Ray prints to stdout what it thinks of dying workers; data alone belongs there
    with contextlib.redirect_stdout(sys.stderr):
        judged = judge(outputs, options, RunWatcher())
    if as_json:
        print_json(judged.as_json())
    else:
        _print(judged)


def _print(judged: Judged) -> None:
    from pipeline.humanize import count, plural

    names = dict(enumerate("abcdefghijklmnopqrstuvwxyz"))
    failed = (
        f", {count(judged.failed)} left out: the judge could not be asked" if judged.failed else ""
    )
    OUT.print(f"{plural(judged.rows, 'row')} judged by {judged.model}{failed}")
    for number, address in enumerate(judged.outputs):
        strength = judged.judgement.strengths[number]
        OUT.print(
            f"  {names.get(number, number)}  {strength.elo:+5.0f} Elo "
            f"({strength.low:+.0f} to {strength.high:+.0f})  {address}"
        )
    for meeting in judged.judgement.meetings:
        one, other = names.get(meeting.one, meeting.one), names.get(meeting.other, meeting.other)
        OUT.print(
            f"{one} is better in {count(meeting.wins)}, {other} in {count(meeting.losses)}, "
            f"a tie in {count(meeting.ties)}"
            + (f", {count(meeting.unlike)} of them by their order alone" if meeting.unlike else "")
        )
    first = judged.judgement.shown_first
    if first.whole:
        low, high = first.bounds
        bias = "" if low <= 0.5 <= high else ": the judge prefers a place"
        OUT.print(
            f"shown first and called better: {first.value:.2f} ({low:.2f}–{high:.2f}) of "
            f"{plural(first.whole, 'verdict')}{bias}"
        )
    OUT.print(f"→ {judged.result}")
