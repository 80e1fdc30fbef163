"""The page as HTML, and what its buttons do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from pipeline.errors import RackmillError, UsageError
from pipeline.printable import printable
from pipeline.service.review.guard import Guard
from pipeline.service.review.session import ReviewSession

_FOLDER = Path(__file__).parent
_MOST_BYTES = 4096  # that a form of ours sends
_MOST_CHARACTERS = 20_000  # of a text on the page; a click shows the whole text
_KEYS = 9


def page_app(session: ReviewSession, token: str, port: int) -> Guard:
    """The page of ``session``, for those who have ``token``."""
    page = _Page(session)
    routes = [
        Route("/", page.whole),
        Route("/answer", page.answer, methods=["POST"]),
        Route("/undo", page.undo, methods=["POST"]),
        Route("/show", page.show, methods=["POST"]),
        Route("/text/{number:int}/{field:int}", page.text),
        Route("/favicon.ico", lambda _: Response(status_code=204)),
        Mount("/static", StaticFiles(directory=_FOLDER / "static")),
    ]
    return Guard(Starlette(routes=routes), token, port)


class _Page:
    def __init__(self, session: ReviewSession) -> None:
        self._session = session
        environment = Environment(
            loader=FileSystemLoader(_FOLDER),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters["seen"] = printable
        self._whole = environment.get_template("page.html")
        self._main = environment.get_template(session.template)

    async def whole(self, _: Request) -> Response:
        return HTMLResponse(await run_in_threadpool(self._render, self._whole))

    async def answer(self, request: Request) -> Response:
        form = await _form(request)
        number, value = form.get("row", ""), form.get("value", "")
        choices = self._session.choices
        if not number.isdecimal() or not (value == "unsure" or value.isdecimal()):
            return PlainTextResponse("this is no answer", 400)
        if value != "unsure" and int(value) >= len(choices):
            return PlainTextResponse("this is not one of the choices", 400)
        given = None if value == "unsure" else choices[int(value)]
        return await self._after(request, partial(self._session.answer, int(number), given))

    async def undo(self, request: Request) -> Response:
        return await self._after(request, self._session.undo)

    async def show(self, request: Request) -> Response:
        """Show or hide the model's answers from now on."""
        self._session.shown = (await _form(request)).get("shown") == "yes"
        return await self._after(request, lambda: None)

    async def text(self, request: Request) -> Response:
        """A text that is too long for the page, as plain text."""
        number, field = request.path_params["number"], request.path_params["field"]
        texts = self._session.texts(number) if number < len(self._session.keys) else []
        if field >= len(texts):
            return PlainTextResponse("there is no such text", 404)
        return PlainTextResponse(printable(texts[field][1]))

    async def _after(self, request: Request, do: Callable[[], object]) -> Response:
        """Call ``do``, then show the new state."""
        try:
            await run_in_threadpool(do)
        except UsageError as e:
            return PlainTextResponse(e.message, 400)
        except RackmillError as e:
            return PlainTextResponse(f"Not saved: {e.message}. {' '.join(e.hints)}", 507)
        if request.headers.get("hx-request") != "true":
            return RedirectResponse("/", 303)
        return HTMLResponse(await run_in_threadpool(self._render, self._main))

    def _render(self, template: Any) -> str:
        session = self._session
        view = session.view()
        text: str = template.render(
            session=session,
            view=view,
            texts=[] if view.number is None else _cut(session.texts(view.number)),
            keys=_KEYS,
            **view.facts,
        )
        return text


def _cut(texts: Sequence[tuple[str, str]]) -> list[tuple[str, str, int]]:
    """Name, text, and how many of its characters are left out."""
    return [
        (name, text[:_MOST_CHARACTERS], max(0, len(text) - _MOST_CHARACTERS))
        for name, text in texts
    ]


async def _form(request: Request) -> dict[str, str]:
    """The fields of a form of the page; none if it is larger than our forms can be."""
    content = b""
    async for part in request.stream():
        content += part
        if len(content) > _MOST_BYTES:
            return {}
    fields = parse_qs(content.decode("utf-8", "replace"), max_num_fields=10)
    return {name: values[0] for name, values in fields.items()}
