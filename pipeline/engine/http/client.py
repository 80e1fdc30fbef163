"""Asking a server: JSON over HTTP, with what is tried again and what is not."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp

from pipeline.engine.http.pieces import Pieces, objects_in
from pipeline.errors import EndpointGone, EndpointSlow, EndpointUnfit

_CONNECT_SECONDS = 10.0
_PAUSE_SECONDS = (0.2, 1.0, 3.0)  # before a request is sent again that was cut off
_BUSY = (429, 503)
_MOST_SHOWN = 200
_MOST_BYTES = 64 << 20  # of an answer
_STREAMS = ("text/event-stream", "application/x-ndjson")


class Refused(Exception):
    """The server will not have this one request. ``status``: HTTP's."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Client:
    """One server. Made and used on one event loop.

    ``patience``: seconds for which a server that is busy, or does not answer, is waited for.
    ``tries``: so often a request is sent at most that is cut off.
    """

    def __init__(
        self, url: str, key: str | None, patience: float, tries: int | None = None
    ) -> None:
        self.url = url.rstrip("/")
        self._patience = patience
        self._pauses = _PAUSE_SECONDS if tries is None else _PAUSE_SECONDS[: tries - 1]
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=_CONNECT_SECONDS, sock_read=patience
        )
        # as many connections as requests are in flight: how many, the engine decides
        connector = aiohttp.TCPConnector(limit=0)
        self._session = aiohttp.ClientSession(headers=headers, timeout=timeout, connector=connector)

    async def close(self) -> None:
        await self._session.close()

    async def get(self, path: str) -> dict[str, Any]:
        """As ``post``."""
        return await self._ask(lambda: self._once("GET", path, None))

    async def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The object that the answer is. A busy server is waited for; a request that was cut off
        is sent again.

        Raises Refused for a request that the server will not have, or answers with what is no
        object of JSON; EndpointGone where it cannot be reached; EndpointSlow where it hangs, or is
        busy for too long; EndpointUnfit where a certificate or key is wrong.
        """
        return await self._ask(lambda: self._once("POST", path, body))

    async def stream(
        self,
        path: str,
        body: Mapping[str, Any],
        begin: Callable[[], Pieces],
        written: Callable[[int], None],
    ) -> dict[str, Any]:
        """As ``post``, of an answer that comes in pieces; one that comes at once is as good.

        ``begin``: what makes an answer of them, once for each time that the request is sent.
        ``written`` hears how many tokens there are. A stream that ends before its answer does was
        cut off.
        """
        return await self._ask(lambda: self._once("POST", path, body, begin(), written))

    async def _ask(self, once: Callable[[], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
        began = time.monotonic()
        pauses = iter(self._pauses)
        while True:
            try:
                return await once()
            except _Busy as e:
                pause = e.seconds
                if time.monotonic() - began + pause > self._patience:
                    how = f"for {self._patience:g} s"
                    if pause > self._patience:
                        how = f"for {pause:g} s more, longer than the job waits"
                    raise EndpointSlow(f"{self.url}: busy {how} ({e.status}: {e})") from None
            except _CutOff as e:
                pause = next(pauses, -1.0)
                if pause < 0:
                    raise EndpointGone(f"{self.url}: {e}") from None
            except Refused as e:
                if e.status < 500:
                    raise
                pause = next(pauses, -1.0)
                if pause < 0:
                    raise
            await asyncio.sleep(pause)

    async def _once(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        pieces: Pieces | None = None,
        written: Callable[[int], None] = lambda tokens: None,
    ) -> dict[str, Any]:
        """``pieces``: what takes an answer that comes as a stream. What keeps it from being read
        comes out as this module's errors."""
        where = self.url + path
        try:
            async with self._session.request(
                method, where, json=body, allow_redirects=False
            ) as answer:
                if pieces is None or answer.status != 200 or answer.content_type not in _STREAMS:
                    content = b"".join([part async for part in _parts(answer)])
                    return _content(answer, content, where)
                async for one in objects_in(_parts(answer)):
                    if one.get("error"):
                        raise Refused(_code_of(one), _message_in(one))
                    written(pieces.take(one))
        except aiohttp.ClientConnectorCertificateError as e:
            raise EndpointUnfit(
                f"{self.url}: its certificate is not trusted: {e.certificate_error}",
                "use a certificate that this machine trusts (SSL_CERT_FILE), or http://",
            ) from None
        except aiohttp.ClientSSLError as e:
            raise EndpointUnfit(f"{self.url}: no TLS connection: {e}") from None
        except aiohttp.InvalidURL:
            raise EndpointUnfit(f"{self.url} is no address", "http://HOST:PORT") from None
        except aiohttp.ConnectionTimeoutError:
            raise _CutOff(f"no connection in {_CONNECT_SECONDS:g} s") from None
        except TimeoutError:
            raise EndpointSlow(f"{where}: no answer in {self._patience:g} s") from None
        except aiohttp.ClientConnectorError as e:
            raise _CutOff(_why(e.os_error)) from None
        except (aiohttp.ClientError, ConnectionError, asyncio.IncompleteReadError) as e:
            raise _CutOff(f"the connection was closed: {str(e) or type(e).__name__}") from None
        if pieces.answer is None:
            raise _CutOff("its stream ended before the answer did")
        return pieces.answer


async def _parts(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """The body as it comes. Raises Refused for one without an end."""
    size = 0
    async for part in answer.content.iter_any():
        size += len(part)
        if size > _MOST_BYTES:
            raise Refused(answer.status, f"its answer is over {_MOST_BYTES >> 20} MiB")
        yield part


def _content(answer: aiohttp.ClientResponse, content: bytes, where: str) -> dict[str, Any]:
    status = answer.status
    if status in _BUSY:
        raise _Busy(status, _message(content), _wait_of(answer))
    if status in (401, 403):
        raise EndpointUnfit(
            f"{where}: refused ({status}): {_message(content)}",
            "give its key in an environment variable that engine.api_key names",
        )
    if status in (301, 302, 303, 307, 308):
        target = answer.headers.get("Location", "")[:_MOST_SHOWN]
        raise Refused(status, f"it is elsewhere: {target}")
    if status != 200:
        raise Refused(status, f"HTTP {status}: {_message(content)}")
    try:
        told = json.loads(content)
        if isinstance(told, dict):
            return told
        raise Refused(status, f"the answer is no object: {_shown(content)}")
    except (ValueError, RecursionError):
        kind = "HTML" if content.lstrip()[:1] == b"<" else "no JSON"
        raise Refused(status, f"the answer is {kind}: {_shown(content)}") from None


def _message(content: bytes) -> str:
    """What an error's body says: OpenAI's shape, Ollama's, or whatever it is."""
    try:
        return _message_in(json.loads(content))
    except (ValueError, KeyError, TypeError, RecursionError):
        return _shown(content)


def _message_in(told: Any) -> str:
    error = told["error"]
    return str(error.get("message", error) if isinstance(error, dict) else error)[:_MOST_SHOWN]


def _code_of(told: Mapping[str, Any]) -> int:
    """HTTP's status of an error that comes within a stream, whose own was 200."""
    error = told["error"]
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, int) else 200


def _shown(content: bytes) -> str:
    return " ".join(content[:_MOST_SHOWN].decode(errors="replace").split()) or "nothing"


def _wait_of(answer: aiohttp.ClientResponse) -> float:
    """Seconds after which a busy server says that it may be asked again: it gives their number, or
    a date."""
    given = answer.headers.get("Retry-After", "")
    try:
        return max(0.1, float(given))
    except ValueError:
        pass
    try:
        return max(0.1, (parsedate_to_datetime(given) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return 1.0


def _why(error: OSError) -> str:
    """ "connection refused"."""
    number = error.errno
    if isinstance(number, int) and number > 0:
        return os.strerror(number).lower()
    return error.strerror or str(error)


class _CutOff(Exception):
    """No answer came, or not all of it."""


class _Busy(Exception):
    """The server asks to be asked later: after ``seconds``."""

    def __init__(self, status: int, message: str, seconds: float) -> None:
        super().__init__(message)
        self.status, self.seconds = status, seconds
