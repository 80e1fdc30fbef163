"""Servers that are killed in the middle of a run: they are waited for, others do their rows, and
nothing is lost, doubled or blamed."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.processes import Launcher, Started
from tests.support.ray_head import SharedRay
from tests.support.samples import write_model

pytestmark = pytest.mark.ray

_ROWS = (400, 200)
_SECONDS = 0.05  # of a row, of which a server answers four at once
_JOB = """\
name: served
model: models/tiny
input: {{path: rows/*.parquet}}
prompt: "Continue: {{text}}"
sampling: {{max_tokens: 8}}
output: {{path: out, keep: [id]}}
engine: {{kind: llama.cpp, url: [{urls}]}}
faults: {{step_timeout_seconds: {patience}}}
"""


class Server:
    """llama-server by its shapes, in a process of its own, always on the same port."""

    def __init__(self, seconds: float = _SECONDS) -> None:
        self._seconds = seconds
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            self._port = one.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.engine.http.fake_server"]
        self._process = subprocess.Popen([*command, str(self._port), str(self._seconds)])
        for _ in range(600):
            with suppress(OSError):
                urllib.request.urlopen(f"{self.url}/props", timeout=5).close()
                return
            time.sleep(0.1)
        raise AssertionError("the server does not answer")

    def kill(self) -> None:
        """As ``kill -9`` does."""
        self._process.kill()
        self._process.wait()


@pytest.fixture
def servers() -> Iterator[list[Server]]:
    made: list[Server] = []
    yield made
    for one in made:
        one.kill()


def _write_job(folder: Path, write_shards, servers: list[Server], patience: float) -> None:
    write_shards(folder / "rows", *_ROWS)
    write_model(folder / "models/tiny")
    urls = ", ".join(one.url for one in servers)
    (folder / "job.yaml").write_text(_JOB.format(urls=urls, patience=patience))


def _start(launcher: Launcher, ray: SharedRay, folder: Path) -> Started:
    command = ("run", "job.yaml", "--json", "--address", ray.address)
    return launcher.start(*command, cwd=folder, **ray.environment)


def _begun(folder: Path) -> bool:
    return bool(list((folder / "out").glob("[!.]*.parquet")))


def _said(output: str) -> str:
    return " ".join(output.split())


def _is_whole(folder: Path, read_output) -> bool:
    """Every row once, in its place, and none of them blamed."""
    rows = read_output(folder / "out")
    return (
        rows["id"].to_pylist() == list(range(sum(_ROWS)))
        and set(rows["completion"].to_pylist()) == {"yes"}
        and set(rows["error"].to_pylist()) == {None}
    )


def test_a_server_that_comes_back_is_waited_for(
    tmp_path: Path, launcher, shared_ray, write_shards, read_output, servers: list[Server]
) -> None:
    servers.append(Server())
    _write_job(tmp_path, write_shards, servers, patience=120)
    run = _start(launcher, shared_ray, tmp_path)
    run.wait_until(lambda: _begun(tmp_path), "a unit was done")
    servers[0].kill()
    waits = f"waits for {servers[0].url}: connection refused"
    run.wait_until(lambda: waits in _said(run.output), waits)
    servers[0].start()
    ended = run.wait()

    assert ended.code == 0, ended.err
    assert f"{servers[0].url} is back after" in _said(run.output)
    assert _is_whole(tmp_path, read_output)


def test_one_that_never_comes_back_ends_the_run_and_loses_nothing(
    tmp_path: Path, launcher, shared_ray, write_shards, read_output, servers: list[Server]
) -> None:
    servers.append(Server())
    _write_job(tmp_path, write_shards, servers, patience=12)
    run = _start(launcher, shared_ray, tmp_path)
    run.wait_until(lambda: _begun(tmp_path), "a unit was done")
    servers[0].kill()
    ended = run.wait()
    said = _said(ended.err)

    assert ended.code == 1
    assert f"{servers[0].url} was waited for, 12 s, and is not back: connection refused" in said
    assert "Traceback" not in ended.err

    servers[0].start()
    again = _start(launcher, shared_ray, tmp_path).wait()
    assert again.code == 0, again.err
    assert again.json["reused"] > 0
    assert _is_whole(tmp_path, read_output)


@pytest.mark.long  # engines that are left do the rest: test_card_lost
def test_of_two_servers_the_one_that_stays_does_the_rest(
    tmp_path: Path, launcher, shared_ray, write_shards, read_output, servers: list[Server]
) -> None:
    servers += [Server(), Server()]
    _write_job(tmp_path, write_shards, servers, patience=600)
    began = time.monotonic()
    run = _start(launcher, shared_ray, tmp_path)
    run.wait_until(lambda: _begun(tmp_path), "a unit was done")
    servers[0].kill()
    ended = run.wait()

    assert ended.code == 0, ended.err
    assert time.monotonic() - began < 400  # nobody waited for what the job's patience would allow
    assert _is_whole(tmp_path, read_output)
