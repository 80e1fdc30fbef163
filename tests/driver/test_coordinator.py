"""The coordinator: leases as units of the input, whatever they were cut into."""

from __future__ import annotations

import pytest

from pipeline.dispatch.dispatcher import Sizing
from pipeline.dispatch.events import Blame, Gain, NoLease
from pipeline.driver.coordinator.coordinator import Coordinator
from pipeline.driver.workers.death import DeathCause, DeathOutcome, Sighting
from pipeline.input.units import Unit, part
from pipeline.output.commit.records import CommitRecord
from pipeline.output.tally import Tally
from pipeline.rows.row_range import RowRange
from pipeline.worker.coordination.messages import GiveUpRows, LastWords, Lease, Progress

UNITS = [Unit("a", 0, 0, 100), Unit("b", 0, 100, 130), Unit("c", 2, 0, 100)]
SIZING = Sizing(longest_seconds=1000, shortest_seconds=10, patience_seconds=30)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


FELL_OVER = LastWords("it fell over", (RowRange(2, 40, 41),))
DIED = Sighting(DeathCause.VANISHED, "its process died")
TAKEN = Sighting(DeathCause.TAKEN, "its card was another job's")


def coordinator(
    clock: Clock, *done: RowRange, workers: str = "a", sizing: Sizing = SIZING
) -> Coordinator:
    made = Coordinator(UNITS, done, {"card": 1.0}, sizing=sizing, clock=clock)
    for worker in workers:
        made.join(worker, "card")
    return made


def record(unit: Unit) -> CommitRecord:
    return CommitRecord(unit.id, "x", unit.file_name, 1, "0" * 64, Tally(rows=unit.rows))


def units(answer: Lease | NoLease) -> tuple[Unit, ...]:
    assert isinstance(answer, Lease)
    return answer.units


def test_a_lease_is_units_of_the_input(clock: Clock) -> None:
    assert coordinator(clock).acquire("a") == Lease(tuple(UNITS))


def test_what_is_left_of_a_unit_is_leased_as_a_part_of_it(clock: Clock) -> None:
    lease = coordinator(clock, RowRange(0, 20, 100), RowRange(2, 0, 60)).acquire("a")

    units = (part(UNITS[0], 0, 20), part(UNITS[2], 60, 100), UNITS[1])
    assert lease == Lease(units)


def test_a_run_is_done_when_all_rows_are_committed_whatever_their_units(clock: Clock) -> None:
    made = coordinator(clock)
    made.acquire("a")
    parts = [part(UNITS[0], 0, 40), part(UNITS[0], 40, 100), *UNITS[1:]]
    for unit in parts:
        assert made.acquire("a") is NoLease.WAIT
        made.commit([record(unit)])
        made.commit([record(unit)])

    assert made.acquire("a") is NoLease.DONE
    snapshot = made.snapshot()
    assert (snapshot.done, snapshot.units_done, snapshot.committed.rows) == (True, 3, 230)


def test_a_worker_that_is_last_is_asked_for_rows_of_the_shard(clock: Clock) -> None:
    sizing = Sizing(longest_seconds=1000, shortest_seconds=10, shares=0.1)
    made = coordinator(clock, RowRange(0, 0, 130), workers="ab", sizing=sizing)
    [lease] = units(made.acquire("a"))
    [other] = units(made.acquire("b"))
    made.commit([record(other)])
    assert made.acquire("b") is NoLease.WAIT

    [asked] = made.heartbeat("a", Progress(), active=5).give_up
    assert isinstance(asked, GiveUpRows)
    assert asked.unit == lease
    made.gave_up("a", lease, asked.keep)
    assert made.acquire("b") == Lease((part(UNITS[2], asked.keep, lease.stop),))


def test_a_worker_of_whom_nothing_is_heard_is_told_of_once(clock: Clock) -> None:
    made = coordinator(clock)
    made.acquire("a")

    told = []
    for clock.now in range(40):
        told += made.snapshot().silent
    assert told == ["a"]


def test_the_last_words_of_a_worker_say_what_its_engine_had(clock: Clock) -> None:
    made = coordinator(clock, RowRange(0, 0, 130))
    for worker in ("a", "a.1"):
        made.join(worker, "card")
        made.acquire(worker)
        made.heartbeat(worker, Progress(), active=50, flights=[RowRange(2, 0, 50)])
        made.engine_failed(worker, FELL_OVER)
        loss = made.worker_lost(worker, DIED)

    assert (loss.why, loss.blame, loss.gain) == ("it fell over", Blame.TOLD, Gain.SEARCH)
    made.join("a.2", "card")
    assert made.acquire("a.2") == Lease((part(UNITS[2], 40, 41),), losses=2, why="it fell over")


@pytest.mark.parametrize("deaths", [1, 2])
def test_what_engines_died_of_is_known_to_the_coordinator_that_takes_its_place(
    clock: Clock, deaths: int
) -> None:
    """Else a row that kills would have to kill as often again."""
    made = coordinator(clock, RowRange(0, 0, 130), workers="")

    def die(made: Coordinator, worker: str) -> DeathOutcome:
        made.join(worker, "card")
        made.acquire(worker)
        made.heartbeat(worker, Progress(), active=50, flights=[RowRange(2, 0, 50)])
        made.engine_failed(worker, FELL_OVER)
        return made.worker_lost(worker, DIED)

    for number in range(deaths):
        loss = die(made, f"a.{number}")
    memory = made.snapshot().memory
    made = coordinator(clock, RowRange(0, 0, 130), workers="")
    made.restore(())
    clock.now += 10
    for _ in range(2):  # what it was told once it does not count twice
        made.snapshot(memory=memory)
    if deaths < 2:
        loss = die(made, "b")

    assert (loss.why, loss.blame, loss.gain) == ("it fell over", Blame.TOLD, Gain.SEARCH)
    made.join("b.1", "card")
    assert made.acquire("b.1") == Lease((part(UNITS[2], 40, 41),), losses=2, why="it fell over")


def test_a_coordinator_that_was_not_lost_needs_no_reminding(clock: Clock) -> None:
    made = coordinator(clock)
    made.acquire("a")
    made.worker_lost("a", DIED)
    memory = made.snapshot().memory

    assert made.snapshot(memory=memory).memory == memory


def test_a_worker_that_was_lost_for_want_of_memory_accuses_no_row(clock: Clock) -> None:
    made = coordinator(clock, RowRange(0, 0, 130))
    for worker in ("a", "a.1", "a.2"):
        made.join(worker, "card")
        assert made.acquire(worker) == Lease((UNITS[2],))
        made.engine_failed(worker, LastWords("out of memory", FELL_OVER.rows))
        seen = Sighting(DeathCause.OUT_OF_MEMORY, "", lighter="16 requests at once")
        outcome = made.worker_lost(worker, seen)
        assert (outcome.why, outcome.blame) == ("out of memory", Blame.NO_ROW)


def test_a_worker_that_was_lost_gets_no_lease_however_late_it_asks(clock: Clock) -> None:
    """A message of a process that has ended since: nobody would ever work on those rows."""
    made = coordinator(clock, workers="ab")
    made.acquire("a")
    made.worker_lost("a", DIED)

    assert made.acquire("a") is NoLease.STOP
    assert sum(unit.rows for unit in units(made.acquire("b"))) > 0


def test_what_is_to_be_said_aloud_is_said_once(clock: Clock) -> None:
    made = coordinator(clock)
    made.note("a", "waiting for the card's memory")

    assert made.snapshot().notes == ("a: waiting for the card's memory",)
    assert made.snapshot().notes == ()


def test_after_sleeping_itself_it_gives_workers_time_to_be_heard(clock: Clock) -> None:
    made = coordinator(clock)
    made.acquire("a")
    made.snapshot()
    clock.now = 3600.0  # the machine was suspended, or Ctrl-Z was pressed

    assert made.snapshot().silent == ()
    made.heartbeat("a", Progress())
    clock.now = 3606.0
    assert made.snapshot().silent == ()


def test_what_a_worker_does_not_have_is_taken_back_after_a_coordinator_was_lost(
    clock: Clock,
) -> None:
    """It said that it holds units which it had committed to the coordinator that was lost, and
    nobody else ever got them. (A retry's records do not say what is left to do.)"""
    made = Coordinator(UNITS, (), {"card": 1.0}, sizing=SIZING, clock=clock)
    made.restore(())
    made.introduce("a", "card", None, UNITS)
    clock.now = 100.0
    assert made.acquire("a", UNITS) is NoLease.WAIT

    assert set(units(made.acquire("a", ()))) == set(UNITS)


class TestRetire:
    """Of one worker, whose card is another job's now."""

    def test_it_is_given_no_more_and_others_are(self, clock: Clock) -> None:
        made = coordinator(clock, workers="ab")
        made.retire("a", 30.0)

        assert made.acquire("a") is NoLease.STOP
        assert units(made.acquire("b"))

    def test_it_hears_how_long_it_has(self, clock: Clock) -> None:
        made = coordinator(clock, workers="ab")
        made.acquire("a")
        made.retire("a", 30.0)
        clock.now = 20.0
        assert made.heartbeat("a", Progress()).stop_seconds == 10.0
        assert made.heartbeat("b", Progress()).stop_seconds is None

        clock.now = 40.0
        assert made.heartbeat("a", Progress()).stop_seconds == 0.0

    def test_what_it_commits_meanwhile_counts(self, clock: Clock) -> None:
        made = coordinator(clock, RowRange(0, 0, 130))
        [lease] = units(made.acquire("a"))
        made.retire("a", 30.0)
        made.commit([record(lease)])

        assert made.snapshot().done

    def test_what_it_still_held_when_it_ended_is_leased_to_others_and_no_row_accused(
        self, clock: Clock
    ) -> None:
        made = coordinator(clock, RowRange(0, 0, 130))
        made.acquire("a")
        made.heartbeat("a", Progress(), active=5, flights=[RowRange(2, 0, 5)])
        made.retire("a", 30.0)
        made.worker_lost("a", TAKEN)
        made.join("b", "card")

        assert made.acquire("b") == Lease((UNITS[2],))

    def test_units_that_it_has_not_begun_are_leased_to_others_at_once(self, clock: Clock) -> None:
        made = coordinator(clock, workers="a")
        made.acquire("a")
        made.join("b", "card")
        made.retire("a", 30.0)
        assert made.acquire("b") is NoLease.WAIT
        made.returned("a", [UNITS[0]])

        assert units(made.acquire("b")) == (UNITS[1],)

    def test_what_another_one_holds_at_its_own_is_none_of_that(self, clock: Clock) -> None:
        """A worker of a run that stops says the same; nobody is to begin with its rows."""
        made = coordinator(clock, workers="a")
        made.acquire("a")
        made.join("b", "card")
        made.returned("a", [])

        assert made.acquire("b") is NoLease.WAIT

    def test_when_the_run_stops_too_the_time_of_the_run_counts(self, clock: Clock) -> None:
        made = coordinator(clock)
        made.retire("a", 30.0)
        made.stop(5.0)

        assert made.heartbeat("a", Progress()).stop_seconds == 5.0

    def test_who_comes_after_it_on_the_card_is_given_rows_again(self, clock: Clock) -> None:
        made = coordinator(clock)
        made.retire("a", 30.0)
        made.worker_lost("a", TAKEN)
        made.join("a.1", "card")

        assert units(made.acquire("a.1"))
        assert made.heartbeat("a.1", Progress()).stop_seconds is None

    def test_it_is_forgotten_with_the_worker(self, clock: Clock) -> None:
        made = coordinator(clock)
        made.retire("a", 30.0)
        made.worker_lost("a", TAKEN)
        made.join("a", "card")

        assert units(made.acquire("a"))
