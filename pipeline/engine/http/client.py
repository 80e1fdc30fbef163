"""Asking a server: JSON over HTTP, with what is tried again and what is not."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any

import aiohttp

from pipeline.errors import EndpointGone, EndpointUnfit

_CONNECT_SECONDS = 10.0
_PAUSE_SECONDS = (0.2, 1.0, 3.0)  # before a request is sent again that was cut off
_LONGEST_PAUSE = 30.0
_BUSY = (429, 503)
_MOST_SHOWN = 200
_MOST_BYTES = 64 << 20  # of an answer


class Refused(Exception):
    """The server will not have this one request. ``status``: HTTP's."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Client:
    """One server. Made and used on one event loop.

    ``patience``: seconds for which a server that is busy, or does not answer, is waited for.
    """

    def __init__(self, url: str, key: str | None, patience: float) -> None:
        self.url = url.rstrip("/")
        self._patience = patience
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
        return await self._ask("GET", path, None)

    async def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The object that the answer is. A busy server is waited for; a request that was cut off
        is sent again.

        Raises Refused for a request that the server will not have, or answers with what is no
        object of JSON; EndpointGone where it cannot be reached, or hangs; EndpointUnfit where a
        certificate or key is wrong.
        """
        return await self._ask("POST", path, body)

    async def _ask(self, method: str, path: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        began = time.monotonic()
        pauses = iter(_PAUSE_SECONDS)
        while True:
            try:
                return await self._once(method, path, body)
            except _Busy as e:
                pause = min(e.seconds, _LONGEST_PAUSE)
                if time.monotonic() - began + pause > self._patience:
                    raise Refused(e.status, f"busy for {self._patience:g} s: {e}") from None
            except _CutOff as e:
                pause = next(pauses, -1.0)
                if pause < 0:
                    raise EndpointGone(f"{self.url}{path}: {e}") from None
            except Refused as e:
                if e.status < 500:
                    raise
                pause = next(pauses, -1.0)
                if pause < 0:
                    raise
            await asyncio.sleep(pause)

    async def _once(self, method: str, path: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        where = self.url + path
        try:
            async with self._session.request(
                method, where, json=body, allow_redirects=False
            ) as answer:
                content = await _read(answer)
        except aiohttp.ClientConnectorCertificateError as e:
            raise EndpointUnfit(
                f"{self.url}: its certificate is not trusted: {e.certificate_error}",
                "use a certificate that this machine trusts (SSL_CERT_FILE), or http://",
            ) from None
        except aiohttp.ClientSSLError as e:
            raise EndpointUnfit(f"{self.url}: no TLS connection: {e}") from None
        except aiohttp.InvalidURL:
            raise EndpointUnfit(f"{self.url} is no address", "http://HOST:PORT") from None
        except TimeoutError:
            raise EndpointGone(f"{where}: no answer in {self._patience:g} s") from None
        except aiohttp.ClientConnectorError as e:
            raise _CutOff(f"it cannot be reached: {e.os_error.strerror or e.os_error}") from None
        except (aiohttp.ClientError, ConnectionError, asyncio.IncompleteReadError) as e:
            raise _CutOff(f"the connection was closed: {str(e) or type(e).__name__}") from None
        return _content(answer, content, where)


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    """The body. Raises Refused for one without an end."""
    parts, size = [], 0
    async for part in answer.content.iter_any():
        parts.append(part)
        size += len(part)
        if size > _MOST_BYTES:
            raise Refused(answer.status, f"its answer is over {_MOST_BYTES >> 20} MiB")
    return b"".join(parts)


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
        told = json.loads(content)
        error = told["error"]
        return str(error["message"] if isinstance(error, dict) else error)[:_MOST_SHOWN]
    except (ValueError, KeyError, TypeError, RecursionError):
        return _shown(content)


def _shown(content: bytes) -> str:
    return " ".join(content[:_MOST_SHOWN].decode(errors="replace").split()) or "nothing"


def _wait_of(answer: aiohttp.ClientResponse) -> float:
    """Seconds after which a busy server says that it may be asked again."""
    try:
        return max(0.1, float(answer.headers.get("Retry-After", "")))
    except ValueError:
        return 1.0


class _CutOff(Exception):
    """No answer came, or not all of it."""


class _Busy(Exception):
    """The server asks to be asked later: after ``seconds``."""

    def __init__(self, status: int, message: str, seconds: float) -> None:
        super().__init__(message)
        self.status, self.seconds = status, seconds
