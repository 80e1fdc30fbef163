"""`rackmill review`: a page on which people say what is right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.console import OUT, note, print_json
from pipeline.cli.options import Json, OutputFolder

if TYPE_CHECKING:
    from pipeline.service.review.session import Session


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
    reviewer: Annotated[
        str | None, typer.Option(metavar="NAME", help="Who answers; else the user's name.")
    ] = None,
    question: Annotated[
        str | None, typer.Option(metavar="NAME", help="Which question, where a job asks several.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65_535, metavar="P", help="Else any that is free.")
    ] = None,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Only print the address.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Label a sample of an output by keyboard, on a page of this machine: so rackmill trust can say
    how right the labels are. Ctrl-C ends it; every answer is saved at once."""
    from pipeline.service.review.serve import serve
    from pipeline.service.review.session import Session, open_material

    name = reviewer or _user()
    session = Session(open_material(output, question, rows), name)
    total = len(session.places)
    note(f"{session.reviewer} reviews {total} rows of {output}: Ctrl-C ends it, answers stay")
    # as it is: the console would hide the token
    serve(session, port, browser=not no_browser, say=lambda url: typer.echo(f"  {url}", err=True))
    told = _told(session)
    if as_json:
        print_json(told)
    else:
        _say(told)


def _user() -> str:
    """A name for the file of who answers."""
    import getpass
    import re

    try:
        name = getpass.getuser()
    except (OSError, KeyError):  # an account without a name
        name = ""
    return re.sub(r"[^\w.@+-]", "-", name).lstrip("_.@+-")[:64] or "reviewer"


def _told(session: Session) -> dict[str, Any]:
    from pipeline.service.review.numbers import numbers_of

    material, answers = session.material, session.answers()
    own = [a for place, a in answers.get(session.reviewer, {}).items() if place in material.rows]
    numbers = numbers_of(material, answers)
    return {
        "output": material.output,
        "question": material.question.name,
        "reviewer": session.reviewer,
        "saved_now": session.saved,
        "answered": len(own),
        "unsure": sum(a.value is None for a in own),
        "rows": len(session.places),
        "reviewers": dict(numbers.reviewers),
        "accuracy": numbers.right.as_json() if numbers.right else None,
        "kappa": numbers.kappa,
        "alpha": numbers.alpha,
    }


def _say(told: dict[str, Any]) -> None:
    import shlex

    from pipeline.humanize import plural

    saved = plural(told["saved_now"], "answer")
    OUT.print(f"saved {saved} · {told['answered']} of {told['rows']} rows answered")
    output = shlex.quote(told["output"])
    if told["answered"] < told["rows"]:
        OUT.print(f"go on:    rackmill review {output}")
    if told["answered"]:
        OUT.print(f"use them: rackmill trust {output}")
