"""Which requests may be in an engine at once."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from pipeline.admission.demand import Demand, block_keys
from pipeline.admission.lengths import OutputLengths
from pipeline.admission.packer import Packer
from pipeline.budget.kv_layout import KvLayout
from tests.support.samples import GEMMA_270M

LAYOUT = KvLayout(GEMMA_270M, block_size=16, chunk=2048)


def packer(
    pool: int,
    *,
    seen: int | None = None,
    limit: int = 256,
    max_num_seqs: int = 64,
    steps_ahead: int = 0,
) -> Packer:
    """``seen``: all completions so far had so many tokens."""
    lengths = OutputLengths(limit)
    for _ in range(500 if seen else 0):
        lengths.observe(0, seen or 0)
    return Packer(LAYOUT, pool, max_num_seqs, lengths, steps_ahead)


def demand(
    number: int, prompt: int = 100, most: int = 256, ids: Sequence[int] | None = None
) -> Demand:
    keys = block_keys(ids, LAYOUT.block_size) if ids else ()
    return Demand(number, len(ids) if ids else prompt, most, keys)


def fill(made: Packer, count: int, **how: int) -> int:
    """Admit as many of ``count`` alike requests as may be. Returns how many were."""
    for number in range(count):
        one = demand(number, **how)
        if made.refusal(one):
            return number
        made.admit(one)
        made.check()
    return count


class TestAdmission:
    def test_one_alone_is_always_admitted(self) -> None:
        assert packer(1).refusal(demand(0)) is None

    def test_no_more_than_max_num_seqs(self) -> None:
        assert fill(packer(100_000, max_num_seqs=3), 9) == 3

    def test_a_prompt_that_does_not_fit_now_waits(self) -> None:
        made = packer(LAYOUT.prefill_blocks(400) + 5, seen=1)
        made.admit(demand(0, prompt=400))

        assert made.refusal(demand(1, prompt=400)) == "the KV cache is full"

    def test_room_for_the_growth_to_come_is_kept(self) -> None:
        """Prompts alone would fit many more than prompts with their completions do."""
        pool = LAYOUT.blocks(356) * 10
        short, long = packer(pool, seen=4), packer(pool, seen=250)

        assert fill(short, 64) > 1.5 * fill(long, 64)

    def test_with_known_lengths_the_pool_is_filled_and_not_more(self) -> None:
        """All have the same length and are admitted together: their peak is their end."""
        made = packer(LAYOUT.blocks(100 + 256) * 10, limit=256)
        for _ in range(500):
            made._lengths.observe(0, 256, cut=True)

        assert 9 <= fill(made, 64) <= 10

    def test_requests_about_to_end_make_room_beforehand(self) -> None:
        """Their blocks count for a newcomer's growth: it will need them when they are gone."""
        made = packer(LAYOUT.blocks(208) * 8 + 50, limit=48)
        made.safety_margin._base = 0.0
        for _ in range(2000):
            made._lengths.observe(0, 48, cut=True)
        for number in range(8):
            made.admit(demand(number, prompt=160, most=48))
        made.generated(range(8), 2)
        early = made.refusal(demand(99, prompt=100, most=48))
        made.generated(range(8), 38)

        assert early is not None
        assert made.refusal(demand(99, prompt=100, most=48)) is None

    def test_those_that_live_on_and_on_hold_back_no_short_ones(self) -> None:
        """They may fill the cache in thousands of steps: then a short one will be gone for long."""
        made = packer(2 * LAYOUT.blocks(8192), seen=20, limit=8192)
        for number in range(4):
            made.admit(demand(number, most=8192))
        made.generated(range(4), 600)

        assert made.peak > made.pool
        assert made.refusal(demand(9, most=8192)) is None

    def test_more_caution_admits_fewer(self) -> None:
        bold, careful = packer(3000, seen=60), packer(3000, seen=60)
        bold.safety_margin._base, careful.safety_margin._base = 0.0, 4.0

        assert fill(careful, 64) < fill(bold, 64)

    def test_the_peak_is_what_the_last_one_was_admitted_with(self) -> None:
        made = packer(3000, seen=60)
        assert made.peak == 0
        fill(made, 64)

        assert made.held < made.peak <= made.pool


class TestLateNews:
    """A request may be heard of after it has ended: it counts for nothing."""

    def test_of_a_token(self) -> None:
        made = packer(3000, seen=60)
        made.admit(demand(0))
        made.admit(demand(1))
        made.finished(0, None)
        before = made.held
        made.generated([0, 1])
        made.check()

        assert made.held - before <= LAYOUT.blocks(16)

    def test_of_its_end(self) -> None:
        made = packer(3000, seen=60)
        made.admit(demand(0))
        made.finished(0, 5)
        seen = made._lengths.observed
        made.finished(0, 9)
        made.check()

        assert made._lengths.observed == seen


class TestAnEngineThatIsAhead:
    """What is decided now reaches it steps later: room is promised that will be free by then."""

    def full(self, steps_ahead: int, *, max_num_seqs: int = 64) -> Packer:
        """Four requests fill the pool; each has got 14 of its 16 tokens, as far as is known."""
        made = packer(
            LAYOUT.blocks(176) * 4,
            seen=16,
            limit=16,
            max_num_seqs=max_num_seqs,
            steps_ahead=steps_ahead,
        )
        for number in range(4):
            made.admit(demand(number, prompt=160, most=16))
        for _ in range(14):
            made.generated(range(4))
        return made

    def test_who_will_have_ended_makes_room(self) -> None:
        new = demand(9, prompt=160, most=16)

        assert self.full(0).refusal(new) == "the KV cache is full"
        assert self.full(2).refusal(new) is None

    def test_so_do_seats(self) -> None:
        made = packer(10_000, seen=16, limit=16, max_num_seqs=4, steps_ahead=2)
        for number in range(4):
            made.admit(demand(number, most=16))
        made.generated(range(4))

        assert made.refusal(demand(9, most=16)) == "max_num_seqs requests are running"
        for _ in range(13):
            made.generated(range(4))
        assert made.refusal(demand(9, most=16)) is None

    def test_no_more_than_will_be_free(self) -> None:
        made = self.full(2)
        more = 0
        while made.refusal(demand(10 + more, prompt=160, most=16)) is None:
            made.admit(demand(10 + more, prompt=160, most=16))
            more += 1

        assert 3 <= more <= 4

    def test_those_admitted_just_now_hold_their_room(self) -> None:
        made = packer(LAYOUT.blocks(176) * 4, seen=16, limit=16, steps_ahead=2)

        assert 3 <= fill(made, 64, prompt=160, most=16) <= 4


class TestSharing:
    IDS = tuple(range(320))  # twenty whole blocks

    def test_a_shared_prefix_is_counted_once(self) -> None:
        made = packer(10_000, seen=4)
        made.admit(demand(0, ids=self.IDS))
        alone = made.held
        made.admit(demand(1, ids=[*self.IDS, *range(1000, 1016)]))

        assert made.held == alone + LAYOUT.blocks(16)

    def test_it_is_kept_while_anyone_needs_it(self) -> None:
        made = packer(10_000, seen=4)
        made.admit(demand(0, ids=self.IDS))
        alone = made.held
        made.admit(demand(1, ids=self.IDS))
        made.finished(0, 4)

        assert made.held == alone

    def test_it_is_given_back_with_the_last(self) -> None:
        made = packer(10_000, seen=4)
        for number in range(3):
            made.admit(demand(number, ids=self.IDS))
        for number in range(3):
            made.finished(number, 4)

        assert made.held == 0
        made.check()

    def test_sharing_lets_more_in(self) -> None:
        apart, together = packer(1500, seen=4), packer(1500, seen=4)
        dice = random.Random(0)
        for number in range(64):
            for made, ids in (
                (apart, [dice.randrange(999) for _ in self.IDS]),
                (together, [*self.IDS[:-16], *(dice.randrange(999) for _ in range(16))]),
            ):
                one = demand(number, ids=ids)
                if made.refusal(one) is None:
                    made.admit(one)

        assert together.running > 3 * apart.running


def test_what_is_free_and_what_is_held_is_the_pool_whatever_happens() -> None:
    """Random requests, prefixes, lengths and ends; the books are counted anew after each event."""
    dice = random.Random(7)
    made = packer(4000, limit=300, max_num_seqs=20)
    alive: dict[int, int] = {}
    for number in range(600):
        start = list(range(dice.choice([0, 40, 200, 700])))
        ids = [*start, *(dice.randrange(10_000) for _ in range(dice.randrange(1, 400)))]
        one = demand(number, ids=ids)
        if made.refusal(one) is None:
            made.admit(one)
            alive[number] = 0
        made.check()
        made.generated(alive)
        for running in list(alive):
            alive[running] += 1
            if dice.random() < 0.1:
                made.finished(running, alive.pop(running) if dice.random() < 0.9 else None)
                alive.pop(running, None)
                made.check()
    for running in list(alive):
        made.finished(running, 5)

    assert (made.running, made.held, made.free) == (0, 0, 4000)


@pytest.mark.parametrize("size", [16, 32])
def test_block_keys_are_equal_exactly_for_equal_beginnings(size: int) -> None:
    one, other = list(range(200)), [*range(100), 0, *range(101, 200)]
    keys, others = block_keys(one, size), block_keys(other, size)

    assert len(keys) == 200 // size
    assert [a == b for a, b in zip(keys, others, strict=True)] == [
        (i + 1) * size <= 100 for i in range(200 // size)
    ]
