"""How long a run over committed units takes to know them: `python -m tests.bench.resume`.

Real commit records are written to a local folder, or to an S3 server on loopback, then read as a
resume reads them; the coordinator's state is built from them, and their tallies are added up.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import fsspec

from pipeline.driver.coordinator.coordinator import Coordinator
from pipeline.input.units import Unit
from pipeline.output.commit.packed_records import RecordPacker
from pipeline.output.commit.records import COMMITS, CommitRecord
from pipeline.output.dataset import Dataset
from pipeline.output.tally import Tally
from pipeline.storage.base import open_storage
from tests.storage.s3_servers import CREDENTIALS, NAMES, make_bucket, s3_server

_RESULTS = Path(__file__).parent / "results" / "resume.json"
_ROWS = 100  # of a unit


def units_of(number: int) -> list[Unit]:
    return [Unit(f"{n:024x}", 0, n * _ROWS, (n + 1) * _ROWS) for n in range(number)]


def records(number: int) -> Iterator[CommitRecord]:
    """As those of a job that labels, one for each of ``units_of``."""
    tally = Tally(rows=_ROWS, prompt_tokens=9000, completion_tokens=4000)
    tally.labels.update(positive=60, negative=40)
    tally.finish_reasons.update(stop=100)
    for bucket in (64, 128, 256):
        tally.prompt_lengths[bucket] = tally.completion_lengths[bucket] = 33
    for unit in units_of(number):
        yield CommitRecord(unit.id, "a" * 16, unit.file_name, 12345, "0" * 64, tally)


def write_records(address: str, number: int) -> None:
    """Without all the care that a commit takes."""
    if "://" not in address:
        folder = Path(address) / COMMITS
        folder.mkdir(parents=True)
        for record in records(number):
            (folder / f"{record.unit}.json").write_bytes(record.encode())
        return
    fs, root = fsspec.core.url_to_fs(address)
    fs.pipe({f"{root}/{COMMITS}/{r.unit}.json": r.encode() for r in records(number)})


def resume(address: str, number: int) -> dict[str, Any]:
    """Seconds of each step, and of this process's own work in it, and the memory of it all."""
    times: dict[str, Any] = {"records": number}

    @contextmanager
    def timed(step: str) -> Iterator[None]:
        started, busy = time.perf_counter(), time.process_time()
        yield
        times[f"{step}_seconds"] = round(time.perf_counter() - started, 2)
        times[f"{step}_cpu_seconds"] = round(time.process_time() - busy, 2)

    units = units_of(number)
    with timed("whole"):
        with timed("read"):
            commits = Dataset(open_storage(address)).state().commits
        assert len(commits) == number
        with timed("rebuild"):
            spans = [record.row_range for record in commits.values()]
            coordinator = Coordinator(units, spans, {"card": 100.0})
        with timed("add_up"):
            total = Tally()
            for record in commits.values():
                total.add(record.tally)
    assert coordinator.snapshot().done
    assert total.rows == number * _ROWS
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return times | {"peak_mb": peak}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--s3", choices=NAMES, help="a server of this kind, not a local folder")
    parser.add_argument("--packed", action="store_true", help="as a driver packs them")
    parser.add_argument("--save", action="store_true", help=f"write {_RESULTS.name}")
    given = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="rackmill-resume-"))
    try:
        with ExitStack() as stack:
            address = str(folder / "run")
            if given.s3:
                endpoint = stack.enter_context(s3_server(given.s3, folder))
                os.environ |= CREDENTIALS | {"AWS_ENDPOINT_URL": endpoint}
                make_bucket(endpoint)
                address = "s3://bucket/run"
            write_records(address, given.records)
            packer = RecordPacker(open_storage(address))
            while given.packed and packer.pack():
                pass
            found = resume(address, given.records)
    finally:
        shutil.rmtree(folder)
    where = (given.s3 or "local") + (" packed" if given.packed else "")
    print(where, "  ".join(f"{name} {value}" for name, value in found.items()))
    if given.save:
        results = json.loads(_RESULTS.read_text()) if _RESULTS.exists() else {}
        _RESULTS.write_text(json.dumps(results | {where: found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
