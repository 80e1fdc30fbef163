"""What identifies a job over several runs: everything that decides its output rows, only that."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pipeline.job.job import Job

# Operational keys: they may change between runs of one job. `engine.kind` and the simulated
# engine's answers are not among them: a rehearsal must never continue as a real run.
_OPERATIONAL = {
    "name",
    "model",
    "input",
    "output",
    "engine",
    "duplicates",
    "resources",
    "faults",
    "schedule",
    "trust",
}


def fingerprint_parts(job: Job, *, model_hash: str, input_hash: str) -> dict[str, Any]:
    """The parts of a job's fingerprint by name, so a message can name what differs.

    ``model_hash`` and ``input_hash`` identify the weights and the rows.
    """
    parts: dict[str, Any] = job.model_dump(mode="json", exclude=_OPERATIONAL, exclude_none=True)
    if job.label and job.label.json_schema:
        # as text: the order of a schema's properties is the order of the columns and in the answer
        parts["label"]["json_schema"] = json.dumps(job.label.json_schema)
        if job.label.answer_schema != job.label.json_schema:
            # before references were followed, its columns had other types
            parts["label"]["answer_schema"] = json.dumps(job.label.answer_schema)
    if job.questions:  # in the order of the columns; right answers do not change the output
        parts["questions"] = [
            [name, one.model_dump(mode="json", exclude={"gold"}, exclude_none=True)]
            for name, one in job.questions.items()
        ]
    if job.sampling.n == 1:
        del parts["sampling"]["n"]
    if job.output.n != "lists":
        parts["output.n"] = job.output.n
    if job.special_tokens == "text":  # outputs from before this choice existed have no entry
        del parts["special_tokens"]
    parts = without_gold(parts)
    parts["model"] = model_hash
    parts["input"] = input_hash
    parts["output.keep"] = list(job.output.keep) if job.output.keep is not None else None
    parts |= _of_engine(job)
    return parts


def _of_engine(job: Job) -> dict[str, Any]:
    """With mixed engines their kinds do not matter: every row says which engine answered it."""
    if job.resources.mixed:
        simulated = sorted(e.kind for e in job.engines if not (e.computes or e.served))
        return {"engine.kind": " ".join(["mixed", *simulated])}
    deciding = {f"engine.{key}": value for key, value in job.engine.deciding.items()}
    return {"engine.kind": job.engine.kind} | deciding


def without_gold(parts: Mapping[str, Any]) -> dict[str, Any]:
    """``parts`` without the location of right answers: no answer to choose among depends on it.
    (Whether other answers are right is counted only once.)"""
    changed: dict[str, Any] = dict(parts)
    label = parts.get("label")
    if isinstance(label, dict) and label.get("choices"):
        changed["label"] = {key: value for key, value in label.items() if key != "gold"}
    return changed


def digest(parts: object) -> str:
    """64 hex digits over the canonical JSON of ``parts``."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
