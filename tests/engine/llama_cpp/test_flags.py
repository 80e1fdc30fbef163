"""How llama-server is started."""

from __future__ import annotations

from dataclasses import replace

from pipeline.engine.llama_cpp.flags import flags
from pipeline.model.catalogue import MODELS
from pipeline.model.geometry import Geometry

_GIB = 1 << 30


def _geometry(name: str) -> Geometry:
    return next(m.geometry for m in MODELS.values() if m.name.startswith(name))


def _value(arguments: list[str], name: str) -> str:
    return arguments[arguments.index(name) + 1]


def test_slots_share_one_cache_in_which_each_has_room_for_the_longest_request() -> None:
    found = flags(_geometry("gemma-3-270m"), context=2048, slots=3, cores=2, memory=8 * _GIB)

    assert _value(found, "--parallel") == "3"
    assert _value(found, "--ctx-size") == str(3 * 2048)
    assert {"--kv-unified", "--swa-full"} <= set(found)


def test_on_a_processor_there_are_as_many_slots_as_the_memory_has_room_for() -> None:
    geometry = _geometry("gemma-3-27b")
    per_request = geometry.layers * geometry.kv_bytes_per_token_per_layer() * 4096
    roomy = flags(geometry, context=None, slots=None, cores=8, memory=100 * per_request)
    narrow = flags(geometry, context=None, slots=None, cores=8, memory=5 * per_request)
    none = flags(geometry, context=None, slots=None, cores=8, memory=_GIB)

    assert [_value(one, "--parallel") for one in (roomy, narrow, none)] == ["4", "2", "1"]


def test_a_context_is_never_longer_than_the_models() -> None:
    short = replace(_geometry("gemma-3-270m"), context=1024)

    found = flags(short, context=1 << 20, slots=1, cores=2, memory=_GIB)
    assert _value(found, "--ctx-size") == "1024"


def test_each_of_several_engines_has_a_card_and_all_layers_on_it() -> None:
    found = flags(
        _geometry("gemma-3-270m"),
        context=None,
        slots=None,
        cores=2,
        memory=_GIB,
        device="Vulkan1",
        on_card=True,
    )

    assert _value(found, "--device") == "Vulkan1"
    assert _value(found, "--parallel") == "16"
    assert "--n-gpu-layers" in found
