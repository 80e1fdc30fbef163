"""Programs that ask vLLM itself, each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[2]
_LONGEST_SECONDS = 900


def answers_of(probe: Path, folder: Path, *arguments: str) -> Any:
    """What ``probe`` wrote into ``folder``/answers.json, the last of its arguments."""
    asked = subprocess.run(
        [sys.executable, str(probe), *arguments, str(folder)],
        cwd=_ROOT,
        env=os.environ | {"PYTHONPATH": str(_ROOT), "VLLM_LOGGING_LEVEL": "ERROR"},
        capture_output=True,
        text=True,
        timeout=_LONGEST_SECONDS,
    )
    assert asked.returncode == 0, asked.stdout + asked.stderr
    return json.loads((folder / "answers.json").read_text())
