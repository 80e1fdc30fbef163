"""llama.cpp beside vLLM, and a server's engine beside a plain client of that server.

    PATH=.venv-servers/bin:$PATH python tests/bench/servers.py [rates] [overhead] [--rounds N]
        [--rows N]

- rates: the demo's rows through llama.cpp as rackmill starts it, on the GGUF file as it is
  (Q4_K_M), and through vLLM on the int4 of it, in turn: seconds until the first step, rows/s, and
  how far the labels agree, with one another and with how people graded the tweets.
- overhead: one llama-server. The demo is run over it once, through a proxy that writes down what it
  is asked. Then, in turn, the demo again (also with no more requests at once than the server has
  slots, where by itself it lets as many wait there) and a client of 40 lines that sends the same
  bytes, as many at once as there are slots, by connections that stay open: rows/s from the first
  request to the last answer (of rackmill, from the first step to the last completion).

Writes tests/bench/results/servers.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp
import pyarrow.dataset as ds
from aiohttp import web
from peers.measure import ROOT, Measured, in_turn, print_table, run_json, save

from pipeline.engine.llama_cpp.binary import find_binary
from pipeline.engine.llama_cpp.flags import flags
from pipeline.engine.llama_cpp.server import LlamaProcess
from pipeline.engine.machine.host import available_memory, cores
from pipeline.model.store.resolve import gguf_of, resolve

JOB, TWEETS = ROOT / "jobs/label-tweets.yaml", "jobs/data/tweets"
MODEL = "gemma-3-270m"
LLAMA, VLLM = "llama.cpp, Q4_K_M", "vLLM, int4"
OURS, PLAIN, EXACT = "rackmill run", "plain asyncio client", "rackmill run, nothing queued"
_KEY = "RACKMILL_BENCH_KEY"
_TARGET = 0.95
_LOAD_SECONDS = 120.0


def run_demo(folder: Path, engine: Mapping[str, Any], rows: int, key: str = "") -> Measured:
    """The demo in a process of its own, with nothing learnt from earlier runs."""
    load = os.getloadavg()[0]
    given = {f"engine.{k}": v for k, v in engine.items()} | {"input.path": ROOT / TWEETS}
    settings = [word for k, v in given.items() for word in ("--set", f"{k}={v}")]
    rackmill = Path(sys.executable).with_name("rackmill")
    command = [
        rackmill,
        "run",
        JOB,
        "--json",
        "--fresh",
        "--output",
        folder,
        "--rows",
        str(rows),
        *settings,
    ]
    profile = str(folder.with_name("profile-none.jsonl"))
    summary = run_json(command, {"RACKMILL_PROFILE": profile, _KEY: key})
    assert summary["succeeded"] == summary["rows"], summary["errors"]
    table = ds.dataset(folder).to_table(["label", "sentiment", "confidence"])
    return {
        "rows": summary["rows"],
        "ready_seconds": summary["ready_seconds"],
        "seconds": summary["work_seconds"],
        "whole_seconds": summary["whole_seconds"],
        "load": loads(load),
        "labels": table["label"].to_pylist(),
        "gold": table["sentiment"].to_pylist(),
    }


def rates(scratch: Path, rounds: int, rows: int) -> dict[str, Any]:
    systems = {
        LLAMA: partial(run_demo, scratch / "llama", {"kind": "llama.cpp"}, rows),
        VLLM: partial(run_demo, scratch / "vllm", {"kind": "vllm"}, rows),
    }
    found = in_turn(systems, rounds)
    table = []
    for name, runs in found.items():
        table.append(
            {
                "engine": name,
                "rows/s": round(median(m["rows"] / m["seconds"] for m in runs), 2),
                "until the first step, s": round(median(m["ready_seconds"] for m in runs), 1),
                "whole s": round(median(m["whole_seconds"] for m in runs), 1),
                "right": round(alike(runs[-1]["labels"], runs[-1]["gold"]), 4),
                "runs": [round(m["rows"] / m["seconds"], 2) for m in runs],
                "load": [m["load"] for m in runs],
            }
        )
    same = alike(found[LLAMA][-1]["labels"], found[VLLM][-1]["labels"])
    print_table(
        f"{rows} of the demo's tweets", list(table[0]), [list(row.values()) for row in table]
    )
    print(f"  the same label: {same:.1%}")
    again = {n: alike(runs[0]["labels"], runs[-1]["labels"]) for n, runs in found.items()}
    return {"rows": rows, "table": table, "same_label": round(same, 4), "same_label_again": again}


def loads(before: float) -> str:
    """Of the machine, before and after a run."""
    return f"{before:.1f}-{os.getloadavg()[0]:.1f}"


def alike(some: Sequence[str], others: Sequence[str]) -> float:
    return sum(a == b for a, b in zip(some, others, strict=True)) / len(some)


def overhead(scratch: Path, rounds: int, rows: int) -> dict[str, Any]:
    with llama_server() as (url, key, slots):
        with recording(url) as (proxy, bodies):
            served(scratch, proxy, key, rows)
        plain = partial(plain_client, url, key, list(bodies), slots)
        as_many = partial(served, scratch, url, key, rows, max_num_seqs=slots)
        systems = {OURS: partial(served, scratch, url, key, rows), PLAIN: plain, EXACT: as_many}
        found = in_turn(systems, rounds)
    rate = {n: [m["rows"] / m["seconds"] for m in runs] for n, runs in found.items()}
    ratios = [ours / other for ours, other in zip(rate[OURS], rate[PLAIN], strict=True)]
    table = [
        {
            "client": name,
            "rows/s": round(median(rates_of), 2),
            "runs": [round(one, 2) for one in rates_of],
            "load": [m["load"] for m in found[name]],
        }
        for name, rates_of in rate.items()
    ]
    title = f"One llama-server of {slots} slots, {len(bodies)} requests"
    print_table(title, list(table[0]), [list(row.values()) for row in table])
    print(f"  rackmill's rate over the client's: {[round(r, 3) for r in ratios]}")
    told = {"ratio": round(median(ratios), 3), "ratios": [round(r, 3) for r in ratios]}
    return {"slots": slots, "requests": len(bodies), "target": _TARGET, "table": table, **told}


def served(scratch: Path, url: str, key: str, rows: int, **more: Any) -> Measured:
    engine = {"kind": "llama.cpp", "url": url, "api_key": _KEY} | more
    return run_demo(scratch / "served", engine, rows, key)


@contextmanager
def llama_server() -> Iterator[tuple[str, str, int]]:
    """Address, key and slots of one that is started as rackmill does."""
    model = resolve(MODEL)
    chosen = flags(
        model.geometry, context=None, slots=None, cores=len(cores()), memory=available_memory()
    )
    gguf = gguf_of(MODEL, model)
    process = LlamaProcess(find_binary(None), [*chosen, "--model", str(gguf)])
    try:
        process.wait(_LOAD_SECONDS)
        yield process.url, process.key, int(chosen[chosen.index("--parallel") + 1])
    finally:
        process.end()


@contextmanager
def recording(url: str) -> Iterator[tuple[str, list[bytes]]]:
    """A server that hands everything on to ``url``, and the bodies of the completions that it was
    asked for."""
    recorder = _Recorder(url)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield asyncio.run_coroutine_threadsafe(recorder.start(), loop).result(), recorder.bodies
    finally:
        asyncio.run_coroutine_threadsafe(recorder.stop(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


class _Recorder:
    def __init__(self, url: str) -> None:
        self._url = url
        self.bodies: list[bytes] = []

    async def start(self) -> str:
        self._session = aiohttp.ClientSession()
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._hand_on)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        await self._runner.cleanup()
        await self._session.close()

    async def _hand_on(self, request: web.Request) -> web.Response:
        body = await request.read()
        if request.path == "/completion":
            self.bodies.append(body)
        kept = ("Authorization", "Content-Type")
        headers = {name: value for name, value in request.headers.items() if name in kept}
        where = f"{self._url}{request.path}"
        async with self._session.request(
            request.method, where, data=body or None, headers=headers
        ) as answer:
            content = await answer.read()
        return web.Response(body=content, status=answer.status, content_type="application/json")


def plain_client(url: str, key: str, bodies: Sequence[bytes], at_once: int) -> Measured:
    load = os.getloadavg()[0]
    seconds = asyncio.run(_send_all(f"{url}/completion", key, bodies, at_once))
    return {"rows": len(bodies), "seconds": seconds, "load": loads(load)}


async def _send_all(url: str, key: str, bodies: Sequence[bytes], at_once: int) -> float:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    waiting = iter(bodies)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(headers=headers, connector=connector) as session:

        async def send() -> None:
            for body in waiting:
                async with session.post(url, data=body) as answer:
                    assert answer.status == 200
                    assert json.loads(await answer.read())["completion_probabilities"]

        began = time.perf_counter()
        await asyncio.gather(*(send() for _ in range(at_once)))
        return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("parts", nargs="*", default=["rates", "overhead"])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--rows", type=int, default=512)
    given = parser.parse_args()
    parts = {"rates": rates, "overhead": overhead}
    for name in given.parts:
        with tempfile.TemporaryDirectory() as scratch:
            save("servers", {name: parts[name](Path(scratch), given.rounds, given.rows)})


if __name__ == "__main__":
    main()
