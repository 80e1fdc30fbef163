"""One engine of rackmill's, loaded as a worker loads it, and measured: a process of its own.

An order on stdin (see ``main``), a line for each part on stdout. Run by ``gpu_parts.session``.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[3]))
sys.path.insert(0, str(Path(__file__).parents[1]))

import pyarrow as pa

from gpu_parts.board import Board, Watch
from gpu_parts.work import ANSWERS, job, prompts
from pipeline import job_from
from pipeline.engine.failure.child_guard import guard_children
from pipeline.engine.load import load_engine
from pipeline.engine.standalone.probe import Probe
from pipeline.errors import RackmillError
from pipeline.input.units import Unit
from pipeline.job.sampling import Sampling
from pipeline.model.folder import ModelFolder
from pipeline.model.tokenizer import Tokenizer
from pipeline.prompt.answers import Answers
from pipeline.prompt.join import Prompt
from pipeline.rows.request import Completion, Request
from pipeline.simulate.vllm_model.step_fit import fit_steps
from pipeline.worker.coordination.messages import Progress
from pipeline.worker.engine_loop.engine_loop import EngineLoop
from pipeline.worker.engine_loop.loop_settings import LoopSettings
from pipeline.worker.open_unit import OpenUnit, ReadyRow

MARK = "rackmill-part: "
SO_FAR = "so far"  # of the part that is being measured
NO_ENGINE = "no_engine"  # this error is that of all parts
_STOPS = ("a", "e", "i", "o", "u", " ")  # noise hits one of them within a few tokens


class Watched:
    """An engine that notes how long its steps take, and in which of them its core named requests
    that had ended."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.facts, self.stats = engine.facts, engine.stats
        self.add, self.abort = engine.add, engine.abort
        self.step_seconds = 0.0
        self.late_steps = self.steps = 0

    def step(self) -> list[Completion]:
        late, started = self.stats.late_tokens, time.perf_counter()
        ended: list[Completion] = self._engine.step()
        self.step_seconds += time.perf_counter() - started
        self.steps += 1
        self.late_steps += self.stats.late_tokens > late
        return ended


class Rows:
    """What a feeder is to the loop: all rows, at once."""

    deadline = None

    def __init__(self, rows: list[list[int]], sampling: Sampling) -> None:
        unit = OpenUnit(Unit("bench", 0, 0, len(rows)), pa.table({"n": list(range(len(rows)))}))
        self._rows = [ReadyRow(unit, n, Prompt(ids, "", sampling)) for n, ids in enumerate(rows)]
        self._rows.reverse()
        self.errors: Counter[str] = Counter()
        self.unit = unit

    def take(self, wait_seconds: float = 0.0) -> ReadyRow | None:
        return self._rows.pop() if self._rows else None

    @property
    def exhausted(self) -> bool:
        return not self._rows

    ending = exhausted

    def begin(self, row: ReadyRow) -> bool:
        return True


class Bench:
    """``order``: see ``main``."""

    def __init__(self, order: dict[str, Any]) -> None:
        self.order = order
        name, path = order["model"]
        self.model = ModelFolder(name, Path(path))
        self.board = Board(order["card"])
        self.tokenizer = Tokenizer(self.model.path)
        started = time.monotonic()
        made = job_from(job(name, {"max_tokens": 1}))
        self.engine = load_engine(made, order["arguments"], self.model)
        self.loaded = time.monotonic() - started

    def start(self) -> dict[str, Any]:
        """Loading, and the first answers, at which what is left to compile is compiled."""
        started = time.monotonic()
        self._run(prompts(4, seed=0), {"max_tokens": 8, "ignore_eos": True})
        first = time.monotonic() - started
        started = time.monotonic()
        self._run(prompts(4, seed=1), {"max_tokens": 8, "ignore_eos": True})
        facts = self.engine.facts
        return {
            "import_and_load_seconds": round(time.time() - self.order["began"], 2),
            "load_seconds": round(self.loaded, 2),
            "first_answers_seconds": round(first, 2),
            "next_answers_seconds": round(time.monotonic() - started, 3),
            "blocks": facts.num_blocks + 1,
            "facts": asdict(facts),
            "attention": _attention(self.engine),
        }

    def steps(self) -> dict[str, Any]:
        """What `rackmill calibrate` measures; a calibration that `simulate` reads."""
        probe = Probe(
            self.engine,  # type: ignore[arg-type]
            self.model.geometry,
            Sampling(),
            seconds=self.order["step_seconds"],
            first_id=1 << 40,
        )
        measured = probe.measure()
        fit = fit_steps(measured)
        return {
            "measured": [
                {
                    "what": one.name,
                    "ms": round(1000 * one.seconds / one.steps, 3),
                    "quiet": one.quiet,
                }
                for one in measured
            ],
            "median_error": round(fit.median_error, 4),
            "largest_error": round(fit.largest_error, 4),
            "calibration": fit.time.as_json(),
        }

    def loop(self) -> dict[str, Any]:
        """Our loop, answers of several lengths."""
        found = {}
        for tokens in ANSWERS:
            rows = prompts(self.order["rows"][str(tokens)], seed=tokens)
            found[str(tokens)] = self._run(rows, {"max_tokens": tokens, "ignore_eos": True})
            say(SO_FAR, found)
        return found

    def late(self) -> dict[str, Any]:
        """Answers that end at a stop string, which the core hears of a step late."""
        rows = prompts(2 * self.order["rows"]["8"], seed=7)
        return self._run(rows, {"max_tokens": 64, "stop": list(_STOPS)})

    def hold(self) -> dict[str, Any]:
        """Works until it is killed, or its core is."""
        for request in self._endless():
            self.engine.add(request)
        say("held", {"steps": self.engine.stats.steps})
        began = time.monotonic()
        try:
            while time.monotonic() - began < self.order["hold_seconds"]:
                self.engine.step()
        except RackmillError as e:
            return {"noticed": e.message[:300], "at": time.time()}
        return {"noticed": None}

    def _endless(self) -> list[Request]:
        longest = self.engine.facts.max_model_len - 64
        sampling = Sampling(max_tokens=max(64, longest), ignore_eos=True)
        return [Request((1 << 50) + n, ids[:32], sampling) for n, ids in enumerate(prompts(8, 9))]

    def _run(self, rows: list[list[int]], sampling: dict[str, Any]) -> dict[str, Any]:
        made = job_from(job(self.model.name, sampling))
        answers = Answers(made, self.tokenizer, max_model_len=self.engine.facts.max_model_len)
        watched, source = Watched(self.engine), Rows(rows, made.sampling)
        preempted, late = self.engine.stats.preemptions, self.engine.stats.late_tokens
        last: list[Progress] = []
        engine_loop = EngineLoop(
            watched,  # type: ignore[arg-type]
            LoopSettings(self.model.geometry, made.sampling.max_tokens),
            answers,
            source,  # type: ignore[arg-type]
            lambda unit: None,
            last.append,
        )
        started = time.perf_counter()
        with Watch(self.board) as watch:
            engine_loop.run()
        seconds = time.perf_counter() - started
        done, stats = engine_loop.progress, self.engine.stats
        found = {
            "rows": done.rows,
            "failed": done.failed,
            "tokens": done.completion_tokens,
            "seconds": round(seconds, 3),
            "tokens_per_second": round(done.completion_tokens / seconds, 1),
            "rows_per_second": round(done.rows / seconds, 2),
            "steps": watched.steps,
            "step_ms": round(1000 * seconds / max(watched.steps, 1), 3),
            "between_steps_share": round(1 - watched.step_seconds / seconds, 4),
            "card_idle_share": None if watch.busy is None else round(1 - watch.busy, 4),
            "late_tokens": stats.late_tokens - late,
            "late_steps": watched.late_steps,
            "preemptions": stats.preemptions - preempted,
        }
        self.engine.reset()  # its statistics, too
        return found


def _attention(engine: Any) -> str | None:
    """The attention backend's name, where vLLM's configuration says it."""
    config = getattr(getattr(engine, "_engine", None), "vllm_config", None)
    backend = getattr(getattr(config, "attention_config", None), "backend", None)
    return None if backend is None else str(getattr(backend, "name", backend))


def say(part: str, content: dict[str, Any]) -> None:
    print(f"\n{MARK}{json.dumps({'part': part, **content})}", flush=True)


def main() -> None:
    """The order: ``model`` (name, folder), ``arguments`` of the engine, ``card`` (the driver's
    number, or null), ``parts`` in their order, ``rows`` by answer length, ``step_seconds``,
    ``hold_seconds`` and ``began`` (when this process was asked for, a time of the epoch)."""
    guard_children()
    order = json.load(sys.stdin)
    parts: list[str] = order["parts"]
    try:
        bench = Bench(order)
    except RackmillError as e:
        for part in parts:
            say(part, {"error": e.message, "hints": list(e.hints), NO_ENGINE: True})
        return
    for part in parts:
        started = time.monotonic()
        say("begun", {"of": part})
        try:
            found = getattr(bench, part)()
        except Exception as e:  # nobody knows what the engine is at: the others get a new one
            words = e.message if isinstance(e, RackmillError) else f"{type(e).__name__}: {e}"
            say(part, {"error": words})
            return
        say(part, {**found, "part_seconds": round(time.monotonic() - started, 2)})
    bench.engine.close()


if __name__ == "__main__":
    main()
