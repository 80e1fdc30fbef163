"""What a run shows while it runs, without a run."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.cli.run.run_watcher import RunWatcher
from pipeline.driver.coordinator.coordinator import Snapshot
from pipeline.output.tally import Tally
from pipeline.worker.coordination.messages import Progress

# all that a watcher asks of a plan: none of 40 rows are there
PLAN: Any = SimpleNamespace(reused=Tally(), input=SimpleNamespace(rows=40))


def test_as_long_as_no_answer_is_whole_its_tokens_are_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    busy = Progress(generated=1500, running=40, kv_use=0.12, first_step=1.0)
    watcher = RunWatcher()
    watcher.progress(Snapshot(0, 0, Tally(), {"a": busy}, {}), PLAN)
    said = capsys.readouterr().err

    assert "0/40 rows · 1 500 tokens written · " in said
    assert "0.0 rows/s" not in said
