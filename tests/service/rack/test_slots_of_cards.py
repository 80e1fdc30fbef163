"""Engines over two cards each, on two machines of four cards."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline import verify
from tests.service.rack.conftest import IMPATIENT, ROWS, Rack
from tests.service.rack.hosts import Network
from tests.support.processes import Started

# long: driver/test_select_engines and driver/test_membership hold the rules without a rack
pytestmark = [pytest.mark.ray, pytest.mark.long]
_PATIENCE_SECONDS = 120.0
_PAIRS = {"engine.tensor_parallel_size": "2"}


@pytest.fixture(scope="module")
def rack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rack]:
    with Network(tmp_path_factory.mktemp("slots"), IMPATIENT) as net:
        hosts = [net.host(name) for name in ("head", "left", "small", "own", "right", "laptop")]
        one = Rack(net, *hosts)
        one.started()
        one.join(one.left, "4x rtx3060")
        one.join(one.right, "4x rtx3060")
        yield one


def shown(rack: Rack) -> dict[str, Any]:
    found: dict[str, Any] = rack.head.rackmill(
        "rack", "show", "--address", rack.address, "--json"
    ).json
    return found


def at_work(rack: Rack) -> Counter[str]:
    """Cards by host that have an engine."""
    machines = shown(rack)["machines"]
    return Counter(m["host"] for m in machines for card in m["cards"] if card["job"])


def until(reached: Callable[[], Any], run: Started) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not reached():
        assert time.monotonic() < deadline, run.output
        assert run.process.poll() is None, run.output
        time.sleep(2)  # each question is a process, which takes that long to start


def assert_whole(folder: Path, run: Started) -> None:
    assert run.process.wait(_PATIENCE_SECONDS) == 0, run.output
    verdict = verify(str(folder / "out"))
    assert verdict.faults == []
    assert verdict.rows == sum(ROWS)


def test_more_cards_than_a_machine_has_are_refused_before_anything_starts(
    rack: Rack, job: Path
) -> None:
    refused = rack.run(job, **{"engine.tensor_parallel_size": "8"}).wait()

    assert refused.code == 2
    assert "8 like cards of one machine are asked for; there are 4x RTX 3060" in refused.err
    assert not (job / "out").exists()


def test_a_machine_that_is_gone_takes_its_slots_along_and_no_row(rack: Rack, job: Path) -> None:
    run = rack.run(job, **_PAIRS)
    until(lambda: run.output.count("engine  ready") == 4, run)
    until(lambda: at_work(rack) == {"left": 4, "right": 4}, run)
    rack.right.kill()
    until(lambda: "right is gone: its rows are done by others" in run.output, run)

    assert_whole(job, run)
    assert "2 engines left" not in run.output
