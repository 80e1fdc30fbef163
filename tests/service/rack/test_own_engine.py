"""A machine that vLLM cannot drive joins a rack with an engine of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.service.rack.conftest import IMPATIENT, ROWS, Rack
from tests.service.rack.hosts import Network

pytestmark = pytest.mark.ray

_PORT = 8080
_SERVER = f"http://127.0.0.1:{_PORT}"  # as the machine itself reaches it
_SERVE = f"""
import asyncio, sys, time
sys.path.insert(0, {str(Path(__file__).parents[3])!r})
from tests.engine.http.fake_server import FakeServer, llama
async def slow(request, body):
    await asyncio.sleep(0.02)
    return await llama(request, body)
with FakeServer(slow, {_PORT}) as server:
    print("serves", flush=True)
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def rack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rack]:
    with Network(tmp_path_factory.mktemp("own"), IMPATIENT) as net:
        hosts = [net.host(name) for name in ("head", "left", "small", "right", "laptop")]
        one = Rack(net, *hosts)
        one.started()
        one.join(one.left, "1x rtx4090")
        server = one.small.python(_SERVE)
        deadline = time.monotonic() + 60
        while "serves" not in server.output:
            assert time.monotonic() < deadline, server.output
            time.sleep(0.1)
        given = ("rack", "join", one.address, "--host", one.small.address)
        joined = one.small.rackmill(*given, "--engine", "llama.cpp", "--endpoint", _SERVER)
        assert joined.code == 0, joined.err
        assert f"llama.cpp {_SERVER}" in joined.err
        yield one
        server.kill_all()


def test_the_rack_shows_it(rack: Rack) -> None:
    shown = rack.head.rackmill("rack", "show", "--address", rack.address)
    told: Any = rack.head.rackmill("rack", "show", "--address", rack.address, "--json").json

    assert f"engine: llama.cpp {_SERVER}" in shown.out
    engines = {machine["host"]: machine["engine"] for machine in told["machines"]}
    assert engines["small"] == {"kind": "llama.cpp", "url": _SERVER}
    assert engines["left"] is None


def test_it_works_on_a_job_that_may_be_mixed(
    rack: Rack, job: Path, read_output: Callable[[Path], pa.Table]
) -> None:
    run = rack.run(job, **{"resources.mixed": "true", "engine.max_num_seqs": "64"})
    ended = run.wait()
    assert ended.code == 0, ended.err

    table = read_output(job / "out")
    assert table["id"].to_pylist() == list(range(sum(ROWS)))
    engines = set(table["engine"].to_pylist())
    assert {engine.split()[0] for engine in engines} == {"llama.cpp", "simulated"}
