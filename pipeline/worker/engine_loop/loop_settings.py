"""How one engine is kept full, from its job and from what the engine reports of itself."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pipeline.job.sampling import SAMPLING_COLUMN
from pipeline.model.geometry import Geometry
from pipeline.rows.workload import Lengths
from pipeline.worker.coordination.messages import WorkerSpec


@dataclass(frozen=True)
class LoopSettings:
    """How an engine is kept full.

    ``longest_answer``: tokens of the longest completion; ``known_lengths``: of completions, as far
    as they are known. ``admission``: the policy's name. ``answer_once``: equal rows are computed
    once. Seconds: how long a row may be in the engine (None: any time), and how long a step may
    take.
    """

    geometry: Geometry
    longest_answer: int
    admission: str = "packed"
    known_lengths: Lengths | None = None
    answer_once: bool = True
    row_timeout_seconds: float | None = None
    step_timeout_seconds: float = math.inf

    @classmethod
    def of(cls, spec: WorkerSpec, max_model_len: int) -> LoopSettings:
        """For a worker whose engine has a context of this many tokens."""
        job = spec.job
        longest = min(job.longest_answer, max_model_len)
        if job.generates and SAMPLING_COLUMN in spec.input_schema.names:
            longest = max_model_len  # rows may ask for anything that the context holds
        return cls(
            geometry=spec.model.geometry,
            longest_answer=longest,
            admission=job.engine.admission,
            known_lengths=spec.known_lengths,
            answer_once=job.duplicates.answer_once,
            row_timeout_seconds=job.faults.row_timeout_seconds,
            step_timeout_seconds=job.faults.step_timeout_seconds,
        )
