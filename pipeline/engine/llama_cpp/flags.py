"""How llama-server is started: slots and context by the memory that is there. Pure."""

from __future__ import annotations

from pipeline.model.geometry import Geometry

_CONTEXT = 4096  # tokens of a request, where the job does not say
_SLOTS = 4  # on a processor more do not help; measured with 270M on two cores
_SLOTS_ON_CARD = 16
_SHARE = 0.4  # of the free memory, for keys and values: weights and work need the rest
_ALL_LAYERS = 999


def flags(
    geometry: Geometry,
    *,
    context: int | None,
    slots: int | None,
    cores: int,
    memory: int,
    device: str | None = None,
    on_card: bool = False,
) -> list[str]:
    """Arguments of ``llama-server`` beside the model, port and key.

    ``context``: tokens of a request at most; ``slots``: requests at once; ``memory``: free bytes
    (on a card llama.cpp fits itself into what the card has). One cache is shared by all slots
    (``--kv-unified``), each of which may then hold a request of the whole context. Sliding layers
    keep all of it (``--swa-full``): else llama.cpp reuses no prefix, at half the rate.
    """
    longest = min(context or _CONTEXT, geometry.context)
    at_once = slots or (_SLOTS_ON_CARD if on_card else _SLOTS)
    if not on_card and slots is None:
        per_token = geometry.layers * geometry.kv_bytes_per_token_per_layer()
        at_once = max(1, min(at_once, int(memory * _SHARE) // (per_token * longest)))
    chosen = ["--parallel", str(at_once), "--ctx-size", str(at_once * longest)]
    chosen += ["--kv-unified", "--kv-unified-per-slot", str(longest), "--swa-full"]
    chosen += ["--cache-ram", "0", "--no-webui", "--threads", str(cores)]
    if on_card:
        chosen += ["--n-gpu-layers", str(_ALL_LAYERS)]
    if device is not None:
        chosen += ["--device", device]
    return chosen
