"""Many calm steps at once come to the same as one after another."""

from __future__ import annotations

import pytest

from pipeline.admission.demand import block_keys
from pipeline.budget.step_time import StepWork
from pipeline.simulate.vllm_model.kv_cache import Sequence
from pipeline.simulate.vllm_model.scheduler import EngineModel
from tests.simulate.workloads import SHORT, Workload


def _engine(workload: Workload) -> EngineModel:
    engine = EngineModel(
        workload.layout,
        workload.blocks,
        max_num_seqs=workload.max_num_seqs,
        max_num_batched_tokens=workload.chunk,
        prefix_caching=workload.caching,
        dense_retention=workload.dense,
    )
    for i, arrival in enumerate(workload.arrivals()):
        engine.add(Sequence(i, len(arrival.ids), block_keys(arrival.ids, workload.block_size)))
    return engine


def _state(engine: EngineModel) -> tuple[object, ...]:
    return (
        [(s.id, s.generated, s.computed, s.columns, s.trimmed, s.cached) for s in engine.running],
        [(s.id, s.generated) for s in engine.waiting],
        engine.free,
        engine.preemptions,
        engine.recomputed_tokens,
        engine.computed_tokens,
    )


def _end(engine: EngineModel, lengths: list[int]) -> None:
    for sequence in list(engine.running):
        if sequence.generated == lengths[sequence.id]:
            engine.finish(sequence.id)


@pytest.mark.parametrize("workload", SHORT, ids=lambda w: w.name)
def test_advancing_is_stepping(workload: Workload) -> None:
    quick, slow = _engine(workload), _engine(workload)
    lengths = [arrival.output_tokens for arrival in workload.arrivals()]
    advanced = 0
    while quick.running or quick.waiting:
        limit = min((lengths[s.id] - s.generated for s in quick.running), default=1)
        calm = quick.calm_steps(limit)
        if calm:
            work = quick.advance(calm)
            summed = StepWork(steps=0)
            for _ in range(calm):
                done = slow.step()
                assert not done.preempted
                summed += done.work
            assert work == summed
            advanced += calm
        else:
            quick.step()
            slow.step()
        assert _state(quick) == _state(slow)
        quick.check()
        _end(quick, lengths)
        _end(slow, lengths)
        assert _state(quick) == _state(slow)
    assert advanced
