"""vLLM's V1 scheduler as a pure step model: which requests run, wait, are preempted, and when.

Modelled on vLLM 0.32 ``v1/core/sched/scheduler.py`` with its defaults: running requests first, then
waiting ones in order; chunked prefill under a token budget; a waiting request starts only if all
its known tokens fit (``scheduler_reserve_full_isl``) and nothing was preempted in the step; if a
block is missing, the newest running request is preempted, and later recomputes what the prefix
cache has lost. ``tests/simulate/test_vllm_model.py`` compares it with the real one, step by step.
Not modelled: batches in flight (asynchronous scheduling), priorities, connectors.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from pipeline.budget.kv_layout import KvLayout
from pipeline.budget.step_time import StepWork, attended
from pipeline.simulate.vllm_model.kv_cache import KvCache, Sequence

_LONGEST_CALM = 256  # steps advanced at once, at most


@dataclass(slots=True)
class Step:
    """What one step did. ``scheduled``: tokens of each sequence, in vLLM's order. ``sampled``:
    those that got a token; the caller then calls ``finish`` for sequences that end."""

    work: StepWork = field(default_factory=StepWork)
    scheduled: list[tuple[Sequence, int]] = field(default_factory=list)
    sampled: list[Sequence] = field(default_factory=list)
    preempted: list[Sequence] = field(default_factory=list)


class EngineModel:
    """One engine. ``pool_blocks``: usable ones, ``num_gpu_blocks - 1``.

    ``dense_retention``: ``prefix_cache_retention_interval`` is None (vLLM's default is 0).
    ``max_model_len``: tokens; by default the model's context.
    """

    def __init__(
        self,
        layout: KvLayout,
        pool_blocks: int,
        *,
        max_num_seqs: int,
        max_num_batched_tokens: int,
        prefix_caching: bool = True,
        dense_retention: bool = False,
        max_model_len: int | None = None,
    ) -> None:
        self.layout = layout
        self.max_num_seqs = max_num_seqs
        self.max_num_batched_tokens = max_num_batched_tokens
        self.running: list[Sequence] = []
        self.waiting: deque[Sequence] = deque()
        self.preemptions = 0
        self.recomputed_tokens = 0
        self.computed_tokens = 0
        self._span = layout.geometry.sliding_window
        self._context = max_model_len or layout.geometry.context
        self.cache = KvCache(
            layout, pool_blocks, self._context, caching=prefix_caching, dense=dense_retention
        )

    @property
    def pool(self) -> int:
        """Blocks that sequences may hold."""
        return self.cache.pool.blocks

    @property
    def free(self) -> int:
        """Blocks that no running sequence holds, including cached ones."""
        return self.cache.pool.free

    @property
    def used(self) -> int:
        """Blocks that running sequences hold, shared ones counted once."""
        return self.pool - self.free

    def add(self, sequence: Sequence) -> None:
        """Add a request; it waits."""
        self.waiting.append(sequence)

    def peak(self, tokens: int) -> int:
        """Blocks that the engine must have for one sequence of ``tokens`` alone: with fewer it
        would never be admitted, or preempt itself forever."""
        layout = self.layout
        whole = -(-tokens // layout.block_size)
        sliding = min(whole, layout.admission_cap(max(tokens, self._context)))
        return layout.full_groups * whole + layout.sliding_groups * sliding

    def step(self) -> Step:
        """Schedule and compute one step."""
        done = Step()
        budget = self._schedule_running(done, self.max_num_batched_tokens)
        if not done.preempted:
            self._schedule_waiting(done, budget)
        done.work = self._compute(done)
        return done

    def finish(self, sequence_id: int) -> Sequence:
        """A sequence has all its tokens. Call in the order of ``Step.sampled``. Raises KeyError."""
        return self.abort(sequence_id)

    def abort(self, sequence_id: int) -> Sequence:
        """Remove a sequence, wherever it is. Raises KeyError."""
        for queue in (self.running, self.waiting):
            for sequence in queue:
                if sequence.id == sequence_id:
                    queue.remove(sequence)
                    self.cache.free(sequence)
                    return sequence
        raise KeyError(sequence_id)

    def check(self) -> None:
        """Conservation: free and held blocks add up to the pool. Raises AssertionError."""
        held = self.cache.held_by_all(self.running)
        assert self.free + held == self.pool, (self.free, held, self.pool)
        assert all(not sequence.columns for sequence in self.waiting)
        assert len(self.running) <= self.max_num_seqs

    def _schedule_running(self, done: Step, budget: int) -> int:
        running, cache, index = self.running, self.cache, 0
        scheduled = done.scheduled
        while index < len(running) and budget > 0:
            sequence = running[index]
            slots = sequence.computed + 1
            if slots < sequence.quiet_until:  # decodes within its blocks
                scheduled.append((sequence, 1))
                budget -= 1
                index += 1
                continue
            new = min(sequence.tokens - sequence.computed, budget)
            slots = sequence.computed + new
            cache.trim(sequence)
            while cache.growth(sequence, slots) > cache.pool.free:
                victim = running.pop()
                self._preempt(victim)
                done.preempted.append(victim)
                if victim is sequence:
                    return budget
            cache.grow(sequence, slots)
            cache.remember(sequence, slots)
            if slots == sequence.tokens:
                cache.quiet(sequence)
            scheduled.append((sequence, new))
            budget -= new
            index += 1
        return budget

    def _preempt(self, sequence: Sequence) -> None:
        self.cache.free(sequence)
        sequence.computed = 0
        sequence.preemptions += 1
        self.preemptions += 1
        self.waiting.appendleft(sequence)

    def _schedule_waiting(self, done: Step, budget: int) -> None:
        cache = self.cache
        while budget > 0 and self.waiting and len(self.running) < self.max_num_seqs:
            sequence = self.waiting[0]
            hit = cache.hit(sequence)
            found = len(hit.full)
            computed = found * cache.size
            sequence.junction = hit.longest * cache.size if hit.longest > found else 0
            new = min(sequence.tokens - computed, budget)
            if cache.needed(hit, sequence.tokens, capped=True) > cache.pool.free:
                return
            if cache.needed(hit, computed + new) > cache.pool.free:
                return
            cache.begin(sequence, hit)
            cache.grow(sequence, computed + new)
            cache.remember(sequence, computed + new)
            sequence.computed = computed
            self.running.append(self.waiting.popleft())
            done.scheduled.append((sequence, new))
            budget -= new

    def _compute(self, done: Step) -> StepWork:
        span = self._span
        sequences = context = window = 0
        prefill_tokens = prefill_context = prefill_window = prefills = added = 0
        for sequence, new in done.scheduled:
            start = sequence.computed
            end = sequence.computed = start + new
            ready = end == sequence.prompt_tokens + sequence.generated
            if new == 1 and ready and sequence.generated:
                sequences += 1
                context += end
                window += end if end < span else span
            else:
                prefill_tokens += new
                prefill_context += attended(start, new)
                prefill_window += attended(start, new, span)
                prefills += ready
                added += not sequence.computed_once
            once = sequence.computed_once
            if once > start:
                self.recomputed_tokens += (end if end < once else once) - start
            if end > once:
                sequence.computed_once = end
            self.computed_tokens += new
            if ready:
                sequence.generated += 1
                done.sampled.append(sequence)
        return StepWork(
            sequences,
            context,
            window,
            prefill_tokens,
            prefill_context,
            prefill_window,
            prefills,
            added,
        )

    def calm_steps(self, limit: int) -> int:
        """How many of the next ``limit`` steps are pure decoding with the same sequences: nothing
        is admitted or preempted (a few at the end may be left out)."""
        running, cache, span = self.running, self.cache, self._span
        limit = min(limit, _LONGEST_CALM, max(1, span - 2 * cache.size))
        if not running or limit < 1 or len(running) > self.max_num_batched_tokens:
            return 0
        for sequence in running:
            if sequence.computed + 1 != sequence.prompt_tokens + sequence.generated:
                return 0  # not decoding yet
        wanted = self._wanted_by_head()
        size, groups, sliding = cache.size, cache.groups, len(cache.sliding)
        taken, given = [0] * limit, [0] * limit
        shared = False  # a trimmed block that another sequence holds is not free yet
        for sequence in running:
            computed = sequence.computed
            if computed + limit < sequence.quiet_until:
                continue
            for t in range(sequence.columns * size - computed, limit, size):
                taken[t] += groups
            if sliding and (sequence.trimmed + 1) * size + span <= computed + limit:
                now = cache.passed(sequence)  # several, after a long prompt
                given[0] += sliding * (now - sequence.trimmed)
                for t in range((now + 1) * size + span - 1 - computed, limit, size):
                    given[t] += sliding
                    now += 1
                passing = sequence.window[sequence.trimmed : now]
                shared |= any(block.users > 1 for column in passing for block in column or ())
        least = most = cache.pool.free
        for t in range(limit):
            if taken[t] > least:
                return t
            least -= taken[t] - (0 if shared else given[t])
            most += given[t] - taken[t]
            if wanted is not None and wanted <= most:
                return t
        return limit

    def advance(self, steps: int) -> StepWork:
        """Take ``steps`` calm steps at once (see ``calm_steps``). Returns their total work."""
        running, cache, span = self.running, self.cache, self._span
        size = cache.size
        events: list[tuple[int, int]] = []
        for index, sequence in enumerate(running):
            computed = sequence.computed
            if computed + steps < sequence.quiet_until:
                continue
            events += [(t, index) for t in range(sequence.columns * size - computed, steps, size)]
            if cache.sliding and (sequence.trimmed + 1) * size + span <= computed + steps:
                now = cache.passed(sequence)
                if now > sequence.trimmed:
                    events.append((0, index))
                first = (now + 1) * size + span - 1 - computed
                events += [(t, index) for t in range(first, steps, size)]
        events.sort()  # blocks go to the next sequence that needs one, in vLLM's order
        starts = [sequence.computed for sequence in running]
        for t, index in events:
            sequence = running[index]
            sequence.computed = starts[index] + t
            cache.trim(sequence)
            cache.grow(sequence, sequence.computed + 1)
        context = window = 0
        for sequence, start in zip(running, starts, strict=True):
            end = start + steps
            sequence.computed = sequence.computed_once = end
            sequence.generated += steps
            if end >= sequence.quiet_until:
                cache.remember(sequence, end)
                cache.quiet(sequence)
            seen = steps * (start + end + 1) // 2  # attended(start, steps), without the call
            context += seen
            window += seen if end <= span else attended(start, steps, span)
        self.computed_tokens += steps * len(running)
        return StepWork(steps * len(running), context, window, steps=steps)

    def _wanted_by_head(self) -> int | None:
        """Free blocks that the first waiting request needs to start; None: none may start."""
        cache = self.cache
        budget = self.max_num_batched_tokens - len(self.running)
        if not self.waiting or len(self.running) >= self.max_num_seqs or budget <= 0:
            return None
        sequence = self.waiting[0]
        hit = cache.hit(sequence)
        slots = min(sequence.tokens, len(hit.full) * cache.size + budget)
        return max(cache.needed(hit, sequence.tokens, capped=True), cache.needed(hit, slots))
