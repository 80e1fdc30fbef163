"""A server that answers as it is told to, on a port of its own."""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
import threading
from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import Any

from aiohttp import web

Handler = Callable[[web.Request, Any], Awaitable[web.StreamResponse]]


class FakeServer:
    """``handle`` gets each request and its JSON. ``asked``: the paths and bodies, in order.
    ``tls``: it speaks HTTPS with that."""

    def __init__(self, handle: Handler, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self._handle = handle
        self._tls = tls
        self._port = port
        self.asked: list[tuple[str, Any]] = []
        self.url = ""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> FakeServer:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """As if it had been killed."""
        if self._loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> None:
        app = web.Application(client_max_size=1 << 26)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port, ssl_context=self._tls)
        await site.start()
        self._port = self._runner.addresses[0][1]
        self.url = f"http{'s' if self._tls else ''}://127.0.0.1:{self._port}"

    async def _stop(self) -> None:
        await self._runner.cleanup()
        rest = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json() if request.can_read_body else None
        if request.path == "/tokenize":  # it does not tell: its tokens are nobody's
            return web.json_response({"tokens": None})
        self.asked.append((request.path, body))
        return await self._handle(request, body)


def llama_answer(body: Any, text: str = "yes", **changes: Any) -> dict[str, Any]:
    """What llama-server says to a ``/completion``: every token is as likely as its id is small."""
    likeliest = [{"id": i, "token": str(i), "logprob": -1.0 - i / 100} for i in range(256)]
    return {
        "content": text,
        "tokens_predicted": 3,
        "tokens_evaluated": len(body["prompt"]),
        "truncated": False,
        "stop_type": "eos",
        "completion_probabilities": [{"top_logprobs": likeliest}],
    } | changes


PROPS = {
    "total_slots": 4,
    "default_generation_settings": {"n_ctx": 512},
    "model_path": "/models/gemma.gguf",
    "build_info": "b1",
}


async def llama(request: web.Request, body: Any) -> web.StreamResponse:
    """llama-server."""
    if request.path == "/props":
        return web.json_response(PROPS)
    if body.get("stream"):
        return await streamed(request, llama_pieces(body))
    return web.json_response(llama_answer(body))


def llama_pieces(body: Any, text: str = "yes", **changes: Any) -> list[dict[str, Any]]:
    """The same in pieces, a letter each."""
    return [
        *({"content": letter, "stop": False} for letter in text),
        llama_answer(body, "", **changes) | {"stop": True},
    ]


async def streamed(
    request: web.Request,
    pieces: Iterable[Any],
    *,
    lines: bool = False,
    pause: float = 0.0,
    closes: bool = False,
) -> web.StreamResponse:
    """An answer that comes in ``pieces``: as server-sent events or as ``lines``, ``pause`` seconds
    before each of them. ``closes``: in the end the connection, as one that is killed does."""
    kind = "application/x-ndjson" if lines else "text/event-stream"
    answer = web.StreamResponse(headers={"Content-Type": kind})
    await answer.prepare(request)
    for piece in pieces:
        await asyncio.sleep(pause)
        text = piece if isinstance(piece, str) else json.dumps(piece)
        await answer.write((f"{text}\n" if lines else f"data: {text}\n\n").encode())
    if closes:
        assert request.transport is not None
        request.transport.close()
    return answer


def main(port: int, seconds: float) -> None:
    """llama-server as a process of its own, that can be killed; ``seconds`` for each row."""

    async def slow(request: web.Request, body: Any) -> web.StreamResponse:
        if request.path == "/props":
            return web.json_response(PROPS)
        return await streamed(request, llama_pieces(body), pause=seconds / 4)

    with FakeServer(slow, port):
        threading.Event().wait()


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
