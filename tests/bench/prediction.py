"""How near predictions come to what runs then take, before and after a run of the same shape.

    .venv/bin/python tests/bench/prediction.py

Labels tweets and answers GSM8K questions with the real engine, each twice over other rows, with a
profile of its own that is empty at first. Prints predicted and actual seconds of every run and
writes `tests/bench/results/prediction.json`. Takes about four minutes on two CPU cores.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RESULT = Path(__file__).parent / "results" / "prediction.json"

RUNS = (
    ("tweets, first run", "jobs/label-tweets.yaml", 512, "data/a"),
    ("tweets, other rows", "jobs/label-tweets.yaml", 512, "data/b"),
    ("tweets, three times as many", "jobs/label-tweets.yaml", 1536, "data/c"),
    ("questions, first run", "jobs/gsm8k.yaml", 64, "data/gsm8k.jsonl"),
    ("questions, other rows", "jobs/gsm8k.yaml", 96, "data/gsm8k-b.jsonl"),
)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _make_data(folder)
        environment = os.environ | {"RACKMILL_PROFILE": str(folder / "profile.jsonl")}
        results = [_run(folder, environment, number, *run) for number, run in enumerate(RUNS)]
    RESULT.write_text(json.dumps(results, indent=1) + "\n")


def _make_data(folder: Path) -> None:
    for target, skip in (("a", 0), ("b", 512), ("c", 1024)):
        rows = 1536 if target == "c" else 512
        arguments = [f"{folder}/data/{target}", "--skip", str(skip), "--rows", str(rows)]
        subprocess.run([sys.executable, "infra/make_tweets.py", *arguments], check=True, cwd=ROOT)
    path = folder / "data/gsm8k.jsonl"
    subprocess.run([sys.executable, "tests/bench/make_gsm8k.py", path], check=True, cwd=ROOT)
    lines = path.read_text().splitlines(keepends=True)
    (folder / "data/gsm8k-b.jsonl").write_text("".join(lines[64:]))


def _run(
    folder: Path,
    environment: dict[str, str],
    number: int,
    what: str,
    job: str,
    rows: int,
    data: str,
) -> dict[str, Any]:
    command = [str(Path(sys.executable).with_name("rackmill")), "run", str(ROOT / job), "--json"]
    command += ["--rows", str(rows), "--output", str(folder / f"out-{number}")]
    command += ["--set", f"input.path={folder / data}"]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode not in (0, 3):
        sys.exit(done.stderr)
    facts = json.loads(done.stdout)
    actual = facts["seconds"] - facts["model_seconds"]
    result = {
        "run": what,
        "rows": facts["rows"],
        "basis": facts["prediction_basis"],
        "predicted_seconds": round(facts["predicted_seconds"], 1),
        "actual_seconds": round(actual, 1),
        "difference": round(facts["predicted_seconds"] / actual - 1, 3),
    }
    print(json.dumps(result))
    return result


if __name__ == "__main__":
    main()
