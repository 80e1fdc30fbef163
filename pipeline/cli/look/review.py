"""`rackmill review`: a page on which people enter right answers."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from pipeline.cli.look.export import check_target
from pipeline.cli.look.review_page import NoBrowser, Port, Reviewer, serve_session, user_name
from pipeline.cli.options import Json, OutputFolder
from pipeline.cli.terminal.console import OUT, note, tell
from pipeline.humanize import plural

if TYPE_CHECKING:
    from pipeline.output.reviews.exchange.files import Shape
    from pipeline.service.review.labels import LabelSession


def review_command(
    output: OutputFolder,
    rows: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1_000_000,
            metavar="N",
            help="Rows in the sample, those of earlier calls among them (100 at first).",
        ),
    ] = None,
    reviewer: Reviewer = None,
    question: Annotated[
        str | None, typer.Option(metavar="NAME", help="Which question, where a job asks several.")
    ] = None,
    port: Port = None,
    import_file: Annotated[
        Path | None,
        typer.Option("--import", metavar="FILE", help="Take answers: CSV, Argilla, Label Studio."),
    ] = None,
    export_file: Annotated[
        Path | None,
        typer.Option("--export", metavar="FILE", help="Write the sample with its answers."),
    ] = None,
    shape: Annotated[
        Literal["csv", "argilla", "label-studio"] | None,
        typer.Option("--format", help="Of the exported file; .csv says it itself."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an exported file.")] = False,
    no_browser: NoBrowser = False,
    as_json: Json = False,
) -> None:
    """Label a sample of an output by keyboard, on a page of this machine: so rackmill trust can say
    how right the labels are. Ctrl-C ends it; every answer is saved at once."""
    from pipeline.service.review.labels import LabelSession, open_material

    if export_file is not None:
        check_target(output, export_file, force=force)
    session = LabelSession(open_material(output, question, rows, note), reviewer or user_name())
    if import_file is not None or export_file is not None:
        told = _exchange(session, import_file, export_file, shape)
        tell(told, _say_exchanged, as_json=as_json)
        return
    total = len(session.places)
    note(f"{session.reviewer} reviews {total} rows of {output}: Ctrl-C ends it, answers stay")
    serve_session(session, port, no_browser=no_browser)
    tell(session.as_json(), _say, as_json=as_json)


def _exchange(
    session: LabelSession, taken: Path | None, written: Path | None, shape: Shape | None
) -> dict[str, Any]:
    """First read answers from a file, then write all answers to one."""
    from pipeline.output.reviews.exchange.files import read_reviews, write_reviews
    from pipeline.service.review.session import now_in_iso

    material = session.material
    told: dict[str, Any] = {"output": material.output, "question": material.question.name}
    if taken is not None:
        found = read_reviews(
            taken,
            material.sample,
            material.question,
            session.kept,
            session.reviewer,
            now_in_iso(),
        )
        told["imported"] = {"file": str(taken), **vars(found)}
    if written is not None:
        count = write_reviews(
            written, shape, material.sample, material.question, material.rows, session.answers()
        )
        told["exported"] = {"file": str(written), "answers": count, "rows": len(session.places)}
    return told


def _say_exchanged(told: dict[str, Any]) -> None:
    if "imported" in told:
        one = told["imported"]
        OUT.print(
            f"{plural(one['taken'], 'answer')} taken from {one['file']}"
            + (f", {one['known']} were there already" if one["known"] else "")
        )
        if one["elsewhere"]:
            OUT.print(
                f"  {plural(one['elsewhere'], 'answer')} left: nobody drew their rows, so it is "
                "not known how they were chosen; for a job: label: {gold: {path: FILE, …}}"
            )
    if "exported" in told:
        one = told["exported"]
        rows = plural(one["rows"], "row")
        OUT.print(f"{rows} with {plural(one['answers'], 'answer')} → {one['file']}")


def _say(told: dict[str, Any]) -> None:
    saved = plural(told["saved_now"], "answer")
    OUT.print(f"saved {saved} · {told['answered']} of {told['rows']} rows answered")
    if told["go_on"]:
        OUT.print(f"go on:    {told['go_on']}")
    if told["answered"]:
        OUT.print(f"use them: {shlex.join(['rackmill', 'trust', told['output']])}")
