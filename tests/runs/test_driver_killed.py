"""kill -9 of a driver that started a Ray: soon nothing of either is left."""

from __future__ import annotations

import pytest

from tests.runs.slow_job import prepare

pytestmark = pytest.mark.ray

_SECONDS = 60.0  # five are usual, on a machine that does nothing else


def test_nothing_is_left(tmp_path, launcher, write_shards) -> None:
    prepare(tmp_path, write_shards, workers=1)
    started = launcher.start("run", "job.yaml", cwd=tmp_path)
    started.wait_until(lambda: len(started.workers()) == 1, "a worker was there")
    assert len(started.processes()) > 3  # Ray's own

    started.kill_driver()

    assert started.gone(_SECONDS) == []
