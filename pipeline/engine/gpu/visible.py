"""Which of a machine's cards a process may use: ``CUDA_VISIBLE_DEVICES`` as CUDA reads it. Pure.

The rules, after CUDA's programming guide, as PyTorch spells them out (``torch/cuda/__init__.py``):
numbers, or beginnings of UUIDs, never both; the first one that is none ends the list; one that is
named twice leaves no card at all. Numbers are in the order of the PCI bus, as nvidia-smi counts:
engines get ``CUDA_DEVICE_ORDER=PCI_BUS_ID``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from pipeline.errors import UsageError

VARIABLE = "CUDA_VISIBLE_DEVICES"


def visible_cards(value: str | None, uuids: Sequence[str]) -> list[int]:
    """Numbers of the cards that ``value`` of the variable shows, in its order. ``uuids``: of all
    cards. None: all are shown. Raises UsageError for parts of a card (MIG)."""
    if value is None:
        return list(range(len(uuids)))
    if value.lstrip().startswith("MIG-"):
        raise UsageError(
            f"{VARIABLE}: {value} names a part of a card (MIG), on which engines do not run",
            f"name whole cards: {VARIABLE}=0,1 or by their UUID (nvidia-smi -L)",
        )
    by_uuid = value.startswith("GPU-")
    names: list[str | int] = []
    for text in value.split(","):
        name = _number(text) if not by_uuid else text if text.startswith("GPU-") else None
        if name is None:
            break
        names.append(name)
    cards: list[int] = []
    for name in names:
        card = name if isinstance(name, int) else _begins(name, uuids)
        if card is None or card >= len(uuids):  # one that this machine does not have
            break
        cards.append(card)
    # CUDA looks for names that stand twice before it asks which of them exist
    return cards if len(set(names)) == len(names) and len(set(cards)) == len(cards) else []


def _begins(beginning: str, uuids: Sequence[str]) -> int | None:
    found = [index for index, uuid in enumerate(uuids) if uuid.startswith(beginning)]
    return found[0] if len(found) == 1 else None


def _number(text: str) -> int | None:
    """What C's strtoul makes of it: "1gpu" is 1; None for a negative one and for none."""
    digits = re.match(r"\+?(\d+)", text.strip(), flags=re.ASCII)
    return int(digits[1]) if digits else None
