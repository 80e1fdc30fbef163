"""Our model of vLLM's scheduler against vLLM's own, without a model: the same after every step.
And several questions of a row in vLLM's own, which one process answers with the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.admission.demand import block_keys
from pipeline.simulate.vllm_model.kv_cache import Sequence
from pipeline.simulate.vllm_model.scheduler import EngineModel
from tests.engine.vllm.row_scheduler_probe import CASES
from tests.simulate.workloads import MAX_MODEL_LEN, SHORT, Arrival, Row, Workload, drive, long_ones
from tests.support.probes import answers_of

pytestmark = pytest.mark.early

_BLOCK = 32


class Model:
    """An ``EngineModel`` that is told its requests' lengths, as ``drive`` wants it."""

    def __init__(self, workload: Workload) -> None:
        self.engine = EngineModel(
            workload.layout,
            workload.blocks,
            max_num_seqs=workload.max_num_seqs,
            max_num_batched_tokens=workload.chunk,
            prefix_caching=workload.caching,
            dense_retention=workload.dense,
            max_model_len=MAX_MODEL_LEN,
        )
        self.block_size = workload.block_size

    def add(self, number: int, arrival: Arrival) -> None:
        keys = block_keys(arrival.ids, self.block_size)
        self.engine.add(Sequence(number, len(arrival.ids), keys))

    def step(self, lengths: dict[int, int]) -> Row:
        engine = self.engine
        done = engine.step()
        row = {
            "running": [s.id for s in engine.running],
            "waiting": [s.id for s in engine.waiting],
            "scheduled": [[s.id, n] for s, n in done.scheduled],
            "free": engine.free,
        }
        engine.check()
        for sequence in done.sampled:
            if sequence.generated == lengths[sequence.id]:
                engine.finish(sequence.id)
        engine.check()
        return row | {"left": engine.free}

    def unfinished(self) -> int:
        return len(self.engine.running) + len(self.engine.waiting)


def _ask(which: str, folder: Path) -> dict[str, Any]:
    probe = Path(__file__).with_name("scheduler_probe.py")
    answers: dict[str, Any] = answers_of(probe, folder, which)
    return answers


def _compare(workload: Workload, real: list[Row]) -> int:
    """Raises AssertionError at the first step that differs; how often it was preempted."""
    model = Model(workload)
    mine = drive(workload, model.add, model.step, model.unfinished)
    for number, (expected, row) in enumerate(zip(real, mine, strict=False)):
        assert row == {name: expected[name] for name in row}, (workload.name, number)
    assert len(mine) == len(real)
    return model.engine.preemptions


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    pytest.importorskip("vllm")
    return _ask("short", tmp_path_factory.mktemp("scheduler"))


@pytest.mark.parametrize("workload", SHORT, ids=lambda w: w.name)
def test_every_step_is_the_real_schedulers(workload: Workload, real: dict[str, Any]) -> None:
    _compare(workload, real[workload.name])


def test_the_workloads_preempt(real: dict[str, Any]) -> None:
    preempted = [_compare(workload, real[workload.name]) > 0 for workload in SHORT]
    assert sum(preempted) >= len(SHORT) // 2


@pytest.mark.long
def test_every_step_of_many_mixes_is_the_real_schedulers(tmp_path: Path) -> None:
    pytest.importorskip("vllm")
    answers = _ask("long", tmp_path)
    for workload in long_ones():
        _compare(workload, answers[workload.name])


@pytest.fixture
def driven(real: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """That it ran to its end shows that no request read another's tokens, that two of a row never
    ran at once, that it never stood still, and that all blocks came back."""
    drives: dict[str, list[dict[str, Any]]] = real["rows"]
    return drives


def test_questions_of_a_row_end_whatever_the_cache_and_whoever_gives_up(
    driven: dict[str, list[dict[str, Any]]],
) -> None:
    assert set(driven) == {case.name for case in CASES}


@pytest.mark.parametrize("name", ["few at a time", "few at a time, alone"])
def test_what_prompts_begin_with_is_computed_once_to_the_token(
    name: str, driven: dict[str, list[dict[str, Any]]]
) -> None:
    """But by those that begin side by side: the last tokens of the instructions, and of a text
    that is asked about by requests of which nobody said that they are of one row."""
    for one in driven[name]:
        again = one["computed"] - one["least"]
        if name == "few at a time":
            assert 0 <= again < 4 * _BLOCK
        else:
            assert again > 8 * _BLOCK
