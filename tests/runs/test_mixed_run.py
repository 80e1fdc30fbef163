"""One job, unlike engines: a simulated one and a server. Any of them may be killed."""

from __future__ import annotations

import asyncio
import json
import random
import time
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from pipeline.output.verify.dataset import verify
from pipeline.storage.base import open_storage
from tests.engine.http.fake_server import FakeServer, llama
from tests.runs.slow_job import workers_on
from tests.support.processes import Launcher, Started
from tests.support.ray_head import SharedRay

pytestmark = pytest.mark.ray

_JOB = """\
name: mixed
model: gemma-3-270m
input: {path: rows/*.parquet}
prompt: "Continue: {text}"
sampling: {max_tokens: 16}
output: {path: out, keep: [id]}
engine: {kind: simulated, simulated: {step_seconds: 0.02, num_blocks: 512}}
resources: {engines: [simulated, {kind: llama.cpp, url: "URL", max_num_seqs: 4}], mixed: true}
"""
_ROWS = (500, 300)
_SERVER = "llama.cpp gemma.gguf"
_SIMULATED = "simulated int4 group 32"
_ANSWER_SECONDS = 0.05
_SEEDS = range(20)


async def _slow_llama(request: web.Request, body: Any) -> web.StreamResponse:
    if request.path != "/props":
        await asyncio.sleep(_ANSWER_SECONDS)
    return await llama(request, body)


def _prepare(folder: Path, write_shards: Any, url: str) -> Path:
    write_shards(folder / "rows", *_ROWS)
    (folder / "job.yaml").write_text(_JOB.replace("URL", url))
    return folder / "out"


def _start(launcher: Launcher, ray: SharedRay, folder: Path) -> Started:
    command = ("run", "job.yaml", "--json", "--address", ray.address)
    return launcher.start(*command, cwd=folder, **ray.environment)


def test_both_work_and_it_is_said_who_did_what(
    tmp_path: Path, launcher: Launcher, shared_ray: SharedRay, write_shards: Any, read_output: Any
) -> None:
    with FakeServer(_slow_llama) as server:
        output = _prepare(tmp_path, write_shards, server.url)
        finished = _start(launcher, shared_ray, tmp_path).wait()

    assert finished.code == 0, finished.err
    table = read_output(output)
    assert table["id"].to_pylist() == list(range(sum(_ROWS)))
    counted = table["engine"].value_counts().to_pylist()
    by_engine = {one["values"]: one["counts"] for one in counted}
    assert set(by_engine) == {_SIMULATED, _SERVER}
    assert finished.json["answered_by"] == by_engine
    [agreement] = finished.json["agreement"]
    assert agreement["engines"] == [_SERVER, _SIMULATED]
    assert (agreement["rows"] >= 24, agreement["equal"]) == (True, 0)
    report = (output / "_rackmill/report.md").read_text()
    assert "agree on 0 of" in report


def _kill_either(ray: SharedRay, server: FakeServer, dice: random.Random) -> FakeServer:
    """A worker, or the server, which is back a little later."""
    if dice.random() < 0.5:
        workers = workers_on(ray)
        if workers:
            dice.choice(workers).kill()
        return server
    port = int(server.url.rpartition(":")[2])
    server.stop()
    time.sleep(dice.uniform(0.1, 2.0))
    return FakeServer(_slow_llama, port).__enter__()


@pytest.mark.long  # a worker that is killed: chaos/test_kills; a server: test_servers_gone
@pytest.mark.parametrize("seed", _SEEDS)
def test_whoever_is_killed_every_row_is_there_once(
    seed: int,
    tmp_path: Path,
    launcher: Launcher,
    shared_ray: SharedRay,
    write_shards: Any,
    read_output: Any,
) -> None:
    dice = random.Random(seed)
    server = FakeServer(_slow_llama).__enter__()
    try:
        output = _prepare(tmp_path, write_shards, server.url)
        run = _start(launcher, shared_ray, tmp_path)
        for kills in range(1, 4):
            wanted = kills * dice.randint(1, 2)
            run.wait_until(
                lambda wanted=wanted: len(list(output.glob("[!.]*.parquet"))) >= wanted,
                f"{wanted} units",
            )
            server = _kill_either(shared_ray, server, dice)
        finished = run.wait()
    finally:
        server.stop()

    assert finished.code == 0, finished.err
    assert read_output(output)["id"].to_pylist() == list(range(sum(_ROWS)))
    assert verify(open_storage(str(output))).faults == []
    summary = json.loads((output / "_rackmill/summary.json").read_text())
    assert summary["failed"] == 0
