"""vLLM's CUDA build, asked without a card: by ``./infra/test --cuda``, which makes an environment
for it, and by no other run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipeline.budget.cards.lookup import find_card
from tests.cuda.stub import pretending

CHECKED = "RACKMILL_CUDA_CHECK"  # set where the results go, and by ./infra/test --cuda alone
collect_ignore_glob = [] if os.environ.get(CHECKED) else ["*"]
KINDS = {
    "8.6": ("rtx3090", "rtx3060"),
    "8.9": ("rtx4090", "rtx4060ti-16gb"),
    "12.0": ("rtx5090", "rtx5070"),
}
_SECONDS = 3600


@pytest.fixture(scope="session")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, dict[str, Any]]]:
    """By capability: what vLLM answered. Two are asked at once."""
    started = time.monotonic()
    waiting = dict(KINDS)
    running: dict[str, tuple[subprocess.Popen[bytes], Path]] = {}
    answers: dict[str, dict[str, Any]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < 2:
                kind, cards = waiting.popitem()
                running[kind] = _ask(tmp_path_factory.mktemp(f"sm_{kind}"), cards)
            for kind, (process, folder) in list(running.items()):
                if process.poll() is not None:
                    del running[kind]
                    assert process.returncode == 0, (folder / "log").read_text()[-4000:]
                    answers[kind] = json.loads((folder / "answers.json").read_text())
            assert time.monotonic() - started < _SECONDS
            time.sleep(0.5)
    finally:
        for process, _ in running.values():
            process.kill()
    yield answers
    _write_down(answers, time.monotonic() - started)


def _ask(folder: Path, cards: tuple[str, ...]) -> tuple[subprocess.Popen[bytes], Path]:
    known = [find_card(name) for name in cards]
    environment = pretending(folder, [known[0]] * 2)
    command = [sys.executable, "-m", "tests.cuda.probe", folder / "models",
               folder / "answers.json", *cards]  # fmt: skip
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log), folder


def _write_down(answers: dict[str, dict[str, Any]], seconds: float) -> None:
    """What was asked, for people who want to know what was seen."""
    content = {
        "command": "./infra/test --cuda",
        "day": datetime.now(UTC).date().isoformat(),
        "python": sys.version.split()[0],
        "versions": next(iter(answers.values()))["versions"],
        "seconds": round(seconds),
        "kinds": {
            kind: {
                "cards": answer["cards"],
                "settings_chosen": len(answer["settings"]),
                "configurations_that_vllm_accepted": answer["configurations"],
                "compiled_variants": _variants(answer["settings"]),
                "backends": _counted(row["backend"] for row in answer["settings"]),
                "models_built": len(answer["models"]),
                "kernels": _kernels(answer["models"]),
                "pools_compared": sum(len(m["blocks"]) for m in answer["models"]),
                "pools_equal": sum(a == b for m in answer["models"] for a, b in m["blocks"]),
                "compilers": answer["compilers"],
                "two_cards": {k: answer["two_cards"][k] for k in ("world", "executor")},
                "seconds": answer["seconds"],
            }
            for kind, answer in sorted(answers.items())
        },
    }
    Path(os.environ[CHECKED]).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _variants(rows: list[dict[str, Any]]) -> dict[str, int]:
    """Model -> how often code is compiled for all of its jobs on these cards."""
    sizes = dict.fromkeys(row["size"] for row in rows)
    return {size: len({r["hash"] for r in rows if r["size"] == size}) for size in sizes}


def _counted(values: Any) -> dict[str, int]:
    counts: dict[str, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    return counts


def _kernels(models: list[dict[str, Any]]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for model in models:
        for kernel, number in model["kernels"].items():
            counts[kernel] = counts.get(kernel, 0) + number
    return counts
