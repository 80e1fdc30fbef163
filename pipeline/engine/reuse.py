"""Engines that stay loaded after a job, for the next one with the same model. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.engine.protocol import SEAT
from pipeline.job.job import Job

# arguments that may be larger than the next job asks for
_LIMITS = ("max_model_len", "max_num_seqs", "max_num_batched_tokens", "kv_cache_memory_bytes")


@dataclass(frozen=True)
class EngineSetup:
    """What an engine was loaded with, or will be. ``identity``: of all that must be equal and is no
    engine argument; ``given``: the arguments that the job itself requires."""

    identity: str
    arguments: Mapping[str, Any]
    given: frozenset[str] = frozenset()

    def serves(self, wanted: EngineSetup) -> bool:
        """Whether an engine with this setup can replace one with the ``wanted`` setup."""
        names = self.arguments.keys() | wanted.arguments.keys()
        return self.identity == wanted.identity and all(
            self._is_enough(name, wanted) for name in names
        )

    def _is_enough(self, name: str, wanted: EngineSetup) -> bool:
        has, asked = self.arguments.get(name), wanted.arguments.get(name)
        if has == asked:
            return True
        if name not in _LIMITS or name in wanted.given:
            return False
        return isinstance(has, int) and isinstance(asked, int) and 0 < asked < has


def engine_setup(
    job: Job, model_hash: str, environment: Mapping[str, str], arguments: Mapping[str, Any]
) -> EngineSetup:
    """For an engine of ``job`` in a process with ``environment``."""
    content = {
        "kind": job.engine.kind,
        "settings": job.engine.own_settings(),
        "model": model_hash,
        "environment": {k: v for k, v in environment.items() if k != SEAT},
        "scores": job.score is not None,
        # vLLM reads from its configuration which backend restricts answers
        "schema": job.label.json_schema if job.label else None,
    }
    identity = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return EngineSetup(identity, dict(arguments), frozenset(job.engine.vllm_arguments()))
