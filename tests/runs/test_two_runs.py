"""Two runs of the same job on the same output, begun in the same moment: neither sees the other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline import verify
from pipeline.output.verify.dataset import Verification
from tests.runs.slow_job import prepare, published
from tests.support.processes import Finished

pytestmark = pytest.mark.ray

_ROWS = (700, 300)
# as if each had looked just before the other left its record
_BLIND = """
import sys
from pipeline.driver import run
run.refuse_second = lambda storage, note: None
from pipeline.cli.main import main
sys.argv[0] = "rackmill"
main()
"""


@dataclass(frozen=True)
class Both:
    output: Path
    first: Finished
    second: Finished
    verified: Verification


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, launcher, shared_ray, write_shards) -> Both:
    folder = tmp_path_factory.mktemp("two")
    output = prepare(folder, write_shards, workers=1, rows=_ROWS)
    command = ("run", "job.yaml", "--json", "--address", shared_ray.address)
    started = launcher.start(*command, cwd=folder, **shared_ray.environment)
    started.wait_until(lambda: published(output) >= 1, "a unit was done")
    second = launcher.python("-c", _BLIND, *command, cwd=folder, **shared_ray.environment)
    first = started.wait()
    return Both(output, first, second, verify(str(output)))


def test_both_end_well(both: Both) -> None:
    assert both.first.code == 0, both.first.err
    assert both.second.code == 0, both.second.err


def test_every_row_is_there_once_and_in_order(both: Both, read_output) -> None:
    assert read_output(both.output)["id"].to_pylist() == list(range(sum(_ROWS)))
    assert both.verified.faults == []


def test_both_count_the_whole_dataset(both: Both) -> None:
    for run in (both.first, both.second):
        assert (run.json["rows"], run.json["succeeded"]) == (sum(_ROWS), sum(_ROWS))
