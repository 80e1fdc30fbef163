"""In which type an engine of this process computes int4 layers, if no plan has decided it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.budget.cpu_compute import choose_compute
from pipeline.budget.engine_arguments import setup_of
from pipeline.budget.weights import weight_bytes
from pipeline.engine.machine.host import this_processor
from pipeline.model.folder import ModelFolder

UNPACKED = "pipeline.engine.vllm.unpacked.Unpacked"  # for vLLM's worker_extension_cls


def for_vllm(model: ModelFolder, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """``arguments`` of an engine as vLLM takes them: ``cpu_compute`` becomes an extension of its
    worker. Where no one chose, the best for this processor and the memory that is free."""
    from vllm.platforms import current_platform

    given = dict(arguments)
    wanted = given.pop("cpu_compute", None)
    if not current_platform.is_cpu():
        return given
    card = this_processor()
    weights = weight_bytes(model.geometry, model.precision, vision=model.vision_parameters)
    setup = setup_of(given, card)
    chosen = choose_compute(model.geometry, weights, card, setup, {"cpu_compute": wanted})
    if chosen is not None and chosen[0] == "bf16":
        given["worker_extension_cls"] = UNPACKED
    return given


def with_compute(facts: Mapping[str, str], arguments: Mapping[str, Any]) -> Mapping[str, str]:
    """``facts`` of an engine with ``arguments``: it computes in the type in which its model is
    stored, or, on a CPU, unpacked."""
    if arguments.get("cpu_compute") != "bf16":
        return facts
    return {**facts, "compute": "int4 codes, computed in bf16"}
