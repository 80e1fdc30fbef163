"""The cards rackmill knows: memory, bandwidth, arithmetic, power. Pure data and look-up.

Sources: NVIDIA's architecture whitepapers and data sheets. ``bf16_flops`` is the dense tensor
rate with fp32 accumulation: on GeForce half of the fp16 figure that boxes print (twice the fp32
shader rate), on workstation and data-centre cards all of it. Laptop cards: at the lower end of
the clocks that makers may set. Memory is what CUDA shows of it: about 98 % of what is printed on
a GeForce's box (24 GB: 23.56 GiB, 32 GB: 31.4 GiB, as vLLM logs print them), less with ECC.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.errors import UsageError

GIB = 1 << 30
_SEEN_BY_CUDA = 0.98
_AMPERE, _ADA = (8, 0), (8, 9)

_MOST_DIGITS = 5  # of a number of cards


@dataclass(frozen=True)
class Card:
    """One card. ``vram_bytes``: as CUDA shows them. ``bandwidth``: bytes/s of its memory.
    ``bf16_flops``: dense FLOP/s. ``watts``: board power. ``compute_capability``: NVIDIA's."""

    name: str
    title: str
    vram_gb: float  # as printed on the box
    vram_bytes: int
    bandwidth: float
    bf16_flops: float
    watts: float
    compute_capability: tuple[int, int]
    is_cpu: bool = False

    @property
    def has_bf16(self) -> bool:
        """Gemma 3 overflows in fp16, so this decides whether it runs at all."""
        return self.is_cpu or self.compute_capability >= _AMPERE

    @property
    def has_fp8_kv(self) -> bool:
        """Whether vLLM can keep the KV cache in fp8 (its Triton backend wants SM 8.9)."""
        return self.is_cpu or self.compute_capability >= _ADA

    @property
    def is_laptop(self) -> bool:
        return "Laptop" in self.title  # there is no second one beside it

    def __str__(self) -> str:
        size = f"{self.vram_gb:g} GB"
        return self.title if size in self.title else f"{self.title} ({size})"


def _card(
    name: str,
    title: str,
    gb: float,
    gb_per_second: float,
    teraflops: float,
    watts: float,
    capability: tuple[int, int],
    seen_gib: float | None = None,
) -> Card:
    seen = seen_gib if seen_gib is not None else gb * _SEEN_BY_CUDA
    return Card(
        name, title, gb, int(seen * GIB), gb_per_second * 1e9, teraflops * 1e12, watts, capability
    )


CARDS: Mapping[str, Card] = {
    card.name: card
    for card in (
        _card("rtx2080ti", "RTX 2080 Ti", 11, 616, 53.8, 250, (7, 5)),
        _card("t4", "T4", 16, 320, 65, 70, (7, 5), 14.6),
        _card("v100", "V100", 16, 900, 125, 300, (7, 0), 15.8),
        _card("rtx3060", "RTX 3060", 12, 360, 25.5, 170, (8, 6)),
        _card("rtx3060ti", "RTX 3060 Ti", 8, 448, 32.4, 200, (8, 6)),
        _card("rtx3070", "RTX 3070", 8, 448, 40.6, 220, (8, 6)),
        _card("rtx3080", "RTX 3080", 10, 760, 59.5, 320, (8, 6)),
        _card("rtx3080-12gb", "RTX 3080 12 GB", 12, 912, 61.3, 350, (8, 6)),
        _card("rtx3080ti", "RTX 3080 Ti", 12, 912, 68.2, 350, (8, 6)),
        _card("rtx3090", "RTX 3090", 24, 936, 71, 350, (8, 6), 23.56),
        _card("rtx3090ti", "RTX 3090 Ti", 24, 1008, 80, 450, (8, 6), 23.56),
        _card("rtx4060", "RTX 4060", 8, 272, 30.2, 115, (8, 9)),
        _card("rtx4060-laptop", "RTX 4060 Laptop", 8, 256, 23.2, 115, (8, 9)),
        _card("rtx4060ti", "RTX 4060 Ti", 8, 288, 44.1, 160, (8, 9)),
        _card("rtx4060ti-16gb", "RTX 4060 Ti 16 GB", 16, 288, 44.1, 165, (8, 9)),
        _card("rtx4070", "RTX 4070", 12, 504, 58.3, 200, (8, 9)),
        _card("rtx4070s", "RTX 4070 SUPER", 12, 504, 70.9, 220, (8, 9)),
        _card("rtx4070ti", "RTX 4070 Ti", 12, 504, 80.2, 285, (8, 9)),
        _card("rtx4070tis", "RTX 4070 Ti SUPER", 16, 672, 88.2, 285, (8, 9)),
        _card("rtx4080", "RTX 4080", 16, 717, 97.5, 320, (8, 9)),
        _card("rtx4080s", "RTX 4080 SUPER", 16, 736, 104.4, 320, (8, 9)),
        _card("rtx4090", "RTX 4090", 24, 1008, 165.2, 450, (8, 9), 23.52),
        _card("rtx4090-laptop", "RTX 4090 Laptop", 16, 576, 66, 150, (8, 9)),
        _card("rtx5060ti-16gb", "RTX 5060 Ti 16 GB", 16, 448, 47.4, 180, (12, 0)),
        _card("rtx5070", "RTX 5070", 12, 672, 61.7, 250, (12, 0)),
        _card("rtx5070ti", "RTX 5070 Ti", 16, 896, 87.9, 300, (12, 0)),
        _card("rtx5080", "RTX 5080", 16, 960, 112.6, 360, (12, 0)),
        _card("rtx5090", "RTX 5090", 32, 1792, 209.5, 575, (12, 0), 31.37),
        _card("a4000", "RTX A4000", 16, 448, 76.7, 140, (8, 6), 15.7),
        _card("a5000", "RTX A5000", 24, 768, 111.1, 230, (8, 6), 23.5),
        _card("a6000", "RTX A6000", 48, 768, 154.8, 300, (8, 6), 47.4),
        _card("a10", "A10", 24, 600, 125, 150, (8, 6), 22.0),
        _card("rtx6000-ada", "RTX 6000 Ada", 48, 960, 364.2, 300, (8, 9), 47.4),
        _card("l4", "L4", 24, 300, 121, 72, (8, 9), 22.0),
        _card("l40s", "L40S", 48, 864, 362, 350, (8, 9), 44.4),
        _card("a100-40gb", "A100 40 GB", 40, 1555, 312, 400, (8, 0), 39.4),
        _card("a100-80gb", "A100 80 GB", 80, 2039, 312, 400, (8, 0), 79.2),
        _card("h100", "H100", 80, 3350, 989.4, 700, (9, 0), 79.2),
        _card("h200", "H200", 141, 4800, 989.4, 700, (9, 0), 139.8),
        _card("rtxpro6000", "RTX PRO 6000", 96, 1792, 503.8, 600, (12, 0), 94.9),
    )
}

# What a core does a second, and what two channels of memory give: assumptions for a CPU that was
# never measured (AVX-512 with bf16; DDR4-3200).
_CORE_FLOPS = 150e9
_MEMORY_BANDWIDTH = 40e9
_CORE_WATTS = 15.0


def cpu_card(ram_bytes: int, cores: int) -> Card:
    """This machine's processor as a card: ``ram_bytes`` of memory, ``cores`` of it in use."""
    return Card(
        name="cpu",
        title="CPU",
        vram_gb=round(ram_bytes / GIB),
        vram_bytes=ram_bytes,
        bandwidth=_MEMORY_BANDWIDTH,
        bf16_flops=_CORE_FLOPS * max(cores, 1),
        watts=_CORE_WATTS * max(cores, 1),
        compute_capability=(0, 0),
        is_cpu=True,
    )


def find_card(name: str) -> Card:
    """The card of that name; case, spaces and hyphens do not count. Raises UsageError."""
    plain = _plain(name)
    for card in CARDS.values():
        if plain in (_plain(card.name), _plain(card.title)):
            return card
    by_plain = {_plain(known): known for known in CARDS}
    near = [by_plain[p] for p in difflib.get_close_matches(plain, by_plain, n=3, cutoff=0.6)]
    raise UsageError(
        f"gpu: unknown card {name!r}",
        *([f"did you mean {' or '.join(near)}?"] if near else []),
        f"known: {', '.join(CARDS)}; for any other: rackmill fit --vram GIB",
    )


def generic_card(
    vram_gib: float, title: str | None = None, capability: tuple[int, int] = (8, 6)
) -> Card:
    """A card of which the memory alone is known: speed after the known card nearest in memory."""
    known = [c for c in CARDS.values() if (c.compute_capability >= _ADA) == (capability >= _ADA)]
    near = min((c for c in known if c.has_bf16), key=lambda c: abs(c.vram_gb - vram_gib))
    return Card(
        name=f"{vram_gib:g}gb",
        title=title or f"a {vram_gib:g} GB card",
        vram_gb=vram_gib,
        vram_bytes=int(vram_gib * _SEEN_BY_CUDA * GIB),
        bandwidth=near.bandwidth,
        bf16_flops=near.bf16_flops,
        watts=near.watts,
        compute_capability=capability,
    )


def card_from_device(
    device_name: str, total_bytes: int, capability: tuple[int, int] | None = None
) -> Card:
    """The card that the driver calls ``device_name``, with ``total_bytes`` of memory.

    Unknown names get a generic card of that memory (``capability``: as the driver says it).
    """
    plain = _plain(
        re.sub(r"NVIDIA|GeForce|Tesla|Blackwell|Generation|GPU", "", device_name, flags=re.I)
    )
    plain = re.sub(r"super$", "s", plain)
    gib = total_bytes / GIB
    fitting = [
        card
        for card in CARDS.values()
        if abs(card.vram_gb - gib) <= 0.12 * card.vram_gb
        and any(
            re.fullmatch(rf"{re.escape(known)}(sxm\d?|pcie|hbm\d*e?|nvl|\d+gb|workstationedition)*",
                         plain)
            for known in {_base(card.name), _plain(card.title)}
        )
    ]  # fmt: skip
    if fitting:
        return min(fitting, key=lambda c: abs(c.vram_gb - gib))
    return generic_card(round(gib), device_name, capability or (8, 6))


def parse_gpus(text: str) -> list[tuple[int, Card]]:
    """ "4x rtx3090,2x rtx4090" -> [(4, Card), (2, Card)]. Raises UsageError."""
    found = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(?:(\d+)\s*[x×*]\s*)?([^\s].*?)\s*", part, flags=re.I)
        if match is None or (match[1] is not None and int(match[1]) < 1):
            raise UsageError(
                f"gpus: {text!r} is no list of cards", 'write it like "4x rtx3090,2x rtx4090"'
            )
        if len(match[1] or "") > _MOST_DIGITS:
            raise UsageError(f"gpus: {match[1]} cards are too many", "give up to 99 999")
        found.append((int(match[1] or 1), find_card(match[2])))
    return found


def in_slot(name: str, cards: int) -> str:
    """What a slot of so many cards is called: "rtx3090", "2x rtx3060"."""
    return f"{cards}x {name}" if cards > 1 else name


def times(number: int, name: str, cards: int = 1) -> str:
    """So many slots: "2× RTX 3090", "2× (2x RTX 3060)"."""
    return f"{number}× ({in_slot(name, cards)})" if cards > 1 else f"{number}× {name}"


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _base(name: str) -> str:
    """A card's name without its memory: drivers do not say it."""
    return _plain(re.sub(r"-\d+gb$", "", name))
