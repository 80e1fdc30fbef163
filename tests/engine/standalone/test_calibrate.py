"""Calibration: what the probe asks of an engine, and what comes of it with a real one."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count, repeat
from pathlib import Path

import pytest

from pipeline.admission.demand import block_keys
from pipeline.budget.kv_layout import KvLayout
from pipeline.budget.step_time import CalibratedTime, Knots, StepWork
from pipeline.engine.protocol import EngineFacts, EngineStats
from pipeline.engine.standalone.calibrate import calibrate, read_calibration
from pipeline.engine.standalone.probe import Probe
from pipeline.errors import UsageError
from pipeline.rows.request import Completion, Request
from pipeline.simulate.vllm_model.kv_cache import Sequence
from pipeline.simulate.vllm_model.scheduler import EngineModel
from pipeline.simulate.vllm_model.step_fit import fit_steps
from tests.support.samples import GEMMA_270M

LAYOUT = KvLayout(GEMMA_270M, 32, 2048)
TRUE = CalibratedTime(
    {"step": 0.04, "prefill_context": 1e-7, "added": 2e-4}
    | {f"tokens>{k}": 3e-4 for k in Knots().tokens}
    | {f"samples>{k}": 4e-4 for k in Knots().samples}
)


class TimedEngine:
    """vLLM's scheduling by its model, on a clock of its own; ``works``: what its steps computed."""

    def __init__(self, num_blocks: int = 20_000, max_num_seqs: int = 300) -> None:
        self.facts = EngineFacts("timed", "1", "none", 8192, max_num_seqs, 2048, 32, num_blocks, 0)
        self.stats = EngineStats()
        self.now = self.waited = 0.0
        self.disturbed: Iterable[float] = iter(())
        self.works: list[StepWork] = []
        self._model = EngineModel(
            LAYOUT, num_blocks, max_num_seqs=max_num_seqs, max_num_batched_tokens=2048
        )
        self._wanted: dict[int, int] = {}

    def add(self, request: Request) -> None:
        self._wanted[request.id] = request.max_new_tokens
        keys = block_keys(request.prompt_ids, 32)
        self._model.add(Sequence(request.id, len(request.prompt_ids), keys))

    def step(self) -> list[Completion]:
        step = self._model.step()
        self.works.append(step.work)
        waited = next(iter(self.disturbed), 0.0)
        self.waited += waited
        self.now += TRUE.seconds(step.work) + waited
        ended = [s for s in step.sampled if s.generated == self._wanted[s.id]]
        return [Completion(self._model.finish(s.id).id) for s in ended]

    def abort(self, request_ids: Iterable[int]) -> None:
        for request_id in request_ids:
            self._model.abort(request_id)

    def close(self) -> None: ...

    def probe(self, seconds: float = 1e6) -> Probe:
        return Probe(
            self, GEMMA_270M, seconds=seconds, clock=lambda: self.now, waited=lambda: self.waited
        )


def test_the_costs_of_an_engine_are_found_again() -> None:
    fit = fit_steps(TimedEngine().probe().measure())

    assert fit.largest_error < 0.01
    unseen = StepWork(40, 40 * 300, 40 * 300, 600, 180_300, 170_000, 2, 2)
    assert fit.time.seconds(unseen) == pytest.approx(TRUE.seconds(unseen), rel=0.03)


def test_decoding_prompts_both_at_once_and_cached_prefixes_are_measured() -> None:
    works = [work for one in TimedEngine().probe().measure() for work in one.works]

    assert max(w.sequences for w in works) == 256
    assert any(w.prefill_tokens and w.sequences for w in works)
    assert any(w.prefill_tokens == 256 and w.prefill_context > 256 * 1024 for w in works)
    assert max(w.prefill_tokens for w in works) == 2048


def test_steps_that_other_programs_disturbed_do_not_count() -> None:
    engine = TimedEngine()
    engine.disturbed = (0.1 * (n % 3 == 0) for n in count())

    measured = engine.probe().measure()

    assert all(one.quiet for one in measured)
    assert fit_steps(measured).median_error < 0.01


def test_what_was_always_disturbed_is_marked() -> None:
    engine = TimedEngine()
    engine.disturbed = repeat(0.1)

    assert not any(one.quiet for one in engine.probe().measure())


def test_a_small_cache_is_never_filled() -> None:
    engine = TimedEngine(num_blocks=600, max_num_seqs=16)

    measured = engine.probe().measure()

    assert len(measured) > 5
    assert engine._model.preemptions == 0
    assert max(w.sequences for one in measured for w in one.works) <= 16


def test_when_the_time_is_over_the_kinds_measured_so_far_suffice() -> None:
    measured = TimedEngine().probe(seconds=0.1).measure()

    assert len(measured) == 8
    time = fit_steps(measured).time
    small, large = StepWork(8, 800, 800), StepWork(0, 0, 0, 800, 320_400, 270_000, 1, 1)
    assert time.seconds(small) == pytest.approx(TRUE.seconds(small), rel=0.05)
    assert time.seconds(large) == pytest.approx(TRUE.seconds(large), rel=0.15)


def test_settings_that_measure_nothing_else_are_refused() -> None:
    with pytest.raises(UsageError, match="settings only"):
        calibrate("gemma-3-270m", ["output.path=x"])


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b"not JSON", b"[]", b"{}"])
def test_a_file_that_is_no_calibration_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "c.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=r"calibration: .*c\.json"):
        read_calibration(path)


@pytest.mark.engine
@pytest.mark.alone
@pytest.mark.long  # measures for minutes; the ordinary tests calibrate the simulated engine
def test_a_real_engine_s_steps_follow_its_calibration() -> None:
    """Few seconds of measuring: the order of magnitude, and that larger steps take longer."""
    made = calibrate("gemma-3-270m", ["engine.max_num_seqs=24"], seconds=8)

    assert made.fit.median_error < 0.25
    seconds = made.fit.time.seconds
    assert 0.001 < seconds(StepWork(1, 20, 20)) < 2
    assert seconds(StepWork(0, 0, 0, 1024, 524_800, 400_000, 1, 1)) > seconds(StepWork(1, 20, 20))
    assert "vllm" in made.engine


def test_a_server_shows_no_steps_to_be_measured() -> None:
    with pytest.raises(UsageError, match="a server \\(ollama\\) shows none"):
        calibrate("gemma-3-270m", ["engine.kind=ollama", "engine.url=http://box:11434"])
