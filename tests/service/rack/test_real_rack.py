"""Real engines on two hosts with a core each: one joins late; the next job finds both loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline import verify
from pipeline.model.folder import ModelFolder
from tests.service.rack.conftest import IMPATIENT
from tests.service.rack.hosts import Host, Network

# the ordinary tests run both apart: racks with simulated engines, real engines without a rack
pytestmark = [pytest.mark.ray, pytest.mark.engine, pytest.mark.alone, pytest.mark.long]
_ROWS = (64, 64, 64, 64)
_JOB = """\
name: NAME
model: gemma-3-270m
input: {path: ROWS/*.parquet}
prompt: "Continue: {text}"
sampling: {max_tokens: 16, ignore_eos: true}
output: {path: OUT, keep: [id]}
"""


@dataclass(frozen=True)
class Past:
    """What the drivers of the two jobs said, and where their outputs are."""

    first: str
    second: str
    outputs: tuple[Path, Path]


@pytest.fixture(scope="module")
def past(
    tmp_path_factory: pytest.TempPathFactory,
    model: ModelFolder,
    write_shards: Callable[..., Path],
) -> Iterator[Past]:
    folder = tmp_path_factory.mktemp("real")
    rows = write_shards(folder / "rows", *_ROWS)
    outputs = folder / "first", folder / "second"
    for output in outputs:
        text = _JOB.replace("ROWS", str(rows)).replace("OUT", str(output))
        (folder / f"{output.name}.yaml").write_text(text.replace("NAME", output.name))
    with Network(folder, IMPATIENT) as net:
        head, late = net.host("head", cores="0"), net.host("late", cores="1")
        address = f"{head.address}:6379"
        started = head.rackmill("rack", "start", "--head", "--host", head.address)
        assert started.code == 0, started.err
        given = ("--address", address)
        # so that it is at work until the other engine is loaded
        longer = ("--set", "sampling.max_tokens=96")
        assert head.rackmill("submit", str(folder / "first.yaml"), *longer, *given).code == 0
        until_log(head, address, "first", "engine  ready")
        joined = late.rackmill("rack", "join", address, "--host", late.address)
        assert joined.code == 0, joined.err
        first = late.rackmill("watch", "first", *given)
        assert first.code == 0, first.err
        second = late.rackmill("submit", str(folder / "second.yaml"), "--wait", *given)
        assert second.code == 0, second.err
        logs = [head.rackmill("logs", name, *given).out for name in ("first", "second")]
        yield Past(logs[0], logs[1], outputs)


def until_log(host: Host, address: str, job: str, words: str) -> None:
    """Until the job's driver has said ``words``."""
    log = host.start("logs", job, "-f", "--address", address)
    log.wait_until(lambda: words in log.out, words)
    log.kill_all()


def test_every_row_of_both_jobs_is_there_once(past: Past) -> None:
    for output in past.outputs:
        verdict = verify(str(output))
        assert verdict.faults == []
        assert verdict.rows == sum(_ROWS)


def test_the_machine_that_came_late_worked(past: Past) -> None:
    assert "late is there: 1 more engine" in past.first
    assert past.first.count("engine  ready") == 2


def test_the_next_job_finds_both_engines_loaded(past: Past) -> None:
    assert past.second.count("the engine of an earlier job is still loaded") == 2
