"""The kinds of engines that a job may name: one line each, with what the layers need to know.

A kind's code is a separate module that is imported when it is needed: vLLM takes seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.registry import Registry


@dataclass(frozen=True)
class EngineKind:
    """``name``: as in ``engine.kind``. ``module``: its code, an ``engine.load.EngineModule``.

    ``computes``: it computes a model here, on cards or a CPU; a simulated engine or a server
    elsewhere needs neither. ``served``: it is a server, at ``engine.url``. ``answers_from``: keys
    of ``engine`` that decide its answers, besides the kind.
    """

    name: str
    module: str
    computes: bool = True
    served: bool = False
    answers_from: tuple[str, ...] = ()


_SERVERS = {
    "llama.cpp": "pipeline.engine.llama_cpp.kind",
    **dict.fromkeys(("ollama", "lmstudio", "mlx", "litert", "openai"), "pipeline.engine.http.kind"),
}

ENGINE_KINDS = Registry(
    EngineKind("vllm", "pipeline.engine.vllm.kind"),
    EngineKind("auto", "pipeline.engine.vllm.kind"),  # until driver.plan.auto_engine resolves it
    EngineKind(
        "simulated",
        "pipeline.engine.simulated.kind",
        computes=False,
        answers_from=("simulated.output_tokens",),
    ),
    *(
        EngineKind(name, module, computes=False, served=True, answers_from=("served_model",))
        for name, module in _SERVERS.items()
    ),
)
