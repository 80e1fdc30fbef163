"""`rackmill calibrate`: an engine's steps are measured, and a file says what they cost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.budget.engine_arguments import PromptShape
from pipeline.budget.step_time import CalibratedTime, StepWork
from pipeline.engine.failure.child_guard import guard_children
from pipeline.engine.load import load_engine
from pipeline.engine.standalone.probe import Probe
from pipeline.errors import EngineFailed, RackmillError, UsageError
from pipeline.job.file.load import job_from
from pipeline.job.job import Job
from pipeline.model.folder import ModelFolder
from pipeline.model.store.resolve import check_reference, resolve
from pipeline.simulate.vllm_model.step_fit import StepFit, Timing, fit_steps

SECONDS = 60.0
_SHAPE, _ANSWER = PromptShape(mean=256, longest=2048, shared_prefix=0), 256
_NOTE, _RESULT = "rackmill-note: ", "rackmill-result: "
_LIKELY = ("engine", "sampling")  # what settings may change

Note = Callable[[str, float], None]


@dataclass(frozen=True)
class StepTimeCalibration:
    """What was measured of one engine, and the step times fitted to it."""

    model: str
    device: str
    engine: str
    arguments: dict[str, Any]
    measured: tuple[Timing, ...]
    fit: StepFit

    def as_json(self) -> dict[str, Any]:
        """A calibration file's content: what the simulator reads, and where it comes from."""
        return {
            **self.fit.time.as_json(),
            "model": self.model,
            "device": self.device,
            "engine": self.engine,
            "engine_arguments": self.arguments,
            "median_error": round(self.fit.median_error, 4),
            "largest_error": round(self.fit.largest_error, 4),
            "measured": [
                {
                    "what": one.name,
                    "steps": one.steps,
                    "step_seconds": round(one.seconds / one.steps, 6),
                    "error": round(error, 4),
                    "quiet": one.quiet,
                }
                for one, error in zip(self.measured, self.fit.errors, strict=True)
            ],
        }


def calibrate(
    reference: str,
    settings: Sequence[str] = (),
    *,
    seconds: float = SECONDS,
    note: Note = lambda what, done: None,
) -> StepTimeCalibration:
    """Load the engine as a run would and measure its steps for about ``seconds``.

    ``reference``: the model, as job files name it. ``settings``: ``engine.…`` and ``sampling.…``
    lines. ``note`` hears what happens and the share of the measuring that is done. The engine
    has a process of its own: preloaded libraries must be there from its start.
    Raises UsageError, EngineFailed.
    """
    job = _job(reference, settings)
    check_reference(reference)
    model = resolve(reference, lambda line: note(line, 0.0))
    given = job.engine.vllm_arguments()
    order: dict[str, Any] = {
        "job": job.model_dump(mode="json", exclude_none=True),
        "arguments": given,
        "model": [model.name, str(model.path)],
        "seconds": seconds,
    }
    if job.engine.computes:
        from pipeline.engine.standalone.engine import standalone

        own = standalone()
        order["arguments"] = arguments = own.arguments(model, _SHAPE, _ANSWER, given)
        eager = bool(arguments.get("enforce_eager"))
        variables = own.environment(eager=eager, core=job.engine.core)
        note("loading the engine", 0.0)
        result = _in_own_process(order, note, variables)
    else:
        note("loading the engine", 0.0)
        result = _measure(order, note)
    measured = tuple(
        Timing(**{**one, "works": tuple(StepWork(**work) for work in one["works"])})
        for one in result["measured"]
    )
    return StepTimeCalibration(
        f"{model.name} {model.quantization}".strip(),
        result["device"],
        result["engine"],
        order["arguments"],
        measured,
        fit_steps(measured),
    )


def read_calibration(path: Path) -> CalibratedTime:
    """The step times in a calibration file. Raises UsageError."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as e:
        raise UsageError(f"calibration: {path} cannot be read: {e}") from None
    except ValueError:
        content = None
    return CalibratedTime.from_json(content, str(path))


def _job(reference: str, settings: Sequence[str]) -> Job:
    """A job that stands for any with this engine and this sampling. Raises UsageError."""
    for line in settings:
        key = line.partition("=")[0].strip()
        if key.partition(".")[0] not in _LIKELY:
            raise UsageError(
                f"--set {line}: calibrate knows engine.… and sampling.… settings only",
                "for example: --set engine.block_size=64",
            )
    content = {
        "name": "calibrate",
        "model": reference,
        "input": {"path": "."},
        "prompt": {"column": "prompt"},
        "output": {"path": "."},
    }
    job = job_from(content, settings)
    if job.engine.served:
        raise UsageError(
            f"calibrate measures an engine's steps, and a server ({job.engine.kind}) shows none",
            "plans learn how fast it is from the runs on it: nothing has to be measured before",
        )
    return job


def _in_own_process(order: dict[str, Any], note: Note, variables: dict[str, str]) -> dict[str, Any]:
    last: list[str] = []
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "pipeline.engine.standalone.calibrate"],
        env=os.environ | variables,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(order))
            process.stdin.close()
            for line in process.stdout:
                if line.startswith(_NOTE):
                    note(*json.loads(line.removeprefix(_NOTE)))
                elif line.startswith(_RESULT):
                    result: dict[str, Any] = json.loads(line.removeprefix(_RESULT))
                    if "error" in result:
                        raise EngineFailed(result["error"], *result["hints"])
                    return result
                elif line.strip():
                    last = [line.strip()]
        finally:
            process.kill()  # its result is here, or nobody waits for it any more
    raise EngineFailed("the engine's process ended before everything was measured", *last)


def _measure(order: dict[str, Any], note: Note) -> dict[str, Any]:
    job = Job.model_validate(order["job"])
    name, path = order["model"]
    model = ModelFolder(name, Path(path))
    engine = load_engine(job, order["arguments"], model)
    try:
        facts = engine.facts
        probe = Probe(engine, model.geometry, job.sampling, seconds=order["seconds"])
        measured = probe.measure(note)
    finally:
        engine.close()
    return {
        "device": facts.device,
        "engine": f"{facts.kind} {facts.version}",
        "measured": [asdict(one) for one in measured],
    }


def _main() -> None:
    """The engine's process: an order on stdin; notes and a result, a line each, on stdout."""

    def say(prefix: str, content: Any) -> None:
        print(f"\n{prefix}{json.dumps(content)}", flush=True)

    guard_children()
    try:
        result = _measure(json.load(sys.stdin), lambda what, done: say(_NOTE, [what, done]))
    except RackmillError as e:
        result = {"error": e.message, "hints": e.hints}
    say(_RESULT, result)


if __name__ == "__main__":
    _main()
