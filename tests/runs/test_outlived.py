"""The coordinator killed, a worker that sleeps over its leases: the job goes on, nothing is lost
and nothing is there twice."""

from __future__ import annotations

import json
import re
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.runs.slow_job import actors_on, prepare, published, still_alive, workers_on
from tests.support.processes import Finished, called
from tests.support.ray_head import SharedRay

pytestmark = pytest.mark.ray

_SILENCE_SECONDS = 6
_ROWS = (1100, 900)


@dataclass(frozen=True)
class Story:
    """One run: first its coordinator was killed, then a worker was stopped until it was given up,
    and woken up again."""

    output: Path
    finished: Finished
    coordinators: tuple[int, int]  # process ids, before and after
    back_after: float  # seconds
    given_up_after: float
    woken: bool  # else it was killed in its sleep
    late: list[str]  # whether the late worker lives on
    left: list[str]


@pytest.fixture(scope="module")
def story(
    tmp_path_factory: pytest.TempPathFactory, launcher, shared_ray: SharedRay, write_shards
) -> Story:
    folder = tmp_path_factory.mktemp("outlived")
    output = prepare(folder, write_shards, step=0.08, silence=_SILENCE_SECONDS, rows=_ROWS)
    assert still_alive(actors_on(shared_ray), 60) == []  # of tests before
    command = ("run", "job.yaml", "--json", "--address", shared_ray.address)
    started = launcher.start(*command, cwd=folder, **shared_ray.environment)
    started.wait_until(
        lambda: len(workers_on(shared_ray)) == 2 and published(output) >= 2, "two units were done"
    )

    before = _coordinator(shared_ray)
    assert before is not None
    killed = time.monotonic()
    before.kill()
    started.wait_until(lambda: "is back" in started.output, "the coordinator was back")
    back_after = time.monotonic() - killed
    after = _coordinator(shared_ray)
    assert after is not None

    units = published(output)
    started.wait_until(lambda: published(output) > units + 1, "two more units were done")
    late = workers_on(shared_ray)[0]
    late.suspend()
    stopped = time.monotonic()
    started.wait_until(lambda: "is replaced" in started.output, "it was given up")
    given_up_after = time.monotonic() - stopped
    woken = False
    with suppress(psutil.NoSuchProcess):
        late.send_signal(signal.SIGCONT)
        woken = late.is_running()
    finished = started.wait()
    left = started.gone(15) + [str(p) for p in still_alive(actors_on(shared_ray), 15)]
    return Story(
        output,
        finished,
        (before.pid, after.pid),
        back_after,
        given_up_after,
        woken,
        [p for p in left if str(late.pid) in p],
        left,
    )


def _coordinator(ray: SharedRay) -> psutil.Process | None:
    return next(iter(called(actors_on(ray), "_CoordinatorActor")), None)


def test_the_job_is_finished(story: Story) -> None:
    assert story.finished.code == 0, story.finished.err
    assert "Traceback" not in story.finished.err


def test_another_coordinator_took_its_place(story: Story) -> None:
    first, second = story.coordinators
    assert first != second
    assert re.search(r"the coordinator was lost and is back: \d+ rows", story.finished.err)
    assert story.back_after < 60


def test_a_silent_worker_is_given_up_in_the_time_that_the_job_file_says(story: Story) -> None:
    assert story.given_up_after < _SILENCE_SECONDS + 20
    assert "stopped and is replaced" in story.finished.err


def test_every_row_is_there_once_and_in_order(story: Story, read_output) -> None:
    assert read_output(story.output)["id"].to_pylist() == list(range(sum(_ROWS)))


def test_the_counts_are_over_rows_whatever_was_lost(story: Story) -> None:
    facts: dict[str, Any] = story.finished.json
    assert (facts["rows"], facts["succeeded"], facts["reused"]) == (sum(_ROWS), sum(_ROWS), 0)
    summary = json.loads((story.output / "_rackmill/summary.json").read_text())
    assert summary["rows"] == sum(_ROWS)


def test_the_late_worker_has_ended(story: Story) -> None:
    assert story.late == []


def test_no_process_is_left(story: Story) -> None:
    assert story.left == []
