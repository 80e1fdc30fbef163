"""`rackmill judge`: which of several outputs has better answers, judged by a model or by people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.look.review_page import NoBrowser, Port, Reviewer, serve_session, user_name
from pipeline.cli.options import Fresh, Json, results_option, rows_option, set_option
from pipeline.cli.terminal.console import OUT, note, only_data_on_stdout, tell
from pipeline.errors import UsageError
from pipeline.humanize import count, plural

if TYPE_CHECKING:
    from pipeline.driver.comparison.judge import JudgeResult
    from pipeline.report.comparison.judgement import Judgement
    from pipeline.service.review.pairs import PairSession

_NAMES = dict(enumerate("abcdefghijklmnopqrstuvwxyz"))


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
        int | None,
        rows_option("Only N rows, drawn at random; of people, N with answers that differ (50)."),
    ] = None,
    output: Annotated[
        str | None,
        results_option("Where pairs, verdicts and the result go; else runs/judge."),
    ] = None,
    settings: Annotated[
        list[str] | None, set_option("Change one setting of the judge's job (may be repeated).")
    ] = None,
    fresh: Fresh = False,
    human: Annotated[
        bool, typer.Option("--human", help="People judge, on a page of this machine.")
    ] = False,
    reviewer: Reviewer = None,
    port: Port = None,
    no_browser: NoBrowser = False,
    as_json: Json = False,
) -> None:
    """Have a model say which of every two answers is better, each pair in both orders: what wins in
    one order alone is a tie. Or have people say it (--human). The result is on Elo's scale, with
    intervals."""
    from pipeline.report.comparison.judgement import CRITERIA

    if len(outputs) < 2:
        raise UsageError("there is one output: two or more are needed", "rackmill judge A B")
    of_model = {"--model": model, "--output": output, "--set": settings, "--fresh": fresh}
    of_people = {"--reviewer": reviewer, "--port": port, "--no-browser": no_browser}
    about = criteria or CRITERIA
    if human:
        _refuse(of_model, "is for a model that judges: with --human no job runs", "leave it away")
        from pipeline.service.review.pair_material import open_pairs
        from pipeline.service.review.pairs import PairSession

        session = PairSession(open_pairs(outputs, about, rows, note), reviewer or user_name())
        note(
            f"{session.reviewer} judges {len(session.keys)} pairs of answers of "
            f"{' and '.join(outputs)}: Ctrl-C ends it, answers stay"
        )
        serve_session(session, port, no_browser=no_browser)
        tell(session, _say_of_people, as_json=as_json)
        return
    _refuse(of_people, "is for the page on which people judge", "add --human")
    from pipeline.cli.run.run_watcher import RunWatcher
    from pipeline.driver.comparison.judge import DEFAULT_OUTPUT, JudgeOptions, judge

    place = output or DEFAULT_OUTPUT
    options = JudgeOptions(about, model, rows, place, tuple(settings or ()), fresh)
    with only_data_on_stdout():
        judged = judge(outputs, options, RunWatcher())
    tell(judged, _say, as_json=as_json)


def _refuse(options: dict[str, Any], why: str, fix: str) -> None:
    given = next((name for name, value in options.items() if value), None)
    if given is not None:
        raise UsageError(f"{given} {why}", fix)


def _say(judged: JudgeResult) -> None:
    failed = (
        f", {count(judged.failed)} left out: the judge could not be asked" if judged.failed else ""
    )
    OUT.print(f"{plural(judged.rows, 'row')} judged by {judged.model}{failed}")
    _say_judgement(judged.judgement, judged.outputs, "by their order alone", "judge prefers")
    OUT.print(f"→ {judged.result}")


def _say_judgement(
    judgement: Judgement, outputs: Sequence[str], unlike: str, preferring: str
) -> None:
    for number, address in enumerate(outputs):
        strength = judgement.strengths[number]
        OUT.print(
            f"  {_NAMES.get(number, number)}  {strength.elo:+5.0f} Elo "
            f"({strength.low:+.0f} to {strength.high:+.0f})  {address}"
        )
    for meeting in judgement.meetings:
        one, other = (_NAMES.get(n, n) for n in (meeting.one, meeting.other))
        OUT.print(
            f"{one} is better in {count(meeting.wins)}, {other} in {count(meeting.losses)}, "
            f"a tie in {count(meeting.ties)}"
            + (f", {count(meeting.unlike)} of them {unlike}" if meeting.unlike else "")
        )
        if meeting.won.whole:
            low, high = meeting.won.bounds
            OUT.print(
                f"{one} wins {meeting.won.value:.2f} ({low:.2f}–{high:.2f}) of the "
                f"{plural(meeting.won.whole, 'row')} that are no tie"
            )
    first = judgement.shown_first
    if first.whole:
        low, high = first.bounds
        bias = "" if low <= 0.5 <= high else f": the {preferring} a place"
        OUT.print(
            f"shown first and called better: {first.value:.2f} ({low:.2f}–{high:.2f}) of "
            f"{plural(first.whole, 'verdict')}{bias}"
        )


def _say_of_people(session: PairSession) -> None:
    found = session.result()
    counted = found.counted
    saved = plural(session.saved, "answer")
    OUT.print(f"saved {saved} · {found.answered} of {len(session.keys)} pairs answered")
    if counted.judgement is not None:
        unsure = f", {count(counted.unsure)} left out: nobody is sure" if counted.unsure else ""
        judges = ", ".join(found.agreement.reviewers)
        OUT.print(f"{plural(counted.rows, 'row')} judged by {judges}{unsure}")
        same = "because reviewers contradict each other"
        _say_judgement(counted.judgement, session.material.outputs, same, "reviewers prefer")
    for name, value in found.agreement.lines("pairs"):
        OUT.print(f"{name}: {value}")
    if counted.waiting:
        OUT.print(f"{plural(counted.waiting, 'answer')} wait for a pair that nobody has answered")
    if found.go_on:
        OUT.print(f"go on:    {found.go_on}")
