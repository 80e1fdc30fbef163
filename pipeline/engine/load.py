"""From a job to its engine, whatever its kind: what the code of each kind offers."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Mapping
from typing import Any, Protocol, cast

from pipeline.engine.protocol import Engine
from pipeline.job.job import Job
from pipeline.job.registries.engine_kinds import ENGINE_KINDS
from pipeline.model.folder import ModelFolder

_log = logging.getLogger(__name__)


class EngineModule(Protocol):
    """What the module of a kind offers (``job.registries.engine_kinds`` names it)."""

    def load(
        self,
        job: Job,
        arguments: Mapping[str, Any],
        model: ModelFolder,
        say: Callable[[str], None],
    ) -> Engine:
        """An engine for ``job``. ``arguments``: those of the job's ``engine`` section, with what
        was chosen for the rest. Raises EngineFailed."""

    def check_answer_shape(self, job: Job) -> None:
        """Raise UsageError where such an engine cannot restrict answers to the job's schema or
        regular expression. Loads no engine."""


def load_engine(
    job: Job,
    arguments: Mapping[str, Any],
    model: ModelFolder,
    say: Callable[[str], None] = lambda line: None,
) -> Engine:
    """As ``EngineModule.load``, of the kind that the job names."""
    settings = ", ".join(f"{k}={v}" for k, v in sorted(arguments.items()))
    _log.info("loads a %s engine with %s: %s", job.engine.kind, model.name, settings)
    return _module(job).load(job, arguments, model, say)


def check_answer_shape(job: Job) -> None:
    """As ``EngineModule.check_answer_shape``, of each kind that the job names."""
    for engine in job.engines:
        one = job.with_engine(engine)
        _module(one).check_answer_shape(one)


def _module(job: Job) -> EngineModule:
    return cast(EngineModule, importlib.import_module(ENGINE_KINDS.get(job.engine.kind).module))
