"""SIGKILL for whatever a run consists of, at random moments: when the job has ended, every row
is there once, in order, as if nothing had happened. ``tests/chaos/many.py`` does many more."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pipeline.model.folder import ModelFolder
from pipeline.rows.work_order import STREAMS, unit_rows
from tests.chaos.blows import Victim
from tests.chaos.harness import Outcome
from tests.chaos.many import OWN_RAY_EVERY, Places, play

pytestmark = pytest.mark.ray

_SEEDS = range(20)
# Every kind of process is killed by this one. The rest is long, power cuts among them: an ordinary
# test of runs of their own Rays is runs/test_killed.
_ALWAYS = {16}
# Units, in the mean: half of those that a worker goes through at once, and those whose commit is
# under way: 2.5 on a machine that does nothing else, 4 on one that does
_MOST_UNITS_LOST = 2 * STREAMS


@pytest.fixture(scope="module")
def played(model: ModelFolder) -> list[Outcome]:
    return []


@pytest.mark.parametrize(
    "seed",
    [
        pytest.param(seed, marks=() if seed in _ALWAYS else pytest.mark.long)
        for seed in sorted(_SEEDS, key=lambda seed: seed % OWN_RAY_EVERY == 0)
    ],
)
def test_a_killed_job_ends_as_an_undisturbed_one(
    seed: int, places: Places, played: list[Outcome], tell: Callable[[Outcome], None]
) -> None:
    outcome = play(places.place(own_ray=seed % OWN_RAY_EVERY == 0), seed)
    played.append(outcome)
    tell(outcome)
    assert not outcome.trouble, str(outcome)


def test_every_kind_of_process_was_killed(played: list[Outcome]) -> None:
    """What makes the other tests here worth something."""
    if len(played) < len(_ALWAYS):
        pytest.skip("not with some seeds only")
    killed = {victim for outcome in played for victim in outcome.victims}
    assert killed >= {Victim.WORKER, Victim.COORDINATOR, Victim.DRIVER}


def test_a_worker_that_dies_costs_a_few_units_of_work(played: list[Outcome]) -> None:
    if len(played) < len(_ALWAYS):
        pytest.skip("not with some seeds only")
    workers = sum(outcome.workers_lost for outcome in played)
    units = sum(outcome.again / unit_rows(outcome.rows, 2) for outcome in played)
    assert units / workers < _MOST_UNITS_LOST
