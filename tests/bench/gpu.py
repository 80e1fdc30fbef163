"""Everything that only a card can tell, in one command of about 15 minutes.

    RACKMILL_VARIANT=cuda ./infra/setup            # once; what is there is not installed again
    .venv/bin/python tests/bench/gpu.py            # --model gemma-3-27b, --only steps,loop, ...

Measures, in the order of their value, each part within a limit of time (1 to 5 minutes, more
with more --minutes), all of them within --minutes:

    first      the first start, nothing compiled yet: load, compile; blocks and memory, foretold
               and real; the peak of the card's memory
    second     the second start
    loop       our loop, answers of 8, 32 and 128 tokens: rate, idle share of the card, tokens of
               requests that had ended
    steps      decode and prefill steps at several batches: a calibration that `simulate` reads
    late       answers that end at stop strings: what the engine's core still says of them
    generate   vLLM's `LLM.generate` with the same settings
    kill       kill -9 of the engine's core and of its worker, until the memory is free
    fp8        the KV cache in fp8 (Triton's attention) against the other type
    plain      `LLM.generate` with vLLM's own settings

The model is made up (a Gemma 3's shape, random int4 weights, kept in --folder), so nothing is
downloaded; `--model gemma-3-270m` is the real one. What cannot run says why, and the rest goes on.
After every part the results are written to --out, and at the end, or after Ctrl-C, a table is
printed; a .log beside it has what the engines said. Without a card, `--device cpu` rehearses all
of it with the 270M model.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # `pipeline`, from any folder

from gpu_parts.board import Board
from gpu_parts.checkpoint import REAL, checkpoint
from gpu_parts.device import Device, Wanted, find_device, wanted
from gpu_parts.session import Found, killed, measure
from gpu_parts.table import table
from peers.measure import machine, versions

from pipeline.errors import RackmillError, UsageError
from pipeline.model.store.index import store_root

RESULTS = Path(__file__).parent / "results"
MINUTES = 15.0
# Seconds that each part may take, more where --minutes are more than those above; it is left out
# where less than a quarter of that remains.
LIMITS = {
    "first": 300.0,
    "second": 180.0,
    "loop": 150.0,
    "steps": 120.0,
    "late": 60.0,
    "generate": 240.0,
    "kill": 240.0,
    "fp8": 240.0,
    "plain": 240.0,
}
_STEP_SECONDS = 45.0  # of measuring steps
_SHARED = ("second", "loop", "steps", "late")  # one engine serves them all
_FASTEST_ROWS = {"8": 768, "32": 512, "128": 256}
_NO_FLASHINFER_SAMPLER = {"VLLM_USE_FLASHINFER_SAMPLER": "0"}
_SLOWEST_ROWS = {"8": 24, "32": 12, "128": 6}


@dataclass
class Bench:
    """One run of the command."""

    device: Device
    wanted: Wanted
    parts: list[str]
    out: Path
    scratch: Path
    minutes: float
    scale: float = 1.0
    found: dict[str, Found] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.board = Board(self.device.index)
        self.log = self.out.with_suffix(".log")
        self.log.unlink(missing_ok=True)
        self.calibration.unlink(missing_ok=True)

    def run(self) -> None:
        for part in LIMITS:
            if part in self.found:
                continue
            if part not in self.parts:
                self.found[part] = {"left_out": True}
            elif self.left < self.most(part) / 4:
                self.found[part] = {"error": f"only {max(self.left, 0):.0f} s were left"}
            else:
                self._say(f"{part} …")
                for name, one in self._found_by(part).items():
                    self.found[name] = one
                    self._say(f"{name}: {one.get('error') or 'done'}")
            self.save()

    @property
    def left(self) -> float:
        return self.began + 60 * self.minutes - time.monotonic()

    def most(self, part: str) -> float:
        """Seconds that it may take where there is time for it."""
        return LIMITS[part] * max(1.0, self.minutes / MINUTES)

    def limit(self, part: str) -> float:
        return min(self.most(part), max(self.left, 1.0))

    def _found_by(self, part: str) -> dict[str, Found]:
        """Of ``part`` and of those that were measured along with it; whatever is wrong with it
        does not stop the others."""
        try:
            before = self.board.state()
            found = self._measure(part)
            after = self.board.state()
        except Exception as e:
            return {part: {"error": f"{type(e).__name__}: {e}"}}
        cards = {"card_before": before, "card_after": after}
        return {name: one | cards for name, one in found.items()}

    def _measure(self, part: str) -> dict[str, Found]:
        order = self._order()
        same = self.wanted.environment
        if part == "first":
            same |= {  # the second start's, too
                "VLLM_CACHE_ROOT": str(self.scratch),
                "TRITON_CACHE_DIR": str(self.scratch / "triton"),
            }
            found = self._engine({**order, "parts": ["start"]}, ["first"])
            foretold: Found = {"predicted_blocks": self.wanted.blocks}
            if self.board.is_card:
                foretold["predicted_bytes"] = self.wanted.bytes_in_all
            return {"first": found["start"] | foretold}
        if part in _SHARED:
            names = [p for p in _SHARED if p in self.parts and p not in self.found]
            said = ["start" if name == "second" else name for name in names]
            found = self._engine({**order, "parts": said}, names)
            return {name: found[one] for name, one in zip(names, said, strict=True) if one in found}
        if part == "kill":
            victims = {}
            for victim in ("core", "worker"):
                limit = self.limit(part) / 2
                victims[victim] = killed(order, same, limit, self.board, self.log, victim)
            return {part: victims | _error_of(victims)}
        if part == "fp8":
            if self.wanted.other_kv is None:
                return {part: {"error": self.wanted.why_no_other_kv}}
            changed = {**order, "arguments": self.wanted.other_kv, "parts": ["start", "loop"]}
            found = self._engine(changed, [part, part])
            return {part: found["start"] | {"loop": found.get("loop", {})} | _error_of(found)}
        if part == "generate":
            return self._generate(part, self.wanted.arguments, same)
        return self._as_it_comes(part)

    def _as_it_comes(self, part: str) -> dict[str, Found]:
        arguments, environment = self.wanted.as_it_comes, self.wanted.bare_environment
        found = self._generate(part, arguments, environment)
        why = found[part].get("error")
        if why is None or self.left < self.most(part) / 4:
            return found
        # FlashInfer's sampler, which is vLLM's default, compiles itself with CUDA's toolkit
        self._say(f"{part}: {why}; once more without FlashInfer's sampler …")
        again = self._generate(part, arguments, environment | _NO_FLASHINFER_SAMPLER)
        return {part: again[part] | {"without_flashinfer_sampler": True, "at_first": why}}

    def _generate(
        self, part: str, arguments: dict[str, Any], environment: dict[str, str]
    ) -> dict[str, Found]:
        asked = {**self._order(), "arguments": arguments, "parts": [part]}
        limits = [self.limit(part)]
        return measure("generate_child.py", asked, environment, limits, self.board, self.log)

    def _engine(self, order: dict[str, Any], names: list[str]) -> dict[str, Found]:
        limits = [self.limit(name) for name in names]
        environment = self.wanted.environment
        return measure("engine_child.py", order, environment, limits, self.board, self.log)

    def _order(self) -> dict[str, Any]:
        model = self.wanted.model
        rows = _SLOWEST_ROWS if self.device.index is None else _FASTEST_ROWS
        return {
            "model": [model.name, str(model.path)],
            "arguments": self.wanted.arguments,
            "card": self.device.index,
            "rows": {tokens: max(2, round(n * self.scale)) for tokens, n in rows.items()},
            "step_seconds": _STEP_SECONDS * min(1.0, self.scale),
            "hold_seconds": 120.0,
        }

    def save(self) -> None:
        """All that is known up to now, at once."""
        content = {**self.facts, "parts": self.found}
        fresh = self.out.with_suffix(".new")
        fresh.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        fresh.replace(self.out)
        calibration = self.found.get("steps", {}).get("calibration")
        if calibration:
            self.calibration.write_text(json.dumps(calibration, indent=1) + "\n")

    @property
    def calibration(self) -> Path:
        """Step times, for `rackmill simulate --calibration`."""
        return self.out.with_suffix(".calibration.json")

    def _say(self, line: str) -> None:
        print(f"  {max(self.left, 0):4.0f} s left  {line}", file=sys.stderr, flush=True)


def _error_of(found: dict[str, Found]) -> Found:
    errors = [one["error"] for one in found.values() if "error" in one]
    return {"error": errors[0]} if errors else {}


def _chosen(only: str | None, skip: str | None) -> list[str]:
    for name in [*(only or "").split(","), *(skip or "").split(",")]:
        if name and name not in LIMITS:
            raise UsageError(f"no such part: {name!r}", f"parts: {', '.join(LIMITS)}")
    asked = only.split(",") if only else list(LIMITS)
    return [part for part in LIMITS if part in asked and part not in (skip or "").split(",")]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=["auto", "cuda", "cpu"], default="auto")
    parser.add_argument("--card", type=int, help="the driver's number of the card")
    parser.add_argument("--model", help="default: the largest up to 12B that fits")
    parser.add_argument("--only", metavar="PART,…")
    parser.add_argument("--skip", metavar="PART,…")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="in all")
    parser.add_argument("--scale", type=float, default=1.0, help="of the numbers of rows")
    parser.add_argument("--set", action="append", metavar="engine.KEY=VALUE", default=[])
    parser.add_argument("--out", type=Path, help="default: results/gpu-CARD.json")
    parser.add_argument(
        "--folder",
        type=Path,
        default=store_root().parent / "gpu-bench",  # not /tmp, which may be memory
        help="made-up models, which are kept (12B: 8 GB), and compiled code (default: %(default)s)",
    )
    a = parser.parse_args()
    began = time.monotonic()
    try:
        parts = _chosen(a.only, a.skip)
        a.folder.mkdir(parents=True, exist_ok=True)
        device = find_device(a.device, a.card)
        name = a.model or (REAL if device.index is None else device.largest_model())
        started = time.monotonic()
        model = checkpoint(name, a.folder)
        made = time.monotonic() - started
        plan = wanted(device, model, a.set)
    except RackmillError as e:
        print("\n".join([f"error: {e.message}", *e.hints]), file=sys.stderr)
        return e.exit_code
    out: Path = a.out or RESULTS / f"gpu-{device.card.name}.json"
    scratch = Path(tempfile.mkdtemp(prefix="compiled-", dir=a.folder))
    bench = Bench(device, plan, parts, out, scratch, a.minutes, a.scale, began=began)
    bench.facts = {
        "command": " ".join(["python", "tests/bench/gpu.py", *sys.argv[1:]]),
        "day": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "versions": versions(),
        "device": device.as_json(),
        "model": {"name": name, "made_up": name != REAL, "made_in_seconds": round(made, 1)},
        "engine_arguments": plan.arguments,
        "predicted": plan.predicted,
    }
    try:
        bench.run()
    except KeyboardInterrupt:
        print("  stopped: what was found until then", file=sys.stderr)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print(table({**bench.facts, "order": list(LIMITS)}, bench.found))
    print(f"→ {out}")
    if bench.calibration.exists():
        print(f"→ {bench.calibration}    rackmill simulate --calibration reads it")
    return 0


if __name__ == "__main__":
    sys.exit(main())
