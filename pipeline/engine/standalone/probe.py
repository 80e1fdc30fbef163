"""Measuring an engine's steps: known work, one step at a time, each several times.

Prompts are random tokens, so that nothing of them is cached but what is meant to be. What a step
computes follows from what was added (no cache is ever full here), so this works on any engine.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from pipeline.admission.demand import block_keys
from pipeline.budget.step_time import StepWork
from pipeline.engine.machine.host import waited_for_cores
from pipeline.engine.protocol import Engine
from pipeline.job.sampling import Sampling
from pipeline.model.geometry import Geometry
from pipeline.rows.request import Request
from pipeline.simulate.vllm_model.kv_cache import Sequence as ModelSequence
from pipeline.simulate.vllm_model.step_fit import Timing

_DECODED_STEPS = 8
_ENOUGH = 3  # tries that were left alone
_ROUNDS = 4  # of tries
_LEAST = 8  # cases that are measured however long it takes: a fit needs all kinds
_DISTURBED = 0.05  # share of a try's seconds
_PLAIN_TOKENS = range(1000, 200_000)  # of Gemma's vocabulary
_ROOM = 0.9  # of the cache at most


@dataclass(frozen=True)
class Case:
    """Something to measure: ``requests`` behind prompts of ``prompt`` tokens.

    ``decode``: each gets a token. ``prefill``: their prompts are computed, but for ``cached``
    tokens that they share with an earlier one. ``mixed``: they decode while one more prompt is
    computed.
    """

    kind: Literal["decode", "prefill", "mixed"]
    requests: int
    prompt: int
    cached: int = 0

    def __str__(self) -> str:
        what = {"decode": "decoding behind", "prefill": "prompts of", "mixed": "and a prompt of"}
        behind = f", {self.cached} cached" if self.cached else ""
        return f"{self.requests} {what[self.kind]} {self.prompt} tokens{behind}"


# Coarse before fine and all kinds early: on a slow engine time runs out.
_CASES = (
    Case("decode", 1, 16),
    Case("prefill", 1, 256),
    Case("decode", 16, 16),
    Case("prefill", 16, 32),
    Case("decode", 64, 16),
    Case("prefill", 1, 1024),
    Case("decode", 8, 1024),
    Case("decode", 4, 512),  # in a cache that is too small for the former
    Case("prefill", 64, 8),
    Case("decode", 4, 16),
    Case("prefill", 1, 64),
    Case("mixed", 8, 64),
    Case("prefill", 16, 288, cached=256),
    Case("decode", 128, 16),
    Case("prefill", 12, 128),
    Case("decode", 32, 512),
    Case("prefill", 1, 2048),
    Case("decode", 8, 256),
    Case("decode", 8, 16),
    Case("prefill", 1, 16),
    Case("mixed", 32, 128),
    Case("decode", 256, 16),
    Case("prefill", 1, 4096),
    Case("decode", 32, 16),
    Case("prefill", 192, 8),
    Case("decode", 2, 4096),
    Case("prefill", 4, 32),
    Case("mixed", 8, 512),
    Case("decode", 24, 256),
    Case("prefill", 64, 24),
    Case("prefill", 4, 1088, cached=1024),
    Case("decode", 32, 1024),
    Case("decode", 2, 16),
)


@dataclass(frozen=True)
class _Try:
    """Steps that took ``seconds``, in which threads waited ``waited`` seconds for a core."""

    works: tuple[StepWork, ...]
    seconds: float
    waited: float

    @property
    def quiet(self) -> bool:
        """Nothing else on this machine kept it up."""
        return self.waited <= _DISTURBED * self.seconds

    @classmethod
    def of(cls, parts: Sequence[_Try]) -> _Try:
        works = tuple(work for part in parts for work in part.works)
        return cls(works, sum(p.seconds for p in parts), sum(p.waited for p in parts))


class Probe:
    """Measures one idle engine. ``geometry``: of its model. ``sampling``: how tokens are chosen
    (what it says of lengths does not count). ``seconds``: after which nothing more is begun, but
    for the first few cases. ``first_id``: of the requests. ``clock`` and ``waited``: seconds from
    any start, the latter those in which threads of this process waited for a core."""

    def __init__(
        self,
        engine: Engine,
        geometry: Geometry,
        sampling: Sampling | None = None,
        *,
        seconds: float = 60.0,
        first_id: int = 0,
        clock: Callable[[], float] = time.perf_counter,
        waited: Callable[[], float] = waited_for_cores,
    ) -> None:
        self._engine, self._layout = engine, engine.facts.layout(geometry)
        self._sampling = sampling or Sampling()
        self._seconds, self._clock, self._waited = seconds, clock, waited
        self._model = engine.facts.model(geometry)  # says what each step computes
        self._wanted: dict[int, int] = {}  # request id -> new tokens, of those in the model
        self._dice = random.Random(0)
        self._added = self._ended = first_id
        self._end = 0.0  # when the time is over

    def measure(self, note: Callable[[str, float], None] = lambda what, done: None) -> list[Timing]:
        """All that fits the cache and the time. ``note`` hears what comes next, and which share
        of all of it is done. The engine is idle again afterwards."""
        cases = [case for case in _CASES if self._fits(case)]
        end = self._end = self._clock() + self._seconds
        self._prefills(Case("prefill", 1, 32), ())  # a process's first steps are slow
        measured: list[Timing] = []
        for number, case in enumerate(cases):
            if self._clock() > end and number >= _LEAST:
                break
            note(str(case), number / len(cases))
            measured.append(self._measured(case))
        return measured

    def _fits(self, case: Case) -> bool:
        facts = self._engine.facts
        tokens = case.prompt + case.requests + 3 * _DECODED_STEPS
        blocks = (case.requests + 1) * self._layout.prefill_blocks(tokens)
        return (
            (facts.prefix_caching or not case.cached)
            and case.requests < facts.max_num_seqs
            and tokens <= facts.max_model_len
            and blocks <= _ROOM * facts.num_blocks
        )

    def _measured(self, case: Case) -> Timing:
        """Tries until enough of them were left alone, then the middle one of those."""
        tries: list[_Try] = []
        warm = self._shared_prompt(case)
        for _ in range(_ROUNDS):
            tries += self._decodes(case) if case.kind != "prefill" else self._prefills(case, warm)
            if sum(one.quiet for one in tries) >= _ENOUGH or self._clock() > self._end:
                break
        quickest = min(tries, key=lambda one: one.seconds)
        chosen = [one for one in tries if one.quiet] or [quickest]
        middle = median(one.seconds for one in chosen)
        works = tuple(work for one in chosen for work in one.works)
        return Timing(str(case), works, middle * len(chosen), chosen[0].quiet)

    def _shared_prompt(self, case: Case) -> list[int]:
        """What the case's prompts begin with, computed and cached."""
        shared = self._dice.choices(_PLAIN_TOKENS, k=case.cached)
        if shared:
            self._add(1, case.cached + 1, 1, shared)
            self._drain()
        return shared

    def _prefills(self, case: Case, shared: Sequence[int]) -> list[_Try]:
        """Each: the steps that compute the prompts and give each its only token."""
        tries = []
        for _ in range(_ENOUGH):
            adding = self._add(case.requests, case.prompt, 1, shared)
            steps = [adding]
            while self._wanted:
                steps.append(self._step())
            steps.append(self._drain())
            tries.append(_Try.of(steps))
        return tries

    def _decodes(self, case: Case) -> list[_Try]:
        """Each: a step in which all requests get a token, and a prompt is computed if ``mixed``."""
        prompt = case.prompt if case.kind == "decode" else 16
        filling = case.requests * (prompt + 1) // self._engine.facts.max_num_batched_tokens + 2
        self._add(case.requests, prompt, filling + 2 * _DECODED_STEPS + 2)
        while self._model.waiting or not all(s.decoding for s in self._model.running):
            self._step()
        self._step()
        tries = []
        for _ in range(_DECODED_STEPS):
            adding = [self._add(1, case.prompt, 1)] if case.kind == "mixed" else []
            # an engine that is steps ahead computes the prompt that much later
            steps = 1 + (self._engine.facts.steps_ahead if adding else 0)
            tries.append(_Try.of([*adding, *(self._step() for _ in range(steps))]))
            if adding:
                self._step()
        self._drain()
        return tries

    def _add(self, requests: int, prompt: int, new_tokens: int, shared: Sequence[int] = ()) -> _Try:
        """Hand requests over. Their prompts begin with ``shared``."""
        lengths = {"max_tokens": new_tokens, "min_tokens": 0, "ignore_eos": True, "stop": ()}
        sampling = self._sampling.model_copy(update=lengths)
        made = []
        for _ in range(requests):
            ids = [*shared, *self._dice.choices(_PLAIN_TOKENS, k=prompt - len(shared))]
            made.append(Request(self._added, ids, sampling))
            keys = block_keys(ids, self._layout.block_size)
            self._model.add(ModelSequence(self._added, prompt, keys))
            self._wanted[self._added] = new_tokens
            self._added += 1
        started, waited = self._clock(), self._waited()
        for request in made:
            self._engine.add(request)
        return _Try((), self._clock() - started, self._waited() - waited)

    def _step(self) -> _Try:
        """The next step of the engine, and of the model."""
        waited, started = self._waited(), self._clock()
        self._ended += len(self._engine.step())
        seconds, waited = self._clock() - started, self._waited() - waited
        step = self._model.step()
        for sequence in step.sampled:
            if sequence.generated == self._wanted[sequence.id]:
                self._model.finish(sequence.id)
                del self._wanted[sequence.id]
        return _Try((step.work,), seconds, waited)

    def _drain(self) -> _Try:
        """Step until every request has ended; an engine may answer later than the model: what
        it took then."""
        while self._wanted:
            self._step()
        waited, started = self._waited(), self._clock()
        while self._ended < self._added:
            self._ended += len(self._engine.step())
        return _Try((), self._clock() - started, self._waited() - waited)
