"""What makes two runs the same job: everything that decides the output rows, nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pipeline.job.job import Job

# Operational keys: they may change between runs of one job. `engine.kind` and the simulated
# engine's answers are not among them: a rehearsal must never be continued as a real run.
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
    """The parts of a job's fingerprint by name, so that a difference can be named.

    ``model_hash`` and ``input_hash`` identify the weights and the rows.
    """
    parts: dict[str, Any] = job.model_dump(mode="json", exclude=_OPERATIONAL, exclude_none=True)
    if job.label and job.label.json_schema:
        # as text: the order of a schema's properties is that of the columns and of the answer
        parts["label"]["json_schema"] = json.dumps(job.label.json_schema)
        if job.label.answer_schema != job.label.json_schema:
            # its columns had other types before references were followed
            parts["label"]["answer_schema"] = json.dumps(job.label.answer_schema)
    if job.questions:  # in their order, which is that of the columns; what is right is no answer
        parts["questions"] = [
            [name, one.model_dump(mode="json", exclude={"gold"}, exclude_none=True)]
            for name, one in job.questions.items()
        ]
    if job.sampling.n == 1:
        del parts["sampling"]["n"]
    if job.output.n != "lists":
        parts["output.n"] = job.output.n
    if job.special_tokens == "text":  # as outputs say it that were begun before there was a choice
        del parts["special_tokens"]
    parts = without_gold(parts)
    parts["model"] = model_hash
    parts["input"] = input_hash
    parts["output.keep"] = list(job.output.keep) if job.output.keep is not None else None
    parts |= _of_engine(job)
    return parts


def _of_engine(job: Job) -> dict[str, Any]:
    """Of unlike engines it is no matter which these are: every row says whose it is."""
    if job.resources.mixed:
        simulated = sorted(e.kind for e in job.engines if not (e.computes or e.served))
        return {"engine.kind": " ".join(["mixed", *simulated])}
    deciding = {f"engine.{key}": value for key, value in job.engine.deciding.items()}
    return {"engine.kind": job.engine.kind} | deciding


def without_gold(parts: Mapping[str, Any]) -> dict[str, Any]:
    """``parts`` without what says where right answers are: none of the answers to choose among
    depends on it. (Whether other answers are right is counted once and for all.)"""
    changed: dict[str, Any] = dict(parts)
    label = parts.get("label")
    if isinstance(label, dict) and label.get("choices"):
        changed["label"] = {key: value for key, value in label.items() if key != "gold"}
    return changed


def digest(parts: object) -> str:
    """64 hex digits over the canonical JSON of ``parts``."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
