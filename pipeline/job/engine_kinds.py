"""The kinds of engines that a job may ask for: one line each, and what the layers ask of a kind.

A kind's code is a module of its own that is imported when it is needed: vLLM takes seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.errors import did_you_mean, one_of


@dataclass(frozen=True)
class EngineKind:
    """``name``: as ``engine.kind`` has it. ``module``: its code, an ``engine.load.EngineModule``.

    ``computes``: it computes a model, on cards or a processor; one that only pretends needs
    neither. ``answers_from``: the keys of ``engine`` beside the kind that decide its answers.
    """

    name: str
    module: str
    computes: bool = True
    answers_from: tuple[str, ...] = ()


_KINDS: dict[str, EngineKind] = {}


def register(kind: EngineKind) -> None:
    """Let jobs name ``kind``."""
    _KINDS[kind.name] = kind


def engine_kind(name: str) -> EngineKind:
    """The kind of that name. Raises ValueError, with those that there are."""
    if name in _KINDS:
        return _KINDS[name]
    near = did_you_mean(name, _KINDS)
    hint = f"; did you mean {near}?" if near else ""
    raise ValueError(f"give {one_of(_KINDS)}, not {name!r}{hint}")


register(EngineKind("vllm", "pipeline.engine.vllm.kind"))
register(
    EngineKind(
        "simulated",
        "pipeline.engine.simulated.kind",
        computes=False,
        answers_from=("simulated.output_tokens",),
    )
)
