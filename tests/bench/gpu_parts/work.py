"""The rows that are timed: random tokens, the same on every call, so that nothing is cached."""

from __future__ import annotations

import random
from typing import Any

_TOKENS = range(1000, 200_000)  # plain ones of Gemma's vocabulary
_SHORTEST, _LONGEST = 16, 600
ANSWERS = (8, 32, 128)  # tokens of each answer


def prompts(rows: int, seed: int) -> list[list[int]]:
    """Prompts about as long as ShareGPT's first turns: most are short, a few are long."""
    dice = random.Random(seed)
    made = []
    for _ in range(rows):
        length = min(_LONGEST, max(_SHORTEST, round(dice.lognormvariate(4.2, 1.0))))
        made.append(dice.choices(_TOKENS, k=length))
    return made


def job(model: str, sampling: dict[str, Any]) -> dict[str, Any]:
    """A job of free text, as `job_from` takes it."""
    return {
        "name": "bench",
        "model": model,
        "input": {"path": "."},
        "prompt": {"column": "prompt"},
        "sampling": sampling,
        "output": {"path": "."},
    }
