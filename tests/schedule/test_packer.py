"""The packer: blocks are neither made nor lost, and no one is let in who does not fit."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pipeline.budget.kv import KvLayout
from pipeline.schedule.lengths import OutputLengths
from pipeline.schedule.packer import Packer
from pipeline.schedule.request import Request
from pipeline.spec.sampling import Sampling
from tests.samples import GEMMA_270M, quick

LAYOUT = KvLayout(GEMMA_270M, 16, 2048)
IDS = itertools.count()


def request(prompt: int, output: int = 16, shared: int = 0, **more: Any) -> Request:
    ids = [1] * prompt
    return Request(next(IDS), ids, Sampling(max_tokens=output), shared_tokens=shared, **more)


def packer(pool: int = 1000, max_num_seqs: int = 8) -> Packer:
    return Packer(LAYOUT, pool, max_num_seqs, OutputLengths())


@st.composite
def requests(draw: st.DrawFn) -> Request:
    prompt = draw(st.integers(1, 2000))
    shared = draw(st.integers(0, prompt)) // 16 * 16
    return request(prompt, draw(st.integers(1, 300)), shared)


class Conservation(RuleBasedStateMachine):
    """Requests come, are refused, are let in and end, in any order."""

    @initialize(pool=st.integers(1, 3000), seqs=st.integers(1, 6))
    def begin(self, pool: int, seqs: int) -> None:
        self.pool, self.seqs = pool, seqs
        self.packer = packer(pool, seqs)
        self.running: list[int] = []

    @rule(one=requests())
    def offer(self, one: Request) -> None:
        free = self.packer.free
        if self.packer.refusal(one) is None:
            fits = self.packer.blocks_for(one) <= free
            assert fits or not self.running
            self.packer.admit(one)
            self.running.append(one.id)

    @rule(which=st.integers(0, 5), length=st.none() | st.integers(1, 300))
    def finish(self, which: int, length: int | None) -> None:
        if self.running:
            self.packer.finished(self.running.pop(which % len(self.running)), length)

    @invariant()
    def blocks_are_free_or_held(self) -> None:
        if hasattr(self, "packer"):
            assert self.packer.free + self.packer.held == self.pool
            assert self.packer.held >= 0

    @invariant()
    def no_more_run_than_may(self) -> None:
        if hasattr(self, "packer"):
            assert self.packer.running == len(self.running) <= self.seqs

    @invariant()
    def only_a_request_alone_may_hold_more_than_there_is(self) -> None:
        if hasattr(self, "packer") and len(self.running) > 1:
            assert self.packer.free >= 0 or self.packer.held > self.pool

    def teardown(self) -> None:
        """When all have ended, everything is free again."""
        if hasattr(self, "packer"):
            for one in self.running:
                self.packer.finished(one)
            assert (self.packer.held, self.packer.running) == (0, 0)


TestConservation = Conservation.TestCase
TestConservation.settings = quick


def test_a_request_is_charged_for_its_expected_end() -> None:
    assert packer().blocks_for(request(100, output=50)) == LAYOUT.blocks(150)


def test_a_shared_prefix_is_charged_once() -> None:
    alone, sharing = request(320, output=16), request(320, output=16, shared=160)

    saved = packer().blocks_for(alone) - packer().blocks_for(sharing)
    assert saved == LAYOUT.blocks(160)


@quick
@given(requests())
def test_a_request_is_never_charged_less_than_nothing(one: Request) -> None:
    assert packer().blocks_for(one) >= 0


def test_a_request_for_probabilities_is_charged_one_token() -> None:
    asked = request(100, output=256, logprob_ids=(1, 2))

    assert asked.max_new_tokens == 1
    assert packer().blocks_for(asked) == LAYOUT.blocks(101)


def test_a_request_alone_is_always_let_in() -> None:
    assert packer(pool=1).refusal(request(1000)) is None


def test_a_full_cache_refuses() -> None:
    full = packer(pool=LAYOUT.blocks(116) * 2 - 1)
    full.admit(request(100))

    assert full.refusal(request(100)) == "the KV cache is full"


def test_what_just_fits_is_let_in() -> None:
    made = packer(pool=LAYOUT.blocks(116) * 2)
    made.admit(request(100))

    assert made.refusal(request(100)) is None


def test_a_full_house_refuses() -> None:
    full = packer(max_num_seqs=1)
    full.admit(request(10))

    assert full.refusal(request(10)) == "max_num_seqs requests are running"


def test_asking_changes_nothing() -> None:
    made = packer()
    made.refusal(request(100))

    assert (made.held, made.running) == (0, 0)


def test_the_end_of_a_request_frees_what_it_was_charged_for() -> None:
    """Even if lengths have been learned meanwhile."""
    made = packer(pool=10_000, max_num_seqs=100)
    admitted = [request(100, output=256) for _ in range(40)]
    for one in admitted:
        made.admit(one)
    for one in admitted:
        made.finished(one.id, 5)

    assert made.held == 0
    assert made.blocks_for(request(100, output=256)) == LAYOUT.blocks(105)


@pytest.mark.parametrize("length", [None, 7])
def test_ending_twice_is_an_error(length: int | None) -> None:
    made = packer()
    one = request(10)
    made.admit(one)
    made.finished(one.id, length)

    with pytest.raises(KeyError):
        made.finished(one.id, length)
