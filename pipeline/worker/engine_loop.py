"""Keeping one engine full: admit what fits, step, hand results back."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from pipeline.admission.demand import Demand, group_of
from pipeline.admission.policy import Limits, make_policy
from pipeline.admission.prefixes import block_keys
from pipeline.budget.step_time import StepWork
from pipeline.engine.oom_errors import as_failure
from pipeline.engine.protocol import Engine
from pipeline.errors import RowError, RowErrorType
from pipeline.humanize import duration
from pipeline.model.geometry import Geometry
from pipeline.output.columns.results import RowResult
from pipeline.prompt.answers import Answer, Answers
from pipeline.rows.request import Completion, Request
from pipeline.rows.row_range import RowRange
from pipeline.rows.workload import Lengths
from pipeline.simulate.shadow_engine import ShadowEngine
from pipeline.worker.deduplication import AnswerStage, Deduplication
from pipeline.worker.feeder import Feeder
from pipeline.worker.messages import OpenUnit, Progress, ReadyRow
from pipeline.worker.timeouts import Timeouts
from pipeline.worker.totals import Totals
from pipeline.worker.watchdog import Watchdog

_IDLE_SECONDS = 0.02
_HEARTBEAT_SECONDS = 1.0
_FULL = 2  # times as many as may run: the engine never lacks one to begin with
NO_STEP = "the engine made no step"


@dataclass(slots=True, eq=False)
class _Flight:
    """A row that is being answered, by these requests now."""

    ready: ReadyRow
    answer: Answer
    requests: set[int] = field(default_factory=set)


class EngineLoop:
    """Moves rows from the feeder through the engine until there are no more.

    A row is answered by another one like it, or becomes requests; those wait in the admission
    for their turn, and its result goes to its unit.
    """

    def __init__(
        self,
        engine: Engine,
        geometry: Geometry,
        max_tokens: int,
        answers: Answers,
        feeder: Feeder,
        whole: Callable[[OpenUnit], None],
        heartbeat: Callable[[Progress], None],
        *,
        admission: str = "packed",
        known_lengths: Lengths | None = None,
        answer_once: bool = True,
        stored: AnswerStage | None = None,
        row_timeout_seconds: float | None = None,
        step_timeout_seconds: float = math.inf,
        watchdog: Watchdog | None = None,
        announce: Callable[[], None] = lambda: None,
    ) -> None:
        """``max_tokens``: of a completion at the longest; ``known_lengths``: of completions, as
        far as they are. ``admission``: the policy's name. ``stored``: answers that other workers
        have kept. ``announce`` is called before an engine that has nothing begins."""
        facts = engine.facts
        layout = facts.layout(geometry)
        self._engine = engine
        self._answers = answers
        self._feeder = feeder
        self._whole = whole
        self._heartbeat = heartbeat
        self._once = Deduplication(
            answers, self._compute, self._finish, enabled=answer_once, stored=stored
        )
        sizes = (facts.num_blocks, facts.max_num_seqs, facts.max_num_batched_tokens)
        self._limits = Limits(layout, *sizes, max_tokens, facts.steps_ahead)
        self._admission = make_policy(admission, self._limits, known_lengths)
        self._shadow = _shadow(engine, geometry)
        self._requests: dict[int, Request] = {}  # that wait for admission
        self._flights: dict[int, _Flight] = {}  # by request id
        self._added = 0  # since the last step
        self._timeouts: Timeouts[_Flight] = Timeouts(row_timeout_seconds)
        self._row_seconds = row_timeout_seconds
        self._step_seconds = step_timeout_seconds
        self._watchdog = watchdog
        self._announce = announce
        self._empty = True  # nothing is in the engine, as far as others know
        self._winding_up = False
        self._totals = Totals()
        self._last_beat = self._kv_use = 0.0

    def run(self) -> None:
        """Work until the feeder is exhausted and the last row has its result. Of a run that
        is stopped: until what the engine was at is finished, or the time for that is over."""
        while self._feeder.deadline is None or not self._wound_up(self._feeder.deadline):
            self._take_rows()
            self._once.poll()
            self._drop_late_rows()
            self._admit()
            if self._flights:
                self._step()
            elif self._feeder.exhausted and not self._once.waiting:
                return
            self._beat()

    def _wound_up(self, deadline: float) -> bool:
        """The run is stopping: whether nothing is left to be finished."""
        if not self._winding_up:
            self._winding_up = True
            self._leave_what_waits()
        if (self._flights or self._once.waiting) and time.monotonic() < deadline:
            return False
        self._engine.abort([i for i in self._flights if i not in self._requests])
        for unit in self._feeder.unfinished():
            self._feeder.keep(unit, unit.front)
        return True

    def _leave_what_waits(self) -> None:
        """Rows behind the last one of their unit that is finished or in the engine are left to be
        done another time; those before it are worth finishing, since rows are committed from the
        first on: also those that waited for the answer of one that is left."""
        ends: dict[int, int] = {}
        for request_id, flight in self._flights.items():
            if request_id not in self._requests:
                ready = flight.ready
                ends[id(ready.unit)] = max(ends.get(id(ready.unit), 0), ready.row + 1)
        for unit in self._feeder.unfinished():
            self._feeder.keep(unit, max(ends.get(id(unit), 0), unit.last))
        for flight in list(dict.fromkeys(self._flights.values())):
            if flight.ready.row >= flight.ready.unit.unit.rows:
                self._let_go(flight)
        self._admission.take_back()
        for request in self._requests.values():
            self._admission.add(self._demand(request), urgent=True)

    @property
    def rows_in_engine(self) -> list[RowRange]:
        """Rows that were handed to the engine and are not finished."""
        units = [(flight.ready.unit.unit, flight.ready.row) for flight in self._begun]
        rows = [(unit.shard, unit.start + row) for unit, row in units]
        return [RowRange(shard, row, row + 1) for shard, row in sorted(rows)]

    @property
    def _begun(self) -> set[_Flight]:
        return {f for i, f in list(self._flights.items()) if i not in self._requests}

    @property
    def progress(self) -> Progress:
        """Totals up to now."""
        stats, blocks, totals = self._engine.stats, self._engine.facts.num_blocks, self._totals
        held, begun = round(stats.kv_use * blocks), self._begun
        return Progress(
            rows=totals.rows,
            failed=totals.errors.total(),
            prompt_tokens=totals.prompt_tokens,
            completion_tokens=totals.completion_tokens,
            preemptions=stats.preemptions,
            recomputed_tokens=stats.recomputed_tokens,
            running=stats.running,
            waiting=len(set(self._flights.values()) - begun),
            given_up=totals.given_up,
            in_engine=len(begun),
            errors=totals.errors + Counter(self._feeder.errors),
            kv_use=stats.kv_use,
            kv_blocks=blocks,
            kv_held=held,
            kv_reserved=max(0, math.ceil(self._admission.peak) - held),
            first_step=totals.first_step,
            last_step=totals.last_step,
            timeline=totals.intervals,
            kv_count_error=self._shadow.error if self._shadow and self._shadow.agrees else None,
        )

    def _beat(self) -> None:
        now = time.monotonic()
        if now - self._last_beat >= _HEARTBEAT_SECONDS:
            self._last_beat = now
            self._heartbeat(self.progress)

    @property
    def _wanted(self) -> int:
        """Requests that the policy, or else an engine that is never to lack one, should get."""
        room = _FULL * self._limits.max_num_seqs - len(self._flights)
        return max(0, room) if self._admission.wanted is None else self._admission.wanted

    def _take_rows(self) -> None:
        idle = not self._flights
        if idle and not self._once.room:
            time.sleep(_IDLE_SECONDS)
        for _ in range(self._wanted):
            if not (self._wanted and self._once.room):
                return  # one row may be many requests, or only wait for another
            ready = self._feeder.take(wait_seconds=_IDLE_SECONDS if idle else 0.0)
            if ready is None:
                return
            idle = False
            self._once.take(ready)

    def _compute(self, ready: ReadyRow) -> None:
        """A row that no other row answers."""
        try:
            answer = self._answers.answer(ready.prompt)
        except RowError as error:
            tokens = len(ready.prompt.ids)
            self._once.finished(ready, RowResult(error=error, prompt_tokens=tokens))
            return
        self._ask(_Flight(ready, answer), answer.start(), urgent=False)

    def _ask(self, flight: _Flight, requests: list[Request], *, urgent: bool) -> None:
        for request in requests:
            if flight.answer.result is not None:
                return  # an earlier one was refused, and with it the row
            demand = self._demand(request)
            self._flights[request.id] = flight
            flight.requests.add(request.id)
            needed = self._limits.missing(demand)
            if needed is not None:
                blocks = self._engine.facts.num_blocks
                message = (
                    f"prompt has {demand.prompt_tokens} tokens and needs {needed} KV blocks, "
                    f"the engine has {blocks}"
                )
                error = RowError(RowErrorType.PROMPT_TOO_LONG, message)
                self._refuse(request.id, error)
                continue
            self._requests[request.id] = request
            self._admission.add(demand, urgent=urgent)

    def _demand(self, request: Request) -> Demand:
        tokens = len(request.prompt_ids)
        # vLLM computes a prompt that is scored from its first token on, cached or not
        scored = request.score_from is not None or not self._engine.facts.prefix_caching
        keys = () if scored else block_keys(request.prompt_ids, self._engine.facts.block_size)
        group = group_of(0, tokens)
        return Demand(request.id, tokens, request.max_new_tokens, keys, group)

    def _admit(self) -> None:
        ending = self._feeder.ending
        while len(self._admission):
            waiting = self._engine.stats.waiting + self._added
            inside = len(self._flights) - len(self._requests)
            demand = self._admission.next(inside=inside, waiting=waiting, ending=ending)
            if demand is None:
                return
            request = self._requests.pop(demand.id)
            flight = self._flights[demand.id]
            if not self._feeder.begin(flight.ready):
                del self._flights[demand.id]
                self._admission.finished(demand.id, None)
                self._let_go(flight)
                continue
            self._timeouts.begin(flight, time.monotonic())
            try:
                self._engine.add(request)
            except RowError as error:
                self._admission.finished(demand.id, None)
                self._refuse(request.id, error)
                continue
            except Exception as e:
                raise as_failure(e) from e
            if self._shadow is not None:
                scored = request.score_from is not None
                self._shadow.added(
                    demand.id, demand.prompt_tokens, demand.keys, reads_cache=not scored
                )
            self._added += 1

    def _step(self) -> None:
        stats = self._engine.stats
        before = self._totals.begin_step(stats)
        if self._empty:
            self._empty = False
            self._announce()
            self._expect_a_step()
        try:
            completions = self._engine.step()
        except Exception as e:
            raise as_failure(e) from e
        seconds = time.time() - before.started
        recomputed = stats.recomputed_tokens - before.recomputed_tokens
        self._added = 0
        self._admission.generated(stats.sampled)
        work = StepWork(sequences=len(stats.sampled), prefill_tokens=recomputed)
        self._admission.stepped(seconds, work, stats.waiting)
        if recomputed:
            self._admission.recomputed(recomputed)
        if self._shadow is not None:
            gone = [completion.request_id for completion in completions]
            self._shadow.stepped(stats.sampled, gone, stats.kv_use)
        ended: list[tuple[_Flight | None, Completion]] = []
        for completion in completions:  # none of them is in the engine any more
            tokens = None if completion.error is not None else completion.completion_tokens
            self._admission.finished(completion.request_id, tokens)
            ended.append((self._flights.pop(completion.request_id, None), completion))
        for flight, completion in ended:
            self._hear(flight, completion)
        if stats.sampled or completions or stats.kv_use != self._kv_use:
            self._expect_a_step()
        self._kv_use = stats.kv_use
        self._rest_if_empty()
        self._totals.end_step(before, stats, ended=bool(completions))

    def _refuse(self, request_id: int, error: RowError) -> None:
        """A request that never comes into the engine."""
        self._hear(self._flights.pop(request_id, None), Completion(request_id, error=error))

    def _hear(self, flight: _Flight | None, completion: Completion) -> None:
        """``flight``: whose request has ended; None where its row has its result already."""
        if flight is None:
            return
        flight.requests.discard(completion.request_id)
        if flight.answer.result is not None:
            return  # another of the row's requests ended in the same step, with an error
        requests = flight.answer.receive(completion)
        if not self._conclude(flight):
            self._ask(flight, requests, urgent=True)  # concludes it where one is refused

    def _conclude(self, flight: _Flight) -> bool:
        """Whether the row has its result, which is passed on then."""
        result = flight.answer.result
        if result is None:
            return False
        self._end_requests(flight)  # there are some where another was refused
        losses = flight.ready.unit.losses
        if losses and result.error is not None and result.error.attempts:
            result = result.tried_before(losses)
        self._once.finished(flight.ready, result)
        return True

    def _drop_late_rows(self) -> None:
        """Rows that had the engine for too long make room for others."""
        for flight in self._timeouts.over(time.monotonic()):
            self._end_requests(flight)
            attempts = flight.ready.unit.losses + 1
            message = f"not finished {duration(self._row_seconds or 0)} after it was begun"
            error = RowError(RowErrorType.TIMEOUT, message, attempts)
            tokens = len(flight.ready.prompt.ids)
            self._once.finished(flight.ready, RowResult(error=error, prompt_tokens=tokens))

    def _end_requests(self, flight: _Flight) -> None:
        """The row needs none of its requests any more, wherever they are."""
        self._timeouts.end(flight)
        known = sorted(i for i in flight.requests if i in self._flights)
        begun = [i for i in known if i not in self._requests]
        if begun:
            self._engine.abort(begun)
        if begun and self._shadow is not None:
            self._shadow.aborted(begun)
        for request_id in known:
            del self._flights[request_id]
            if self._requests.pop(request_id, None) is not None:
                self._admission.forget(request_id)
            else:
                self._admission.finished(request_id, None)
        self._rest_if_empty()

    def _let_go(self, flight: _Flight) -> None:
        """A row that waited here and is to be done by another worker, or another time."""
        self._totals.given_up += 1
        self._end_requests(flight)
        self._once.given_up(flight.ready)

    def _rest_if_empty(self) -> None:
        """Nothing is expected of an engine that has nothing."""
        if not self._flights:
            self._empty = True
            if self._watchdog is not None:
                self._watchdog.rest()

    def _expect_a_step(self) -> None:
        if self._watchdog is not None and self._step_seconds < math.inf:
            self._watchdog.expect(NO_STEP, self._step_seconds)

    def _finish(self, ready: ReadyRow, result: RowResult) -> None:
        if ready.row >= ready.unit.unit.rows:
            self._totals.given_up += 1
            return
        self._totals.finished(result)
        if ready.unit.finish(ready.row, result):
            self._whole(ready.unit)


def _shadow(engine: Engine, geometry: Geometry) -> ShadowEngine | None:
    """Our own count beside an engine that does one step at a time, as the model does."""
    facts = engine.facts
    if facts.batches_in_flight > 1 or facts.steps_ahead or facts.kind != "vllm":
        return None
    return ShadowEngine(facts.model(geometry))
