"""A rack of a head, machines with cards, one with an engine of its own, and a laptop that only has
the token."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.service.rack.hosts import Host, Network
from tests.support.processes import Started
from tests.support.samples import write_model

ROWS = (600, 600, 400)
_SILENCE_SECONDS = 5
_PORT = 8080
SERVER = f"http://127.0.0.1:{_PORT}"  # as the machine itself reaches it
_SERVE = f"""
import asyncio, sys, time
sys.path.insert(0, {str(Path(__file__).parents[3])!r})
from tests.engine.http.fake_server import FakeServer, llama
async def slow(request, body):
    await asyncio.sleep(0.02)
    return await llama(request, body)
with FakeServer(slow, {_PORT}) as server:
    print("serves", flush=True)
    time.sleep(3600)
"""
# Ray usually takes a minute to give a machine up
IMPATIENT = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "4",
}
# and a minute to give a head up; a driver has to be more patient than rackmill
_GIVE_HEAD_UP = {"RAY_gcs_rpc_server_reconnect_timeout_s": "5"}


@dataclass
class Rack:
    """``head``, ``left``, ``small`` and ``own`` (with a server and no card) have joined; ``right``
    has not; ``laptop`` never does."""

    net: Network
    head: Host
    left: Host
    small: Host
    own: Host
    right: Host
    laptop: Host

    @property
    def address(self) -> str:
        return f"{self.head.address}:6379"

    def started(self) -> None:
        assert self.head.rackmill("rack", "start", "--head", "--host", self.head.address).code == 0

    def join(self, host: Host, cards: str) -> None:
        given = ("rack", "join", self.address, "--host", host.address)
        joined = host.rackmill(*given, cards=cards, **_GIVE_HEAD_UP)
        assert joined.code == 0, joined.err

    @contextmanager
    def served(self) -> Iterator[None]:
        """``own`` joins with a server."""
        server = self.own.python(_SERVE)
        deadline = time.monotonic() + 60
        while "serves" not in server.output:
            assert time.monotonic() < deadline, server.output
            time.sleep(0.1)
        given = ("rack", "join", self.address, "--host", self.own.address)
        engine = ("--engine", "llama.cpp", "--endpoint", SERVER)
        joined = self.own.rackmill(*given, *engine, **_GIVE_HEAD_UP)
        assert joined.code == 0, joined.err
        assert f"llama.cpp {SERVER}" in joined.err
        yield
        server.kill_all()

    def run(self, folder: Path, **settings: str) -> Started:
        given = [word for k, v in settings.items() for word in ("--set", f"{k}={v}")]
        job = str(folder / "job.yaml")
        return self.head.start("run", job, "--address", self.address, *given)


@pytest.fixture(scope="module")
def rack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rack]:
    with Network(tmp_path_factory.mktemp("rack"), IMPATIENT) as net:
        hosts = [net.host(name) for name in ("head", "left", "small", "own", "right", "laptop")]
        one = Rack(net, *hosts)
        one.started()
        one.join(one.left, "2x rtx4090")
        one.join(one.small, "1x rtx4060-laptop")
        with one.served():
            yield one


@pytest.fixture
def job(tmp_path: Path, write_shards: Callable[..., Path]) -> Path:
    """Half a minute of work for two engines, in a folder that all hosts see."""
    model = write_model(tmp_path / "model")
    write_shards(tmp_path / "rows", *ROWS)
    (tmp_path / "job.yaml").write_text(
        f"""\
name: on-a-rack
model: {model}
input: {{path: {tmp_path}/rows/*.parquet}}
prompt: "{{text}}"
sampling: {{max_tokens: 16}}
output: {{path: {tmp_path}/out, keep: [id]}}
engine: {{kind: simulated, max_num_seqs: 32, simulated: {{step_seconds: 0.1}}}}
faults: {{silence_seconds: {_SILENCE_SECONDS}}}
"""
    )
    return tmp_path
