"""Where chaos happens: a job, its input, what an undisturbed run of it gives, and Ray."""

from __future__ import annotations

import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import yaml

from tests.chaos.counted import Answers
from tests.support.processes import MARK
from tests.support.ray_head import ray_head
from tests.support.samples import write_model

_RACKMILL = str(Path(sys.executable).with_name("rackmill"))
_LONGEST_SECONDS = 240.0  # of an undisturbed run

# rows are cheap and answers short: what is looked at is how work is lost and found again
_SIMULATED: dict[str, Any] = {
    "sampling": {"max_tokens": 8},
    "engine": {
        "kind": "simulated",
        "max_num_seqs": 64,
        "simulated": {"step_seconds": 0.005, "output_tokens": 3, "num_blocks": 1024},
    },
}
_REAL: dict[str, Any] = {
    "sampling": {"max_tokens": 32, "ignore_eos": True},
    "engine": {"max_num_seqs": 16, "max_model_len": 256, "kv_cache_memory_bytes": 128 << 20},
}


class Broken(Exception):
    """A run did not do as promised."""


@dataclass(frozen=True)
class Place:
    """``workers``: of the job. ``environment``: for every command. ``counted``: what engines
    answered in all. ``address``: of the Ray to join (None: each run starts its own), whose
    processes all carry ``ray_mark``. ``expected``: the output (None: one run's answers need not be
    another's)."""

    folder: Path
    rows: int
    workers: int
    environment: Mapping[str, str]
    counted: Answers
    address: str | None = None
    ray_mark: str | None = None
    expected: pa.Table | None = None

    @property
    def own_ray(self) -> bool:
        return self.address is None

    def command(self, output: str) -> list[str]:
        joined = ["--address", self.address] if self.address else []
        return [_RACKMILL, "run", "job.yaml", "--json", "--output", output, *joined]

    def ask(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Another command of rackmill, to its end."""
        return subprocess.run(
            [_RACKMILL, *command],
            cwd=self.folder,
            env=dict(self.environment),
            capture_output=True,
            text=True,
            timeout=_LONGEST_SECONDS,
        )


def output_rows(output: Path) -> pa.Table:
    """What any Parquet reader sees in an output folder."""
    return pyarrow.dataset.dataset(output, format="parquet").to_table().combine_chunks()


@contextmanager
def simulated_place(
    folder: Path, environment: Mapping[str, str], *, rows: int, workers: int, own_ray: bool
) -> Iterator[Place]:
    """The chaos job on the simulated engine. It is run once undisturbed: the engine's answers
    depend on the prompt alone, so every other run must give the same table. Raises Broken."""
    # a small tokenizer: the real one takes each process a second to load
    model = str(write_model(folder / "model"))
    place = _prepare(folder, environment, {"model": model, **_SIMULATED}, rows, workers, shards=3)
    if own_ray:
        yield _with_expected(place)
        return
    mark = secrets.token_hex(8)
    (folder / "ray").mkdir()
    with ray_head(folder / "ray", {**place.environment, MARK: mark}) as head:
        joined = {**place.environment, **head.environment}
        yield _with_expected(
            replace(place, environment=joined, address=head.address, ray_mark=mark)
        )


def real_place(folder: Path, environment: Mapping[str, str], *, rows: int, workers: int) -> Place:
    """Some rows for the real engine, in shards of 16: each is a unit of its own."""
    return _prepare(folder, environment, _REAL, rows, workers, shards=rows // 16)


def _prepare(
    folder: Path,
    environment: Mapping[str, str],
    settings: Mapping[str, Any],
    rows: int,
    workers: int,
    *,
    shards: int,
) -> Place:
    (folder / "rows").mkdir(parents=True)
    ends = [rows * (n + 1) // shards for n in range(shards)]
    for number, (start, stop) in enumerate(zip([0, *ends], ends, strict=False)):
        ids = list(range(start, stop))
        table = pa.table({"id": ids, "text": [f"row {i}" for i in ids]})
        pq.write_table(table, folder / "rows" / f"shard-{number:03d}.parquet")
    job = {
        "name": "chaos",
        "model": "gemma-3-270m",
        "input": {"path": "rows/*.parquet"},
        "prompt": "{text}",
        "output": {"path": "out", "keep": ["id"]},
        "resources": {"workers": workers},
        **settings,
    }
    (folder / "job.yaml").write_text(yaml.safe_dump(job))
    counted = Answers(folder / "counted")
    own = {"RACKMILL_PROFILE": str(folder / "profile.jsonl"), **counted.environment}
    clean = {k: v for k, v in environment.items() if k != "RAY_ADDRESS"}
    return Place(folder, rows, workers, {**clean, **own}, counted)


def _with_expected(place: Place) -> Place:
    finished = place.ask(*place.command("undisturbed")[1:])
    if finished.returncode != 0:
        raise Broken(f"the undisturbed run failed:\n{finished.stderr}")
    if place.counted.given != place.rows:
        raise Broken(f"{place.counted.given} answers were counted for {place.rows} rows")
    table = output_rows(place.folder / "undisturbed")
    if table["id"].to_pylist() != list(range(place.rows)):
        raise Broken("the undisturbed run's output is not every row once, in order")
    return replace(place, expected=table)
