"""Who may use the page: this machine's browser, with the token from the address.

A page of another site that is open in the same browser may also send requests here. It has no
token, and its requests carry its own ``Origin`` or, if its name points here (DNS rebinding), its
own ``Host``. Both are refused before anything else is looked at.
"""

from __future__ import annotations

import hmac
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# nothing but the page's own files, no frames, no forms to elsewhere
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guard:
    """Passes on allowed requests. ``port``: the page's."""

    def __init__(self, app: ASGIApp, token: str, port: int) -> None:
        self._app, self._token = app, token
        self._hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}
        # cookies do not distinguish ports, and two reviewers may share a browser
        self._cookie = f"rackmill-review-{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return  # no web sockets

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        answer: ASGIApp = self._refusal(scope) or self._app
        await answer(scope, receive, with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if host not in self._hosts:
            return PlainTextResponse("this page is for this machine's own browser", 421)
        if scope["method"] not in ("GET", "HEAD"):
            if headers.get("origin") != f"http://{host}":
                return PlainTextResponse("another page may not answer here", 403)
        elif "token" in (asked := parse_qs(scope["query_string"].decode("latin-1"))):
            return self._let_in(asked["token"][0])
        if not self._same(Request(scope).cookies.get(self._cookie, "")):
            return PlainTextResponse(
                "Open the whole address that rackmill printed, with its token.", 403
            )
        return None

    def _let_in(self, token: str) -> Response:
        """Move the token from the address into a cookie."""
        if not self._same(token):
            return PlainTextResponse(
                "This token is not, or no longer, right: open the address that rackmill printed "
                "last.",
                403,
            )
        response = RedirectResponse("/", 303)
        response.set_cookie(self._cookie, self._token, httponly=True, samesite="strict")
        return response

    def _same(self, token: str) -> bool:
        return hmac.compare_digest(token.encode("utf-8", "replace"), self._token.encode())
