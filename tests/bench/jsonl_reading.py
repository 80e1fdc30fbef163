"""How fast JSON Lines are looked into and read, beside pyarrow's streaming reader.

python tests/bench/jsonl_reading.py [--mebibytes 1024]

Processor seconds of one thread each, so that a busy machine does not matter much. pyarrow reads in
blocks of 1 MiB and takes its types from the first, where ours come from all of the file.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.json as pj

from pipeline.input.formats.base import ScannedFile
from pipeline.input.formats.jsonl.kind import JsonlReader, scan
from pipeline.job.job import Input

_MIB = 1 << 20
_ROWS = 1024  # read at a time


def _write(path: Path, size: int) -> None:
    row = 0
    with path.open("w") as file:
        while file.tell() < size:
            for _ in range(10_000):
                text = f"row {row} " + "some words of a prompt, as they come " * (row % 9)
                file.write(json.dumps({"id": row, "text": text, "score": row / 7}) + "\n")
                row += 1


def _scanned(path: Path) -> ScannedFile:
    return scan(str(path), str(path), Input(path=str(path)))


def _ours(path: Path) -> int:
    found = _scanned(path)
    reader = JsonlReader(str(path), found.schema, found.offsets)
    for start in range(0, found.rows, _ROWS):
        reader.read(start, min(start + _ROWS, found.rows))
    reader.close()
    return found.rows


def _scan(path: Path) -> int:
    return _scanned(path).rows


def _pyarrow(path: Path) -> int:
    options = pj.ReadOptions(use_threads=False, block_size=_MIB)
    return sum(batch.num_rows for batch in pj.open_json(path, read_options=options))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mebibytes", type=int, default=1024)
    size = parser.parse_args().mebibytes
    pa.set_cpu_count(1)
    ways: dict[str, Callable[[Path], int]] = {"scan": _scan, "scan and read": _ours}
    ways["pyarrow.json.open_json"] = _pyarrow
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        _write(path, size * _MIB)
        for name, way in ways.items():
            begun = time.process_time()
            rows = way(path)
            seconds = time.process_time() - begun
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(
                f"{name}: {rows:,} rows, {size / seconds:.0f} MiB for a second of one processor, "
                f"{peak:.0f} MiB of memory at most so far"
            )


if __name__ == "__main__":
    main()
