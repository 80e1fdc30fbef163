"""What goes into an engine, and when."""

from __future__ import annotations

import pytest

from pipeline.admission.demand import Demand, block_keys
from pipeline.admission.policies.packed import Packed
from pipeline.admission.policy import Limits
from pipeline.budget.kv_layout import KvLayout
from pipeline.simulate.shadow_engine import ShadowEngine
from pipeline.simulate.vllm_model.kv_cache import Sequence
from pipeline.simulate.vllm_model.scheduler import EngineModel
from tests.support.samples import GEMMA_270M

LAYOUT = KvLayout(GEMMA_270M, block_size=16, chunk=256)


def admission(pool: int = 10_000, **limits: int) -> Packed:
    chosen = {"max_num_seqs": 64, "max_num_batched_tokens": 256, "max_tokens": 64} | limits
    return Packed(Limits(LAYOUT, pool, **chosen))


def demand(number: int, prompt: int = 100, keys: tuple[int, ...] = ()) -> Demand:
    return Demand(number, prompt, 64, keys)


def admitted(made: Packed, *, waiting: int = 0, ending: bool = False) -> list[int]:
    """All that it hands over while the engine makes no step."""
    ids: list[int] = []
    while (one := made.next(inside=0, waiting=waiting + len(ids), ending=ending)) is not None:
        ids.append(one.id)
    return ids


def test_about_two_steps_of_prefill_wait_inside_the_engine_and_no_more() -> None:
    made = admission()
    for number in range(40):
        made.add(demand(number))

    assert len(admitted(made)) == 6  # of 100 tokens: 500 are not yet two steps of 256
    assert len(made) == 34


def test_the_next_go_in_when_the_engine_has_begun_with_those_before() -> None:
    made = admission()
    for number in range(40):
        made.add(demand(number))
    admitted(made)

    assert made.next(inside=0, waiting=6, ending=False) is None
    assert made.next(inside=0, waiting=3, ending=False) is not None


def test_an_engine_that_is_ahead_has_begun_with_those_that_got_a_token() -> None:
    """How many it says to have waiting is of an earlier step."""
    made = admission(steps_ahead=2)
    for number in range(40):
        made.add(demand(number))

    assert admitted(made) == list(range(11))  # of 100 tokens: four steps of 256
    assert made.next(inside=0, waiting=0, ending=False) is None
    made.generated([0, 1])
    assert made.begun(0) == 200
    assert admitted(made) == [11, 12]


def test_those_that_end_unbegun_wait_no_more_inside_the_engine() -> None:
    made = admission()
    for number in range(40):
        made.add(demand(number))
    for number in admitted(made):
        made.finished(number, None)

    assert len(admitted(made, waiting=6)) == 6


def test_tokens_that_others_hold_already_are_no_prefill() -> None:
    """A shared prefix costs nothing: many more such requests make up a step."""
    keys = block_keys(list(range(96)), LAYOUT.block_size)
    made = admission()
    for number in range(40):
        made.add(demand(number, keys=keys))

    assert len(admitted(made)) == 40


def test_what_continues_a_row_goes_before_new_rows() -> None:
    made = admission()
    made.add(demand(1))
    made.add(demand(2), urgent=True)

    assert admitted(made) == [2, 1]


def test_what_waits_can_be_taken_back() -> None:
    made = admission()
    for number in range(9):
        made.add(demand(number), urgent=number == 8)

    assert sorted(made.take_back()) == list(range(9))
    assert len(made) == 0
    assert admitted(made) == []


def test_few_wait_here_where_few_run() -> None:
    made = admission()
    assert made.wanted == 64
    for number in range(20):
        made.add(demand(number))
    assert made.wanted == 44


def test_every_request_is_handed_over_once_and_its_blocks_come_back() -> None:
    made = admission(pool=900)
    waiting, running, done = list(range(200)), [], []
    for number in waiting:
        made.add(demand(number, prompt=20 + number % 150))
    while len(done) < 200:
        running += admitted(made, ending=True)
        made.packer.check()
        made.generated(running)
        ended, running = running[:3], running[3:]
        for number in ended:
            made.finished(number, 30)
        done += ended

    assert sorted(done) == waiting
    assert made.packer.held == 0


class TestMirror:
    """The count beside an engine, here beside a model of one."""

    def engine(self, pool: int = 400) -> EngineModel:
        return EngineModel(LAYOUT, pool, max_num_seqs=8, max_num_batched_tokens=256)

    def test_it_counts_what_an_equal_engine_holds(self) -> None:
        real, mirror = self.engine(), ShadowEngine(self.engine())
        for number in range(12):
            real.add(Sequence(number, 60 + 9 * number))
            mirror.added(number, 60 + 9 * number, ())
        while real.running or real.waiting:
            sampled = real.step().sampled
            ended = [s.id for s in sampled if s.generated >= 40]
            for number in ended:
                real.finish(number)
            mirror.stepped([s.id for s in sampled], ended, real.used / real.pool)

        assert mirror.agrees
        assert mirror.error == 0
        assert mirror.compared > 40
        assert real.preemptions > 0

    def test_an_engine_that_does_otherwise_is_noticed(self) -> None:
        mirror = ShadowEngine(self.engine())
        mirror.added(1, 50, ())
        mirror.stepped([2], [], 0.1)

        assert not mirror.agrees

    def test_the_largest_difference_is_kept(self) -> None:
        mirror = ShadowEngine(self.engine())
        mirror.added(1, 50, ())
        mirror.stepped([1], [], 0.5)
        mirror.stepped([1], [], mirror.use)

        assert mirror.error == pytest.approx(0.5 - LAYOUT.blocks(50) / 400)
