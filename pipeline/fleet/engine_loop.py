"""Keeping one engine full: admit what fits, step, hand results back."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.budget.kv import KvLayout
from pipeline.data.answers import Answer, Answers
from pipeline.data.results import RowResult
from pipeline.engine.protocol import Engine
from pipeline.errors import RowError
from pipeline.fleet.feeder import Feeder
from pipeline.fleet.work import OpenUnit, Progress, ReadyRow
from pipeline.schedule.lengths import OutputLengths
from pipeline.schedule.packer import Packer
from pipeline.schedule.request import Completion, Request

_IDLE_SECONDS = 0.02
_HEARTBEAT_SECONDS = 1.0


@dataclass(slots=True)
class _Flight:
    """A row that the engine works on, and how to go on with it."""

    ready: ReadyRow
    answer: Answer


class EngineLoop:
    """Moves rows from the feeder through the engine until there are no more.

    Only about one step's worth of prefill waits inside the engine: the order stays ours.
    """

    def __init__(
        self,
        engine: Engine,
        layout: KvLayout,
        answers: Answers,
        feeder: Feeder,
        whole: Callable[[OpenUnit], None],
        heartbeat: Callable[[Progress], None],
    ) -> None:
        facts = engine.facts
        self._engine = engine
        self._answers = answers
        self._feeder = feeder
        self._whole = whole
        self._heartbeat = heartbeat
        self._packer = Packer(layout, facts.num_blocks, facts.max_num_seqs, OutputLengths())
        self._backlog: deque[Request] = deque()  # asked for, not yet admitted
        self._flights: dict[int, _Flight] = {}  # by request id
        self._previous: list[int] = []  # the prompt admitted last
        self._prefilling: deque[tuple[int, int]] = deque()  # (request, new tokens), newest last
        self._added = 0  # since the last step
        self._rows = self._failed = self._prompt_tokens = self._completion_tokens = 0
        self._first_step = self._last_step = self._last_beat = self._kv_use = 0.0

    def run(self) -> None:
        """Work until the feeder is exhausted and the last row has its result."""
        while True:
            self._admit()
            if self._packer.running:
                self._step()
            elif self._feeder.exhausted and not self._backlog:
                return
            self._beat()

    @property
    def progress(self) -> Progress:
        """Totals up to now."""
        stats = self._engine.stats
        return Progress(
            rows=self._rows,
            failed=self._failed,
            prompt_tokens=self._prompt_tokens,
            completion_tokens=self._completion_tokens,
            preemptions=stats.preemptions,
            running=stats.running,
            kv_use=self._kv_use,
            first_step=self._first_step,
            last_step=self._last_step,
        )

    def _beat(self) -> None:
        now = time.monotonic()
        if now - self._last_beat >= _HEARTBEAT_SECONDS:
            self._last_beat = now
            self._heartbeat(self.progress)

    def _admit(self) -> None:
        room = self._engine.facts.max_num_batched_tokens - self._waiting_tokens()
        while room > 0:
            if not self._backlog and not self._take_row():
                return
            if not self._backlog:
                continue  # the row was refused and has its result
            request = self._backlog[0]
            # vLLM computes a prompt that is scored from its first token on, cached or not
            scored = request.score_from is not None
            shared = 0 if scored else _common_prefix(self._previous, request.prompt_ids)
            request.shared_tokens = shared - shared % self._engine.facts.block_size
            if self._packer.refusal(request) is not None:
                return
            self._backlog.popleft()
            try:
                self._engine.add(request)
            except RowError as error:
                self._receive(Completion(request.id, error=error))
                continue
            self._packer.admit(request)
            self._previous = list(request.prompt_ids)
            new_tokens = max(1, len(request.prompt_ids) - request.shared_tokens)
            self._prefilling.append((request.id, new_tokens))
            self._added += 1
            room -= new_tokens

    def _take_row(self) -> bool:
        idle = not self._packer.running
        ready = self._feeder.take(wait_seconds=_IDLE_SECONDS if idle else 0.0)
        if ready is None:
            return False
        try:
            answer = self._answers.answer(ready.prompt)
        except RowError as error:
            self._finish(ready, RowResult(error=error, prompt_tokens=len(ready.prompt.ids)))
            return True
        self._ask(_Flight(ready, answer), answer.start())
        return True

    def _ask(self, flight: _Flight, requests: list[Request]) -> None:
        for request in requests:
            self._flights[request.id] = flight
            self._backlog.append(request)

    def _waiting_tokens(self) -> int:
        """Tokens of prefill that the engine has not started on."""
        waiting = self._engine.stats.waiting + self._added
        while len(self._prefilling) > waiting:
            self._prefilling.popleft()
        return sum(tokens for _, tokens in self._prefilling)

    def _step(self) -> None:
        if not self._first_step:
            self._first_step = time.time()
        self._kv_use = self._packer.held / self._engine.facts.num_blocks
        completions = self._engine.step()
        self._added = 0
        for completion in completions:
            self._packer.finished(completion.request_id, completion.completion_tokens)
            self._receive(completion)
        if completions:
            self._last_step = time.time()

    def _receive(self, completion: Completion) -> None:
        flight = self._flights.pop(completion.request_id)
        if flight.answer.result is None:  # else another of the row's requests was refused
            self._ask(flight, flight.answer.receive(completion))
            self._conclude(flight)

    def _conclude(self, flight: _Flight) -> None:
        result = flight.answer.result
        if result is not None:
            self._finish(flight.ready, result)

    def _finish(self, ready: ReadyRow, result: RowResult) -> None:
        self._rows += 1
        self._failed += result.error is not None
        self._prompt_tokens += result.prompt_tokens
        self._completion_tokens += result.completion_tokens
        if ready.unit.finish(ready.row, result):
            self._whole(ready.unit)


def _common_prefix(a: list[int], b: list[int]) -> int:
    """Length of the common prefix of two token sequences, by halving."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
