"""Whether a checkpoint runs: a real engine, in a process of its own, answers the same twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.budget.engine_arguments import PromptShape
from pipeline.engine.failure.child_guard import guard_children
from pipeline.errors import EngineFailed, RackmillError
from pipeline.model.folder import ModelFolder

_PROMPT = "The capital of France is the city of"
_TOKENS = 16
_CONTEXT = 512
_SECONDS = 900
_RESULT = "rackmill-smoke: "


@dataclass(frozen=True)
class SmokeResult:
    """``first`` and ``second``: what greedy decoding gave for the same prompt."""

    prompt: str
    first: str
    second: str
    tokens: int
    device: str

    @property
    def ok(self) -> bool:
        return self.first == self.second and self.tokens > 0 and bool(self.first.strip())


def smoke_run(folder: Path) -> SmokeResult:
    """Load the checkpoint in ``folder`` and let it answer twice. Takes a minute on a CPU.

    Raises EngineFailed: it cannot be loaded, with the reason; UsageError: nor could any other.
    """
    from pipeline.engine.standalone.engine import standalone

    variables = standalone().environment(eager=True)
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "pipeline.engine.standalone.smoke", str(folder)],
            env=os.environ | variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise EngineFailed(f"the engine did not answer within {_SECONDS} s") from None
    for line in done.stdout.splitlines():
        if line.startswith(_RESULT):
            content = json.loads(line.removeprefix(_RESULT))
            if "error" in content:
                raise EngineFailed(content["error"], *content["hints"])
            return SmokeResult(**content)
    lines = (done.stderr or done.stdout).strip().splitlines()
    raise EngineFailed(lines[-1] if lines else f"the engine's process ended with {done.returncode}")


def _answer_twice(folder: Path) -> dict[str, Any]:
    from pipeline.engine.standalone.engine import standalone
    from pipeline.engine.vllm.engine import VllmEngine
    from pipeline.job.sampling import Sampling
    from pipeline.model.tokenizer import Tokenizer
    from pipeline.rows.request import Request

    model = ModelFolder(folder.name, folder)
    [ids] = Tokenizer(folder).encode_batch([_PROMPT])
    shape = PromptShape(len(ids), len(ids), 0)
    given: dict[str, Any] = {"max_model_len": _CONTEXT, "enforce_eager": True}
    # a cached prefix would answer the second time by another way than the first
    given["enable_prefix_caching"] = False
    arguments = standalone().arguments(model, shape, _TOKENS, given)
    engine = VllmEngine(model, arguments)
    answers = []
    for number in range(2):
        sampling = Sampling(temperature=0.0, max_tokens=_TOKENS)
        engine.add(Request(id=number, prompt_ids=list(ids), sampling=sampling))
        while not (finished := engine.step()):
            pass
        answers += finished
    result = {
        "prompt": _PROMPT,
        "first": answers[0].text,
        "second": answers[1].text,
        "tokens": answers[0].completion_tokens,
        "device": engine.facts.device,
    }
    engine.close()
    return result


if __name__ == "__main__":
    guard_children()
    try:
        outcome = _answer_twice(Path(sys.argv[1]))
    except RackmillError as e:
        outcome = {"error": e.message, "hints": e.hints}
    print(f"\n{_RESULT}{json.dumps(outcome)}", flush=True)
