"""One simulated card: a policy, a model of vLLM's scheduler, and the time of its steps. Pure.

The rack (``pipeline.simulate.rack``) runs many of these: it gives rows to the card with the
smallest ``now`` and advances it by one event: a step, or a series of calm steps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any

from pipeline.admission.demand import Demand, group_of
from pipeline.admission.policy import Limits
from pipeline.budget.cards.lookup import Card, in_slot
from pipeline.budget.kv_layout import KvLayout
from pipeline.budget.step_time import StepTime
from pipeline.rows.trace import TraceRow
from pipeline.rows.workload import Lengths
from pipeline.simulate.feed import Feed
from pipeline.simulate.policies import make_policy
from pipeline.simulate.vllm_model.kv_cache import Sequence
from pipeline.simulate.vllm_model.scheduler import EngineModel


@dataclass(frozen=True)
class CardSetup:
    """A card's engine. ``pool_blocks``: usable ones, without the null block. Sizes in tokens.

    ``overrun``: steps that the engine computes for an answer after its end, before it notices: with
    asynchronous scheduling (vLLM's default on CUDA) the next step is scheduled while the last one
    is running, so one. ``steps_ahead``: scheduled steps after the last one that was reported to the
    policy when it decides (see ``EngineFacts``).
    """

    card: Card
    layout: KvLayout
    pool_blocks: int
    max_num_seqs: int
    max_num_batched_tokens: int
    max_model_len: int
    step_time: StepTime
    arguments: dict[str, Any] = field(default_factory=dict)  # vLLM's, as chosen
    prefix_caching: bool = True
    dense_retention: bool = False
    overrun: int = 0
    steps_ahead: int = 0
    weights_bytes: int = 0  # of the text model; for forecasts of a card's speed
    cards: int = 1  # such cards that share each layer

    @property
    def name(self) -> str:
        """What its figures are for: "rtx3090", "2x rtx3060"."""
        return in_slot(self.card.name, self.cards)

    @property
    def title(self) -> str:
        return in_slot(self.card.title, self.cards)


@dataclass(frozen=True, slots=True)
class NeverFits:
    """A row that this card's engine could never finish."""

    row: TraceRow
    blocks: int
    pool: int
    context: int  # the model's, tokens

    @property
    def message(self) -> str:
        words = (
            f"a request of {self.row.prompt_tokens} + {self.row.output_tokens} tokens needs "
            f"{self.blocks} KV blocks, there are {self.pool}"
        )
        if self.row.tokens > self.context:
            words += f"; the model knows {self.context} tokens"
        return words


@dataclass(slots=True)
class _Untold:
    """Equal steps that were not reported to the policy yet, from number ``first`` on: the requests
    that got a token in each, and those that ended with them."""

    first: int
    steps: int
    sampled: list[int]
    ended: list[tuple[int, int]]  # id, tokens


@dataclass
class CardTotals:
    """A card's totals. ``busy``: seconds in steps; ``kv`` and ``batch``: share of the pool held and
    requests running, times seconds."""

    rows: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    steps: int = 0
    busy: float = 0.0
    kv: float = 0.0
    batch: float = 0.0
    last_end: float = 0.0


class CardSim:
    """``policy``: its name (see ``make_policy``). ``max_tokens``: the limit of every request.
    ``name``: in reports. ``known``: see ``make_policy``."""

    def __init__(
        self,
        setup: CardSetup,
        policy: str,
        *,
        max_tokens: int,
        name: str = "",
        known: Lengths | None = None,
    ) -> None:
        self.setup = setup
        self.name = name or setup.name
        self.now = 0.0
        self.totals = CardTotals()
        self.errors: list[NeverFits] = []
        self.ending = False  # no more rows will be given
        self._max_tokens = max_tokens
        self._policy_name = policy
        self._known = known
        self._rows: dict[int, TraceRow] = {}  # given, not finished
        self._truth: dict[int, int] = {}  # id -> tokens until it ends; the card's and the oracle's
        self._coming: list[tuple[float, int]] = []  # (arrival, id), a heap
        self._preemptions = self._recomputed = self._computed = 0  # by engines that are gone
        self._start()

    def _start(self) -> None:
        setup = self.setup
        self.engine = EngineModel(
            setup.layout,
            setup.pool_blocks,
            max_num_seqs=setup.max_num_seqs,
            max_num_batched_tokens=setup.max_num_batched_tokens,
            prefix_caching=setup.prefix_caching,
            dense_retention=setup.dense_retention,
            max_model_len=setup.max_model_len,
        )
        limits = Limits(
            setup.layout,
            setup.pool_blocks,
            setup.max_num_seqs,
            setup.max_num_batched_tokens,
            self._max_tokens,
            setup.steps_ahead,
        )
        self._policy = make_policy(self._policy_name, limits, self.engine, self._truth, self._known)
        self._feed = Feed()
        self._fresh = 0  # requests that the engine has not started
        self._untold: deque[_Untold] = deque()
        self._step = 0  # the number of the next step

    @property
    def unstarted(self) -> int:
        """Rows of which the engine has computed nothing."""
        return len(self._coming) + self._waiting + self._fresh

    @property
    def _waiting(self) -> int:
        """Rows that the policy has or will get."""
        return len(self._policy) + len(self._feed)

    @property
    def active(self) -> int:
        """Rows that the engine works on, including preempted ones."""
        return len(self._rows) - self.unstarted

    @property
    def busy(self) -> bool:
        """Whether ``step`` would do something."""
        return bool(self._rows)

    @property
    def preemptions(self) -> int:
        return self._preemptions + self.engine.preemptions

    @property
    def recomputed_tokens(self) -> int:
        return self._recomputed + self.engine.recomputed_tokens

    @property
    def computed_tokens(self) -> int:
        return self._computed + self.engine.computed_tokens

    def give(self, rows: Iterable[TraceRow]) -> None:
        """Rows for this card; each waits until its arrival. A row that never fits is an error."""
        for row in rows:
            refused = self.never_fits(row)
            if refused is not None:
                self.errors.append(refused)
                continue
            self._rows[row.id] = row
            self._truth[row.id] = row.output_tokens + self.setup.overrun
            if row.arrival > self.now:
                heappush(self._coming, (row.arrival, row.id))
            else:
                self._offer(row)

    def never_fits(self, row: TraceRow) -> NeverFits | None:
        """Why this card can never finish ``row``; None if it can."""
        layout, pool = self.setup.layout, self.setup.pool_blocks
        context = layout.geometry.context
        blocks = self.engine.peak(row.tokens + self.setup.overrun)
        if blocks <= pool and row.tokens <= context:
            return None
        return NeverFits(row, blocks, pool, context)

    def take_back(self) -> list[TraceRow]:
        """Remove and return the rows that have not started."""
        ids = [row_id for _, row_id in self._coming]
        ids += self._policy.take_back() + self._feed.take_back()
        self._coming.clear()
        for sequence in [s for s in self.engine.waiting if not s.computed_once]:
            self.engine.abort(sequence.id)
            self._policy.finished(sequence.id, None)
            ids.append(sequence.id)
        self._fresh = 0
        return self._forget(ids)

    def fail(self) -> list[TraceRow]:
        """The engine dies: returns all its rows, none finished. A new one starts empty."""
        rows = self._forget(list(self._rows))
        self._coming.clear()
        self._preemptions += self.engine.preemptions
        self._recomputed += self.engine.recomputed_tokens
        self._computed += self.engine.computed_tokens
        self._start()
        return rows

    def step(self) -> list[TraceRow]:
        """Advance ``now`` by one event. Returns the rows that end with it."""
        while self._coming and self._coming[0][0] <= self.now:
            self._offer(self._rows[heappop(self._coming)[1]])
        engine = self.engine
        self._tell(self._step - self.setup.steps_ahead)
        self._hand_over()
        if not engine.running and not engine.waiting and self._untold:
            self._tell(self._step)  # idle until the policy knows everything
            self._hand_over()
        if not engine.running and not engine.waiting:
            if self._coming:
                self.now = self._coming[0][0]
            return []
        held, batch = engine.used, len(engine.running)
        calm = engine.calm_steps(self._limit())
        recomputed = engine.recomputed_tokens
        if calm:
            work = engine.advance(calm)
            sampled = engine.running
        else:
            done = engine.step()
            if not done.scheduled and not done.preempted:
                raise RuntimeError(f"{self.name}: the engine does nothing at {self.now:.3f} s")
            work, sampled = done.work, done.sampled
            self._fresh -= work.added
            held, batch = engine.used, len(engine.running)
        seconds = self.setup.step_time.seconds(work)
        self._count(seconds, work.steps, (held + engine.used) / 2, batch)
        if engine.recomputed_tokens > recomputed:
            self._policy.recomputed(engine.recomputed_tokens - recomputed)
        self._policy.stepped(seconds, work)
        self._note(sampled, calm or 1)
        ended = [s for s in sampled if s.generated >= self._truth[s.id]]
        return [self._finish(sequence) for sequence in ended]

    def _note(self, sampled: list[Sequence], steps: int) -> None:
        """Note the last ``steps`` for the policy, without tokens after an answer's end."""
        lengths = [(s.id, self._rows[s.id].output_tokens, s.generated) for s in sampled]
        alive = [i for i, tokens, generated in lengths if generated <= tokens]
        ended = [(i, tokens) for i, tokens, generated in lengths if generated == tokens]
        self._untold.append(_Untold(self._step, steps, alive, ended))
        self._step += steps

    def _tell(self, until: int) -> None:
        """Report all steps before number ``until`` to the policy."""
        while self._untold and self._untold[0].first < until:
            untold = self._untold[0]
            told = min(until - untold.first, untold.steps)
            self._policy.generated(untold.sampled, told)
            untold.first += told
            untold.steps -= told
            if untold.steps:
                return
            for row_id, tokens in untold.ended:
                self._policy.finished(row_id, tokens)
            self._untold.popleft()

    def _limit(self) -> int:
        """Steps until something ends or arrives, or the policy wants to be asked."""
        if self._waiting and any(untold.ended for untold in self._untold):
            return 1  # the policy learns of an end after the next step
        running, rows, over = self.engine.running, self._rows, self.setup.overrun
        missing = (rows[s.id].output_tokens - s.generated for s in running)
        ends = min((n if n > 0 else n + over for n in missing), default=0)
        limit = min(ends, self._policy.patience if self._waiting else ends)
        if self._coming and limit > 1:
            left = self._coming[0][0] - self.now
            spent = self.totals.busy / max(self.totals.steps, 1)
            limit = min(limit, max(1, int(left / spent))) if spent else 1
        return limit

    def _hand_over(self) -> None:
        engine, policy = self.engine, self._policy
        while True:
            for coming in self._feed.take(policy.wanted):
                policy.add(coming)
            waiting = len(engine.waiting)
            demand = policy.next(
                inside=len(engine.running) + waiting,
                waiting=waiting,
                ending=self.ending and not self._coming and not self._feed,
            )
            if demand is None:
                return
            engine.add(Sequence(demand.id, demand.prompt_tokens, tuple(demand.keys)))
            self._fresh += 1

    def _offer(self, row: TraceRow) -> None:
        keys = row.keys(self.setup.layout.block_size)
        group = group_of(row.prefix_group, row.prompt_tokens)
        self._feed.add(Demand(row.id, row.prompt_tokens, self._max_tokens, keys, group))

    def _finish(self, sequence: Sequence) -> TraceRow:
        self.engine.finish(sequence.id)
        row = self._rows.pop(sequence.id)
        del self._truth[sequence.id]
        totals = self.totals
        totals.rows += 1
        totals.prompt_tokens += row.prompt_tokens
        totals.output_tokens += row.output_tokens
        totals.last_end = self.now
        return row

    def _forget(self, ids: list[int]) -> list[TraceRow]:
        for row_id in ids:
            del self._truth[row_id]
        return [self._rows.pop(row_id) for row_id in ids]

    def _count(self, seconds: float, steps: int, held: float, batch: int) -> None:
        self.now += seconds
        totals = self.totals
        totals.steps += steps
        totals.busy += seconds
        totals.kv += seconds * held / self.setup.pool_blocks
        totals.batch += seconds * batch


def run_card(card: CardSim, rows: Iterable[TraceRow]) -> list[TraceRow]:
    """All ``rows`` on one card, to the end; in the order in which they ended."""
    card.ending = True
    card.give(rows)
    ended: list[TraceRow] = []
    while card.busy:
        ended += card.step()
    return ended
