"""Which jobs of the queue get which cards, and whose turn it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.cluster.rack_state.allocation import Key, Needs
from pipeline.cluster.rack_state.machines import Machine
from pipeline.engine.machine.facts import own_versions
from pipeline.service.queue.allocator import Allocator
from pipeline.service.queue.job_db import SubmittedJob
from tests.service.queue.a_rack import TURN, content, machine

ONE_CARD = [machine("a", "rtx4090")]
TWO_CARDS = [machine("a", "rtx4090", "rtx4090")]
FOUR_CARDS = [machine("a", *["rtx3060"] * 4)]
A0, A1 = ("a", 0), ("a", 1)


def submitted(name: str, priority: int = 0, at: float = 0.0, **changes: object) -> SubmittedJob:
    job = content(name, **changes)
    return SubmittedJob(name, name, priority, job, f"/{name}", None, at)


class Deals:
    """The same jobs on the same machines, dealt again and again."""

    def __init__(self, machines: Sequence[Machine], *jobs: SubmittedJob) -> None:
        self.standings = Allocator(TURN, own_versions())
        self.machines, self.jobs = list(machines), list(jobs)
        self.needs: Mapping[str, Needs] = {}

    def at(self, now: float) -> dict[str, set[Key]]:
        dealt = self.standings.deal(self.jobs, self.machines, self.needs, now)
        return {job: set(cards) for job, cards in dealt.items()}


def test_one_job_gets_every_card_it_suits() -> None:
    machines = [*TWO_CARDS, machine("b", "rtx3060")]

    assert Deals(machines, submitted("one")).at(0.0) == {"one": {A0, A1, ("b", 0)}}
    asked = submitted("one", resources={"gpu": "rtx3060"})
    assert Deals(machines, asked).at(0.0) == {"one": {("b", 0)}}


def test_a_job_gets_as_many_as_its_file_says() -> None:
    deals = Deals(TWO_CARDS, submitted("one", resources={"workers": 1}))

    assert deals.at(0.0) == {"one": {A0}}


def test_what_a_driver_says_goes_with_what_the_file_says() -> None:
    deals = Deals(TWO_CARDS, submitted("one", resources={"workers": 2}))
    deals.needs = {"one": Needs(1, frozenset({A0}))}

    assert deals.at(0.0) == {"one": {A1}}


def test_who_was_dealt_cards_keeps_the_same_ones() -> None:
    deals = Deals(TWO_CARDS, submitted("one"))
    deals.at(0.0)
    deals.jobs.append(submitted("two", at=1.0))
    first = deals.at(1.0)

    assert all(len(cards) == 1 for cards in first.values())
    for now in (2.0, TURN + 5, 3 * TURN):
        assert deals.at(now) == first


def test_turns_go_round() -> None:
    deals = Deals(ONE_CARD, *(submitted(name) for name in ("one", "two", "three")))
    had = []
    for turn in range(6):
        [(job, _)] = [(j, c) for j, c in deals.at(turn * TURN).items() if c]
        had.append(job)

    assert had == ["one", "two", "three", "one", "two", "three"]


def test_a_turn_begins_when_cards_are_there_not_when_a_job_is_submitted() -> None:
    deals = Deals(ONE_CARD, submitted("one"))
    deals.at(0.0)
    deals.jobs.append(submitted("two", at=0.0))
    assert deals.at(TURN)["two"] == {A0}

    assert deals.at(2 * TURN - 1)["two"] == {A0}
    assert deals.at(2 * TURN)["one"] == {A0}


def test_who_keeps_a_card_when_others_made_room_begins_another_turn() -> None:
    """Else it would be the next one to go, however short its turn was."""
    deals = Deals(TWO_CARDS, submitted("one"), submitted("two"))
    deals.at(0.0)
    deals.jobs.append(submitted("three", at=1.0))
    after = deals.at(TURN)
    [kept] = [job for job in ("one", "two") if after[job]]
    deals.jobs.append(submitted("four", at=TURN))

    assert deals.at(TURN + 1)[kept] == after[kept]
    assert deals.at(TURN + 1)["four"] == set()


def test_a_card_whose_engine_has_the_jobs_model_comes_first() -> None:
    small = {"model": "gemma-3-270m-bf16", "resources": {"workers": 1}}
    deals = Deals(TWO_CARDS, submitted("one", **small), submitted("two"))
    first = deals.at(0.0)
    for job in ("one", "two"):
        deals.standings.forget(job)
    deals.jobs = [submitted("three", at=1.0, resources={"workers": 1})]

    assert deals.at(1.0)["three"] == first["two"]


def test_a_job_that_no_machine_suits_is_hopeless_as_long_as_that_is_so() -> None:
    deals = Deals(TWO_CARDS, submitted("one", resources={"gpu": "rtx3090"}), submitted("two"))
    assert deals.at(0.0)["one"] == set()
    assert deals.standings.is_hopeless("one")
    assert not deals.standings.is_hopeless("two")

    deals.machines.append(machine("b", "rtx3090"))
    assert deals.at(1.0)["one"] == {("b", 0)}
    assert not deals.standings.is_hopeless("one")


def test_one_that_only_waits_is_not_hopeless() -> None:
    deals = Deals(ONE_CARD, submitted("high", 1), submitted("low"))

    assert deals.at(0.0)["low"] == set()
    assert not deals.standings.is_hopeless("low")


def test_without_machines_all_jobs_wait() -> None:
    deals = Deals([], submitted("one"))

    assert deals.at(0.0) == {"one": set()}
    assert deals.standings.is_hopeless("one")


def test_what_an_earlier_queue_dealt_is_kept() -> None:
    deals = Deals(TWO_CARDS, submitted("one"), submitted("two"))
    deals.standings.adopt(deals.jobs[0], frozenset({A1}), 0.0)
    deals.standings.adopt(deals.jobs[1], frozenset({A0}), 0.0)

    assert deals.at(1.0) == {"one": {A1}, "two": {A0}}


def test_a_job_that_ended_leaves_nothing_behind() -> None:
    deals = Deals(TWO_CARDS, submitted("one"))
    deals.at(0.0)
    deals.standings.forget("one")

    assert not deals.standings._jobs


def test_the_card_of_a_machine_that_is_gone_is_replaced() -> None:
    machines = [machine("a", "rtx4090"), machine("b", "rtx4090")]
    deals = Deals(machines, submitted("one", resources={"workers": 1}))
    [(has, _)] = deals.at(0.0)["one"]
    deals.machines = [one for one in machines if one.node.id != has]

    [(now, _)] = deals.at(1.0)["one"]
    assert now != has


def test_outside_of_its_hours_a_job_has_no_card_and_others_have_them() -> None:
    night = {"hours": "23:00-07:00", "timezone": "UTC"}
    deals = Deals(ONE_CARD, submitted("night", 5, resources=night), submitted("other"))
    noon, midnight = 12 * 3600.0, 24 * 3600.0

    assert deals.at(noon) == {"night": set(), "other": {A0}}
    assert deals.standings.closed_until("night") == "23:00"
    assert not deals.standings.is_hopeless("night")
    assert deals.at(midnight) == {"night": {A0}, "other": set()}
    assert deals.standings.closed_until("night") is None
    assert deals.at(midnight + noon) == {"night": set(), "other": {A0}}


class TestSlotsOfSeveralCards:
    def test_a_job_that_takes_two_cards_an_engine_gets_whole_pairs(self) -> None:
        pairs = submitted("pairs", engine={"tensor_parallel_size": 2})
        other = submitted("other", at=1.0, resources={"workers": 1})
        dealt = Deals(FOUR_CARDS, pairs, other).at(2.0)

        assert dealt == {"pairs": {("a", 0), ("a", 1)}, "other": {("a", 2)}}

    def test_it_is_dealt_engines_not_cards(self) -> None:
        one = submitted("one", engine={"tensor_parallel_size": 2}, resources={"workers": 1})

        assert Deals(FOUR_CARDS, one).at(0.0) == {"one": {("a", 0), ("a", 1)}}

    def test_a_known_model_that_fits_no_card_gets_pairs_by_itself(self) -> None:
        machines = [machine("b", "rtx3060"), *FOUR_CARDS]
        dealt = Deals(machines, submitted("one", model="gemma-3-27b")).at(0.0)

        assert dealt == {"one": {("a", n) for n in range(4)}}

    def test_cards_of_one_engine_that_is_of_no_use_are_left(self) -> None:
        deals = Deals(FOUR_CARDS, submitted("one", engine={"tensor_parallel_size": 2}))
        deals.needs = {"one": Needs(9, frozenset({("a", 3)}))}

        assert deals.at(0.0) == {"one": {("a", 0), ("a", 1)}}

    def test_where_no_machine_has_so_many_alike_nobody_can_work_on_it(self) -> None:
        deals = Deals(ONE_CARD, submitted("one", engine={"tensor_parallel_size": 2}))

        assert deals.at(0.0) == {"one": set()}
        assert deals.standings.is_hopeless("one")


SERVER = {"kind": "ollama", "url": "http://box:11434"}


def test_a_job_of_servers_takes_no_card_and_waits_for_none() -> None:
    deals = Deals(ONE_CARD, submitted("cards"), submitted("servers", engine=SERVER))

    dealt = deals.at(0.0)

    assert dealt["cards"] == {A0}
    assert len(dealt["servers"]) == 1


def test_a_mixed_job_begins_with_its_servers_while_others_have_the_cards() -> None:
    mixed = submitted("mixed", at=1.0, resources={"engines": ["vllm", SERVER], "mixed": True})
    deals = Deals(ONE_CARD, submitted("cards", priority=1), mixed)

    dealt = deals.at(2.0)

    assert (dealt["cards"], len(dealt["mixed"])) == ({A0}, 1)
