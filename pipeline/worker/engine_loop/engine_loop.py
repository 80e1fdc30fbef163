"""Keeping one engine full: admit what fits, step, hand results back."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable

from pipeline.admission.demand import Demand, block_keys, group_of
from pipeline.admission.policy import Limits, make_policy
from pipeline.budget.step_time import StepWork
from pipeline.engine.failure.oom_errors import as_failure
from pipeline.engine.protocol import Engine
from pipeline.errors import RowError, RowErrorType
from pipeline.humanize import duration
from pipeline.model.geometry import Geometry
from pipeline.output.columns.results import RowResult
from pipeline.prompt.answers import Answers
from pipeline.rows.request import Completion, Request
from pipeline.rows.row_range import RowRange
from pipeline.simulate.shadow_engine import ShadowEngine
from pipeline.worker.answer_cache.lookup import AnswerLookup
from pipeline.worker.coordination.messages import Progress
from pipeline.worker.deduplication import Decision, Deduplication
from pipeline.worker.engine_loop.in_hand import InHand, RequestInHand, RowInHand, Timeouts
from pipeline.worker.engine_loop.loop_settings import LoopSettings
from pipeline.worker.engine_loop.watchdog import Watchdog
from pipeline.worker.feeder import Feeder
from pipeline.worker.metrics.engine_totals import Totals
from pipeline.worker.open_unit import OpenUnit, ReadyRow

_IDLE_SECONDS = 0.02
_HEARTBEAT_SECONDS = 1.0
_FULL = 2  # times as many as may run: so the engine always has one to begin
NO_STEP = "the engine made no step"


class EngineLoop:
    """Moves rows from the feeder through the engine until there are no more.

    A row is answered by another row like it, or becomes requests. These wait in the admission
    policy for their turn, and the row's result goes to its unit.
    """

    def __init__(
        self,
        engine: Engine,
        settings: LoopSettings,
        answers: Answers,
        feeder: Feeder,
        whole: Callable[[OpenUnit], None],
        heartbeat: Callable[[Progress], None],
        *,
        stored: AnswerLookup | None = None,
        watchdog: Watchdog | None = None,
        announce: Callable[[], None] = lambda: None,
    ) -> None:
        """``whole`` receives units in which every row has its result. ``stored``: answers that
        other workers have stored. ``announce`` is called before an empty engine begins."""
        facts = engine.facts
        layout = facts.layout(settings.geometry)
        self._engine = engine
        self._answers = answers
        self._feeder = feeder
        self._whole = whole
        self._heartbeat = heartbeat
        self._once = Deduplication(answers, enabled=settings.answer_once, stored=stored)
        sizes = (facts.num_blocks, facts.max_num_seqs, facts.max_num_batched_tokens)
        self._limits = Limits(layout, *sizes, settings.longest_answer, facts.steps_ahead)
        self._admission = make_policy(settings.admission, self._limits, settings.known_lengths)
        self._shadow = _shadow(engine, settings.geometry)
        self._in_hand = InHand()
        self._added = 0  # since the last step
        self._timeouts: Timeouts[RowInHand] = Timeouts(settings.row_timeout_seconds)
        self._row_seconds = settings.row_timeout_seconds
        self._step_seconds = settings.step_timeout_seconds
        self._watchdog = watchdog
        self._announce = announce
        self._empty = True  # as others were told of the engine
        self._winding_up = False
        self._totals = Totals()
        self._last_beat = self._kv_use = 0.0

    def run(self) -> None:
        """Work until the feeder is exhausted and the last row has its result. If the run is
        stopped: until what is in the engine is finished, or the time for that is over."""
        while self._feeder.deadline is None or not self._wound_up(self._feeder.deadline):
            self._take_rows()
            self._carry_out(self._once.poll())
            self._drop_late_rows()
            self._admit()
            if self._in_hand:
                self._step()
            elif self._feeder.exhausted and not self._once.waiting:
                return
            self._beat()

    def _wound_up(self, deadline: float) -> bool:
        """The run is stopping: whether nothing is left to finish."""
        if not self._winding_up:
            self._winding_up = True
            self._leave_what_waits()
        if (self._in_hand or self._once.waiting) and time.monotonic() < deadline:
            return False
        self._engine.abort([one.request.id for one in self._in_hand.begun])
        for unit in self._feeder.unfinished():
            self._feeder.keep(unit, unit.front)
        return True

    def _leave_what_waits(self) -> None:
        """Leave rows behind the last one of their unit that is finished or in the engine for
        another run. Those before it are worth finishing, since rows are committed from the first
        on; also those that waited for the answer of a row that is left."""
        ends: dict[int, int] = {}
        for row in self._in_hand.begun_rows:
            ready = row.ready
            ends[id(ready.unit)] = max(ends.get(id(ready.unit), 0), ready.row + 1)
        for unit in self._feeder.unfinished():
            self._feeder.keep(unit, max(ends.get(id(unit), 0), unit.last))
        for row in self._in_hand.rows:
            if row.ready.row >= row.ready.unit.unit.rows:
                self._let_go(row)
        self._admission.take_back()
        for one in self._in_hand.not_begun:
            self._admission.add(self._demand(one.request), urgent=True)

    @property
    def rows_in_engine(self) -> list[RowRange]:
        """Rows that were handed to the engine and are not finished."""
        units = [(one.ready.unit.unit, one.ready.row) for one in self._in_hand.begun_rows]
        rows = [(unit.shard, unit.start + row) for unit, row in units]
        return [RowRange(shard, row, row + 1) for shard, row in sorted(rows)]

    @property
    def progress(self) -> Progress:
        """Totals up to now."""
        stats, blocks, totals = self._engine.stats, self._engine.facts.num_blocks, self._totals
        held, begun = round(stats.kv_use * blocks), len(self._in_hand.begun_rows)
        return Progress(
            rows=totals.rows,
            failed=totals.errors.total(),
            prompt_tokens=totals.prompt_tokens,
            completion_tokens=totals.completion_tokens,
            generated=totals.generated,
            preemptions=stats.preemptions,
            recomputed_tokens=stats.recomputed_tokens,
            running=stats.running,
            waiting=len(self._in_hand.rows) - begun,
            given_up=totals.given_up,
            in_engine=begun,
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
        """How many requests to give to the policy, or to an engine that must never run out of
        them."""
        room = _FULL * self._limits.max_num_seqs - len(self._in_hand)
        return max(0, room) if self._admission.wanted is None else self._admission.wanted

    def _take_rows(self) -> None:
        idle = not self._in_hand
        if idle and not self._once.room:
            time.sleep(_IDLE_SECONDS)
        for _ in range(self._wanted):
            if not (self._wanted and self._once.room):
                return  # one row may become many requests, or only wait for another
            ready = self._feeder.take(wait_seconds=_IDLE_SECONDS if idle else 0.0)
            if ready is None:
                return
            idle = False
            self._carry_out(self._once.take(ready))

    def _carry_out(self, decisions: Iterable[Decision]) -> None:
        for one in decisions:
            if one.result is None:
                self._compute(one.row)
            else:
                self._finish(one.row, one.result)

    def _ended(self, ready: ReadyRow, result: RowResult) -> None:
        """A computed row has its result, and perhaps other rows get the same."""
        self._carry_out(self._once.finished(ready, result))

    def _compute(self, ready: ReadyRow) -> None:
        """A row that no other row answers."""
        try:
            answer = self._answers.answer(ready.prompt)
        except RowError as error:
            tokens = len(ready.prompt.ids)
            self._ended(ready, RowResult(error=error, prompt_tokens=tokens))
            return
        self._ask(RowInHand(ready, answer), answer.start(), urgent=False)

    def _ask(self, row: RowInHand, requests: list[Request], *, urgent: bool) -> None:
        for request in requests:
            if row.answer.result is not None:
                return  # an earlier one was refused, and the row with it
            demand = self._demand(request)
            self._in_hand.add(request, row)
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
            self._admission.add(demand, urgent=urgent)

    def _demand(self, request: Request) -> Demand:
        tokens = len(request.prompt_ids)
        # vLLM computes a scored prompt from its first token on, cached or not
        scored = request.score_from is not None or not self._engine.facts.prefix_caching
        keys = () if scored else block_keys(request.prompt_ids, self._engine.facts.block_size)
        group = group_of(0, tokens)
        return Demand(request.id, tokens, request.max_new_tokens, keys, group)

    def _admit(self) -> None:
        ending = self._feeder.ending
        while len(self._admission):
            waiting = self._engine.stats.waiting + self._added
            inside = self._in_hand.inside
            demand = self._admission.next(inside=inside, waiting=waiting, ending=ending)
            if demand is None:
                return
            one = self._in_hand.begin(demand.id)
            request, row = one.request, one.row
            if not self._feeder.begin(row.ready):
                self._in_hand.drop(demand.id)
                self._admission.finished(demand.id, None)
                self._let_go(row)
                continue
            self._timeouts.begin(row, time.monotonic())
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
        ended: list[tuple[RequestInHand | None, Completion]] = []
        for completion in completions:  # from now on none of them is in the engine
            tokens = None if completion.error is not None else completion.completion_tokens
            self._admission.finished(completion.request_id, tokens)
            ended.append((self._in_hand.drop(completion.request_id), completion))
        for one, completion in ended:
            self._hear(one, completion)
        if stats.sampled or completions or stats.kv_use != self._kv_use:
            self._expect_a_step()
        self._kv_use = stats.kv_use
        self._rest_if_empty()
        self._totals.end_step(before, stats, ended=bool(completions))

    def _refuse(self, request_id: int, error: RowError) -> None:
        """A request that will never go into the engine."""
        self._hear(self._in_hand.drop(request_id), Completion(request_id, error=error))

    def _hear(self, one: RequestInHand | None, completion: Completion) -> None:
        """``one``: the request that has ended; None where its row has its result already."""
        if one is None:
            return
        row = one.row
        row.requests.discard(completion.request_id)
        if row.answer.result is not None:
            return  # another of the row's requests ended in the same step, with an error
        requests = row.answer.receive(completion)
        if not self._conclude(row):
            self._ask(row, requests, urgent=True)  # concludes the row where one is refused

    def _conclude(self, row: RowInHand) -> bool:
        """Whether the row has its result, which is then passed on."""
        result = row.answer.result
        if result is None:
            return False
        self._end_requests(row)  # there are some if another request was refused
        losses = row.ready.unit.losses
        if losses and result.error is not None and result.error.attempts:
            result = result.tried_before(losses)
        self._ended(row.ready, result)
        return True

    def _drop_late_rows(self) -> None:
        """Rows that were in the engine for too long make room for others."""
        for row in self._timeouts.over(time.monotonic()):
            self._end_requests(row)
            attempts = row.ready.unit.losses + 1
            message = f"not finished {duration(self._row_seconds or 0)} after it was begun"
            error = RowError(RowErrorType.TIMEOUT, message, attempts)
            tokens = len(row.ready.prompt.ids)
            self._ended(row.ready, RowResult(error=error, prompt_tokens=tokens))

    def _end_requests(self, row: RowInHand) -> None:
        """The row needs none of its requests any more, wherever they are."""
        self._timeouts.end(row)
        begun, waited = self._in_hand.drop_all_of(row)
        if begun:
            self._engine.abort(begun)
        if begun and self._shadow is not None:
            self._shadow.aborted(begun)
        for request_id in waited:
            self._admission.forget(request_id)
        for request_id in begun:
            self._admission.finished(request_id, None)
        self._rest_if_empty()

    def _let_go(self, row: RowInHand) -> None:
        """A row that waited here and will be done by another worker, or in another run."""
        self._totals.given_up += 1
        self._end_requests(row)
        self._carry_out(self._once.given_up(row.ready))

    def _rest_if_empty(self) -> None:
        """Tell the watchdog that an empty engine need not move."""
        if not self._in_hand:
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
    """Our own count of blocks, for engines that do one step at a time as the model does."""
    facts = engine.facts
    if facts.batches_in_flight > 1 or facts.steps_ahead or facts.kind != "vllm":
        return None
    return ShadowEngine(facts.model(geometry))
