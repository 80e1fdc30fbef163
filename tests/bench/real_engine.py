"""A real engine in this process, watched step by step: what it scheduled, and how long it took."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.admission.demand import Demand, block_keys
from pipeline.admission.policy import Policy
from pipeline.budget.engine_arguments import PromptShape, cpu_arguments
from pipeline.budget.kv_layout import KvLayout
from pipeline.budget.step_time import StepWork
from pipeline.engine.machine.host import available_memory, cpu_environment, waited_for_cores
from pipeline.engine.standalone.probe import Probe
from pipeline.engine.vllm.engine import VllmEngine, environment
from pipeline.job.sampling import Sampling
from pipeline.model.store.resolve import resolve
from pipeline.rows.request import Request
from pipeline.simulate.feed import Feed
from pipeline.simulate.vllm_model.kv_cache import Sequence as ModelSequence
from pipeline.simulate.vllm_model.scheduler import EngineModel
from pipeline.simulate.vllm_model.step_fit import Timing


def with_engine_environment() -> None:
    """Start this script again with the variables that an engine needs from a process's start."""
    wanted = cpu_environment(0, 1) | environment(gpu=False, eager=True)
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        os.environ.update(wanted)
        os.execv(sys.executable, [sys.executable, *sys.argv])


@dataclass
class Recorded:
    """A run. Per step: its seconds, those in which threads waited for a core, and what it
    computed by the model. ``differs``: the first step in which vLLM did something else."""

    seconds: list[float] = field(default_factory=list)
    waited: list[float] = field(default_factory=list)
    works: list[StepWork] = field(default_factory=list)
    differs: int | None = None
    preemptions: int = 0
    model_preemptions: int = 0
    whole_seconds: float = 0.0


class WatchedEngine:
    """The real engine with rackmill's arguments and ``given`` ones."""

    def __init__(self, model: str, **given: Any) -> None:
        folder = resolve(model, lambda line: None)
        shape = PromptShape(256, 1024, 0)
        self.arguments = cpu_arguments(folder.geometry, given, shape, available_memory())
        self.engine = VllmEngine(folder, self.arguments)
        facts = self.engine.facts
        self.layout = KvLayout(folder.geometry, facts.block_size, facts.max_num_batched_tokens)
        self._scheduler = self.engine._engine.engine_core.engine_core.scheduler
        self._schedule = self._scheduler.schedule
        self._scheduler.schedule = self._watched
        self._last: list[tuple[int, int]] = []
        self._next_id = 0

    def _watched(self, *args: Any) -> Any:
        output = self._schedule(*args)
        tokens = output.num_scheduled_tokens.items()
        self._last = [(int(name.partition("-")[0]), n) for name, n in tokens]
        return output

    def run(
        self,
        prompts: Sequence[list[int]],
        lengths: Sequence[int],
        policy: Policy | None = None,
        max_tokens: int = 0,
    ) -> Recorded:
        """The cache begins empty. Without a ``policy`` all requests are handed over at once, as
        ``LLM.generate`` does; with one when it says so, and it knows ``max_tokens`` of each."""
        assert self.engine._engine.reset_prefix_cache()
        first, self._next_id = self._next_id, self._next_id + len(prompts)
        mirror, keys = self._model(), [block_keys(p, self.layout.block_size) for p in prompts]
        feed = Feed()
        for number, (ids, own) in enumerate(zip(prompts, keys, strict=True)):
            feed.add(Demand(number, len(ids), max_tokens, own))
        record = Recorded()
        before = self.engine.stats.preemptions
        coming = list(range(len(prompts)))
        began = time.perf_counter()
        while coming or mirror.running or mirror.waiting:
            while coming:
                number = coming[0]
                if policy is not None:
                    for coming_next in feed.take(policy.wanted):
                        policy.add(coming_next)
                    waiting = len(mirror.waiting)
                    inside = waiting + len(mirror.running)
                    chosen = policy.next(inside=inside, waiting=waiting, ending=not feed)
                    if chosen is None:
                        break
                    number = chosen.id
                coming.remove(number)
                sampling = Sampling(max_tokens=lengths[number], ignore_eos=True)
                self.engine.add(Request(first + number, prompts[number], sampling))
                mirror.add(ModelSequence(number, len(prompts[number]), keys[number]))
            waited, started = waited_for_cores(), time.perf_counter()
            self.engine.step()
            record.seconds.append(time.perf_counter() - started)
            record.waited.append(waited_for_cores() - waited)
            recomputed = mirror.recomputed_tokens
            step = mirror.step()
            scheduled = [(i - first, n) for i, n in self._last]
            if record.differs is None and scheduled != [(s.id, n) for s, n in step.scheduled]:
                record.differs = len(record.works)
            record.works.append(step.work)
            if policy is not None:
                if mirror.recomputed_tokens > recomputed:
                    policy.recomputed(mirror.recomputed_tokens - recomputed)
                policy.stepped(record.seconds[-1], step.work)
                policy.generated([s.id for s in step.sampled], 1)
            for sequence in step.sampled:
                if sequence.generated == lengths[sequence.id]:
                    mirror.finish(sequence.id)
                    if policy is not None:
                        policy.finished(sequence.id, sequence.generated)
        record.whole_seconds = time.perf_counter() - began
        record.preemptions = self.engine.stats.preemptions - before
        record.model_preemptions = mirror.preemptions
        assert not self.engine.stats.running
        return record

    def _model(self) -> EngineModel:
        facts = self.engine.facts
        return EngineModel(
            self.layout,
            facts.num_blocks,
            max_num_seqs=facts.max_num_seqs,
            max_num_batched_tokens=facts.max_num_batched_tokens,
            max_model_len=facts.max_model_len,
        )

    def probe(self, seconds: float) -> list[Timing]:
        """What `rackmill calibrate` would measure of this engine."""
        probe = Probe(self.engine, self.layout.geometry, seconds=seconds, first_id=self._next_id)
        self._next_id += 1 << 20
        return probe.measure()
