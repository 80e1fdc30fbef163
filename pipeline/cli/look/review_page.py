"""Shared code of the commands that open a page for a reviewer."""

from __future__ import annotations

import getpass
import re
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pipeline.service.review.session import ReviewSession

Reviewer = Annotated[
    str | None, typer.Option(metavar="NAME", help="Who answers; else the user's name.")
]
Port = Annotated[
    int | None, typer.Option(min=1, max=65_535, metavar="P", help="Else any that is free.")
]
NoBrowser = Annotated[bool, typer.Option("--no-browser", help="Only print the address.")]


def user_name() -> str:
    """A name for the file with this reviewer's answers."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError):  # an account without a name
        name = ""
    return re.sub(r"[^\w.@+-]", "-", name).lstrip("_.@+-")[:64] or "reviewer"


def serve_session(session: ReviewSession, port: int | None, *, no_browser: bool) -> None:
    """Serve the page until Ctrl-C. Raises UsageError if the port is in use."""
    from pipeline.service.review.serve import serve

    # printed directly: the console would hide the token
    serve(session, port, browser=not no_browser, say=lambda url: typer.echo(f"  {url}", err=True))
