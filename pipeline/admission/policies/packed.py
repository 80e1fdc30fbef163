"""Rackmill's own policy: the window says which request is next, the packer whether it may go in."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from pipeline.admission.demand import Demand
from pipeline.admission.lengths import OutputLengths
from pipeline.admission.packer import Packer
from pipeline.admission.policy import Limits
from pipeline.admission.window import WaitingRow, Window
from pipeline.budget.step_time import StepWork
from pipeline.rows.workload import Lengths

_WINDOW, _NARROW = 512, 64  # rows that are chosen among: at most, at least
_WIDE = 4  # times as many as run
_GROUPED = 0.02  # of the rows share a prefix with some others, but not all
_STALE = 64  # completions, after which a group's expected length is looked up again


class Packed:
    """Requests wait here until it is their turn.

    Only about one step's worth of prefill waits inside the engine: the order stays ours.
    """

    patience = 8

    def __init__(self, limits: Limits, known: Lengths | None = None) -> None:
        """``known``: how long completions turned out in an earlier run, or may be."""
        self._lengths = OutputLengths(limits.max_tokens, known)
        self.packer = Packer(
            limits.layout,
            limits.pool_blocks,
            limits.max_num_seqs,
            self._lengths,
            limits.steps_ahead,
        )
        self._window = Window(limits.layout.block_size)
        self._ahead = limits.steps_ahead
        self._most_prefill_tokens = (2 + self._ahead) * limits.max_num_batched_tokens
        # new tokens of requests that the engine has not begun, as far as we know; newest last
        self._prefilling: dict[int, int] = {}
        self._prefill_tokens = 0  # their sum
        self._begun_tokens = 0  # of requests begun since ``begun`` was last called
        self._urgent: deque[Demand] = deque()
        self._demands: dict[int, Demand] = {}  # those in the window
        self._expected: dict[tuple[int, int], tuple[int, float]] = {}  # -> (when, tokens)

    def __len__(self) -> int:
        """How many wait here."""
        return len(self._demands) + len(self._urgent)

    @property
    def peak(self) -> float:
        return self.packer.peak

    @property
    def wanted(self) -> int:
        """How many more requests there should be to choose among.

        Few where few run, since a request that waits here cannot go to another worker any more; but
        many where prefixes are shared, to find those that belong together.
        """
        wide = self._window.grouped > _GROUPED
        size = _WINDOW if wide else min(_WINDOW, max(_NARROW, _WIDE * self.packer.running))
        return max(0, size - len(self))

    def add(self, demand: Demand, *, urgent: bool = False) -> None:
        if urgent:
            self._urgent.append(demand)
            return
        self._demands[demand.id] = demand
        row = (demand.id, demand.prompt_tokens, self._expect(demand), demand.max_new_tokens)
        share = self.packer.cache_share(demand.prompt_tokens)
        self._window.add(WaitingRow(*row, tuple(demand.keys), share))

    def next(self, *, inside: int, waiting: int, ending: bool) -> Demand | None:  # noqa: ARG002
        self.begun(waiting)
        if self._prefill_tokens >= self._most_prefill_tokens:
            return None
        if self._urgent:
            if self.packer.refusal(self._urgent[0]) is not None:
                return None
            demand = self._urgent.popleft()
        else:
            running = self.packer.running
            roomy = self.packer.roomy
            chosen = self._window.choose(self._fits, running=running, ending=ending, roomy=roomy)
            if chosen is None:
                return None
            demand = self._demands.pop(chosen.id)
        new_tokens = max(1, demand.prompt_tokens - self.packer.shared_tokens(demand))
        self._prefilling[demand.id] = new_tokens
        self._prefill_tokens += new_tokens
        self.packer.admit(demand)
        return demand

    def forget(self, request_id: int) -> None:
        if self._demands.pop(request_id, None) is not None:
            self._window.remove(request_id)
        else:
            self._urgent = deque(d for d in self._urgent if d.id != request_id)

    def take_back(self) -> list[int]:
        ids = [*self._demands, *(demand.id for demand in self._urgent)]
        for request_id in self._demands:
            self._window.remove(request_id)
        self._demands.clear()
        self._urgent.clear()
        return ids

    def generated(self, ids: Iterable[int], steps: int = 1) -> None:
        if self._ahead:
            for request_id in [i for i in ids if i in self._prefilling]:
                self._began(request_id)
        self.packer.generated(ids, steps)

    def finished(self, request_id: int, tokens: int | None) -> None:
        self._prefill_tokens -= self._prefilling.pop(request_id, 0)
        self.packer.finished(request_id, tokens)

    def recomputed(self, tokens: int) -> None:
        self.packer.safety_margin.recomputed(tokens)

    def stepped(self, seconds: float, work: StepWork, waiting: int | None = None) -> None:
        begun = 0 if waiting is None else self.begun(waiting)
        self.packer.safety_margin.stepped(
            seconds,
            sequences=work.sequences,
            prefill_tokens=work.prefill_tokens + begun,
            steps=work.steps,
        )

    def begun(self, waiting: int) -> int:
        """Tokens of prompts that the engine has begun since the last call.

        ``waiting``: how many requests it has not begun. For an engine that is steps ahead this is
        known too late: there a request counts as begun with its first token.
        """
        while not self._ahead and len(self._prefilling) > waiting:
            self._began(next(iter(self._prefilling)))  # in the order of admission
        begun, self._begun_tokens = self._begun_tokens, 0
        return begun

    def _began(self, request_id: int) -> None:
        tokens = self._prefilling.pop(request_id)
        self._prefill_tokens -= tokens
        self._begun_tokens += tokens

    def _fits(self, row: WaitingRow) -> bool:
        return self.packer.refusal(self._demands[row.id]) is None

    def _expect(self, demand: Demand) -> float:
        about = (demand.group, demand.max_new_tokens)
        known, expected = self._expected.get(about, (-_STALE, 0.0))
        if self._lengths.observed - known >= _STALE:
            expected = self._lengths.expected(demand.group, demand.max_new_tokens)
            self._expected[about] = (self._lengths.observed, expected)
        return expected


def make(limits: Limits, known: Lengths | None, number: int) -> Packed:  # noqa: ARG001
    return Packed(limits, known)
