"""A server behind the engine protocol: requests go out by a thread of its own, as many at once as
the server works on."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, TypeVar

from pipeline.budget.kv_layout import KvLayout
from pipeline.engine.http.capabilities import Capabilities
from pipeline.engine.http.client import Client, Refused
from pipeline.engine.http.server_api import ServerApi
from pipeline.engine.protocol import EngineFacts, EngineStats
from pipeline.errors import EndpointUnfit, EngineFailed, RowError, RowErrorType
from pipeline.model.geometry import Geometry
from pipeline.rows.request import Completion, Request

# that a step waits for a completion; what is written meanwhile is told after it, since a step for
# each token would cost more than the tokens are worth
_STEP_SECONDS = 0.5
_BLOCK = 16
# tokens per second from which on answers are asked for at once: each piece costs some 0.1 ms, and
# at such rates rows end often enough to show how far it is
_MOST_IN_PIECES = 1000.0
_PACE_SECONDS = 1.0
Result = TypeVar("Result")


@dataclass(slots=True)
class _Tokens:
    """Of one request: those ``written``, as the event loop heard, and ``told`` of them by steps."""

    written: int = 0
    told: int = 0

    def hear(self, written: int) -> None:
        self.written = written

    def fresh(self) -> int:
        """Those not told of yet, which are then."""
        more = max(0, self.written - self.told)  # fewer: it was sent again
        self.told += more
        return more


class _Pace:
    """Tokens per second of the last second or so that was at work."""

    def __init__(self) -> None:
        self.rate = 0.0
        self._since, self._tokens = time.monotonic(), 0

    def count(self, tokens: int) -> None:
        self._tokens += tokens
        seconds = time.monotonic() - self._since
        if seconds >= _PACE_SECONDS:
            self.rate = self._tokens / seconds
            self._since, self._tokens = time.monotonic(), 0


class HttpEngine:
    """A server that is asked over HTTP, on an event loop of the engine's own."""

    def __init__(
        self,
        connect: Callable[[], tuple[Client, ServerApi]],
        kind: str,
        geometry: Geometry,
        ended: Callable[[], None] = lambda: None,
    ) -> None:
        """``connect`` is called on the event loop. ``ended``: what is to be done after the last
        request. Raises EngineFailed where the server cannot be asked."""
        self.stats = EngineStats()
        self._ended = ended
        self._pace = _Pace()
        self._done: queue.SimpleQueue[Completion | Exception] = queue.SimpleQueue()
        self._asked: dict[int, asyncio.Task[None]] = {}  # changed on the event loop alone
        self._in_flight: dict[int, _Tokens] = {}  # changed by the caller's thread alone
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        try:
            self._client, self._api = self._on_loop(_called(connect))
            try:
                self.capabilities = self._on_loop(self._api.probe())
            except Refused as e:
                raise EndpointUnfit(
                    f"{self._client.url} does not answer as {kind} does: {e}",
                    "is engine.kind the server's, and engine.url its address?",
                ) from None
        except BaseException:
            self.close()
            raise
        self.facts = _facts(self.capabilities, kind, geometry)

    def add(self, request: Request) -> None:
        """Raises RowError for sampling that the server would ignore."""
        ignored = self.capabilities.ignored(request.sampling)
        if ignored and not request.logprob_ids:
            message = f"the server knows no {', '.join(ignored)} and would ignore it"
            raise RowError(RowErrorType.INVALID_SAMPLING, message)
        self._in_flight[request.id] = tokens = _Tokens()
        self._count()
        listens = self._pace.rate < _MOST_IN_PIECES
        self._loop.call_soon_threadsafe(self._begin, request, tokens if listens else None)

    def step(self) -> list[Completion]:
        self.stats.sampled = ()
        if not self._in_flight:
            return []
        self.stats.steps += 1
        ended: list[Completion] = []
        sampled: list[int] = []
        wait: float | None = _STEP_SECONDS
        while True:
            try:
                one = self._done.get(timeout=wait) if wait else self._done.get_nowait()
            except queue.Empty:
                break
            wait = None
            if isinstance(one, Exception):
                raise one
            tokens = self._in_flight.pop(one.request_id, None)
            if tokens is not None:  # else it was aborted as it ended
                tokens.written = max(tokens.told, one.completion_tokens)
                sampled += [one.request_id] * tokens.fresh()
                ended.append(one)
        for request_id, tokens in self._in_flight.items():
            sampled += [request_id] * tokens.fresh()
        self.stats.sampled = sampled
        self._pace.count(len(sampled))
        self._count()
        return ended

    def abort(self, request_ids: Iterable[int]) -> None:
        ids = list(request_ids)
        for request_id in ids:
            self._in_flight.pop(request_id, None)
        self._count()
        self._loop.call_soon_threadsafe(self._cancel, ids)

    def reset(self) -> None:
        if self._in_flight:
            raise EngineFailed("the server still works on requests")
        self.stats.clear()

    def close(self) -> None:
        if self._loop.is_closed():
            return
        if hasattr(self, "_client"):
            self._on_loop(self._leave())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._ended()

    def _count(self) -> None:
        most = self.capabilities.concurrency
        self.stats.running = min(len(self._in_flight), most)
        self.stats.waiting = len(self._in_flight) - self.stats.running
        self.stats.kv_use = self.stats.running / most

    def _on_loop(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    # on the event loop

    def _begin(self, request: Request, tokens: _Tokens | None) -> None:
        self._asked[request.id] = self._loop.create_task(self._answer(request, tokens))

    def _cancel(self, request_ids: list[int]) -> None:
        for request_id in request_ids:
            if task := self._asked.pop(request_id, None):
                task.cancel()  # closes its connection, by which servers notice

    async def _answer(self, request: Request, tokens: _Tokens | None) -> None:
        written = tokens.hear if tokens is not None else None
        try:
            done: Completion | Exception = await self._api.answer(request, written)
        except RowError as e:
            done = Completion(request.id, error=e)
        except EngineFailed as e:
            done = e
        except Exception as e:
            done = EngineFailed(f"{self._client.url}: {type(e).__name__}: {e}")
        self._asked.pop(request.id, None)
        self._done.put(done)

    async def _leave(self) -> None:
        tasks = list(self._asked.values())
        self._cancel(list(self._asked))
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._client.close()


async def _called(connect: Callable[[], tuple[Client, ServerApi]]) -> tuple[Client, ServerApi]:
    return connect()


def _facts(can: Capabilities, kind: str, geometry: Geometry) -> EngineFacts:
    """The server as the scheduler sees it: room for as many requests of the longest kind as it
    works on at once, and for a few that wait there: a place that is free gets the next one without
    waiting for us. Its own cache is its own affair."""
    most = can.concurrency + can.queued
    layout = KvLayout(geometry, _BLOCK, can.context, hybrid=False)
    blocks = layout.prefill_blocks(can.context) * most
    return EngineFacts(
        kind=kind,
        version=can.server.removeprefix(f"{kind} "),
        device=can.model,
        max_model_len=can.context,
        max_num_seqs=most,
        max_num_batched_tokens=can.context,
        block_size=_BLOCK,
        num_blocks=blocks,
        kv_bytes=blocks * layout.block_bytes,
        hybrid=False,
        prefix_caching=False,
        logprobs=can.top_logprobs > 0,
        held=can.held,
        served_model=PurePath(can.model).name,
    )
