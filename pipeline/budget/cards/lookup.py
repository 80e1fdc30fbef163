"""The cards rackmill knows: memory, bandwidth, arithmetic, power. Pure look-up; the figures, and
where they come from, are in ``card_table``.

Memory is what CUDA shows of it: about 98 % of what is printed on a GeForce's box (24 GB: 23.56 GiB,
32 GB: 31.4 GiB, as vLLM logs print them), less with ECC. Cards that are not in the table are
reckoned from what their driver tells (``DriverReading``).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from pipeline.budget.cards.table import GEFORCE, PRINTED, SEEN_GIB, TENSOR_OPERATIONS, Line
from pipeline.errors import UsageError

GIB = 1 << 30
_SEEN_BY_CUDA = 0.98
_AMPERE, _ADA = (8, 0), (8, 9)
_SAME_MEMORY = 0.12  # of what the box says: so much less may the driver show of it
_SAME_SPEED = 0.05
_BOOST_OF_HIGHEST = 0.8  # boost clock over the highest that NVML tells: 3090, 4090 0.81, 5090 0.78
_GEFORCE_OPERATIONS = 4  # of bf16 with fp32 accumulation, by a CUDA core's share, each clock
_DATA_CENTRE_OPERATIONS = {(8, 0): 32, (9, 0): 32, (10, 0): 64, (10, 3): 64}  # A100, H100, B200
_NOT_THE_LINE = (
    r"nvidia|geforce|tesla|blackwell|generation|laptop gpu|laptop|mobile|with max-?q design|max-?q|"
    r"\bgpu\b|workstation edition|server edition|sxm\d?|pcie|\bhbm\d*e?\b|\bnvl\b|"
    r"\b\d+ ?gb\b|\bv2\b"
)

_MOST_DIGITS = 5  # of a number of cards
_CARDS_OF_A_KIND = re.compile(
    r"\s*(?:(\d+)\s*[x×*]\s*)?([^\s:](?:[^:]*[^\s:])?)\s*(?::\s*(\d+)\s*)?", re.IGNORECASE
)


@dataclass(frozen=True)
class Card:
    """One card. ``vram_bytes``: as CUDA shows them. ``bandwidth``: bytes/s of its memory.
    ``bf16_flops``: dense FLOP/s. ``watts``: board power. ``compute_capability``: NVIDIA's.
    ``guessed``: where the speed of a card comes from that is not in the table."""

    name: str
    title: str
    vram_gb: float  # as printed on the box
    vram_bytes: int
    bandwidth: float
    bf16_flops: float
    watts: float
    compute_capability: tuple[int, int]
    is_cpu: bool = False
    guessed: str = ""
    native_bf16: bool = False  # of a processor: it has instructions that multiply bf16

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


@dataclass(frozen=True)
class DriverReading:
    """What the driver tells of a card, 0 where it does not: the highest ``memory_clock`` (MHz, half
    of the data rate, for GDDR as for HBM), ``bus_width`` (bits), CUDA ``cores`` and the highest
    ``sm_clock`` (MHz)."""

    memory_clock: int = 0
    bus_width: int = 0
    cores: int = 0
    sm_clock: int = 0

    @property
    def bandwidth(self) -> float:
        """Bytes/s; 0 where the driver tells too little."""
        return self.memory_clock * 1e6 * 2 * self.bus_width / 8

    def bf16_flops(self, capability: tuple[int, int]) -> float:
        """Dense FLOP/s: cores × clock × what a core's tensor unit does, as on GeForce where the
        capability is not a data-centre chip's. 0 where the driver tells too little."""
        operations = _DATA_CENTRE_OPERATIONS.get(capability, _GEFORCE_OPERATIONS)
        return self.cores * self.sm_clock * 1e6 * _BOOST_OF_HIGHEST * operations


def _geforce(line: Line, capability: tuple[int, int]) -> Card:
    name, title, gb, rate, width, cores, clock, watts = line
    return Card(
        name,
        title,
        gb,
        int(SEEN_GIB.get(name, gb * _SEEN_BY_CUDA) * GIB),
        rate * 1e9 * width / 8,
        cores * clock * 1e9 * TENSOR_OPERATIONS[capability],
        watts,
        capability,
    )


CARDS: Mapping[str, Card] = {
    card.name: card
    for card in (
        *(_geforce(line, generation) for generation, lines in GEFORCE.items() for line in lines),
        *(
            Card(name, title, gb, int((seen or gb * _SEEN_BY_CUDA) * GIB), rate * 1e9,
                 teraflops * 1e12, watts, capability)
            for name, title, gb, rate, teraflops, watts, capability, seen in PRINTED
        ),
    )
}  # fmt: skip

# What a core does a second, and what two channels of memory give: assumptions for a CPU that was
# never measured (AVX-512 with bf16; DDR4-3200).
_CORE_FLOPS = 150e9
_MEMORY_BANDWIDTH = 40e9
_CORE_WATTS = 15.0


def cpu_card(ram_bytes: int, cores: int, *, native_bf16: bool = False) -> Card:
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
        native_bf16=native_bf16,
    )


def find_card(name: str) -> Card:
    """The card of that name, as the table has it or as drivers say it; case, spaces, hyphens and
    an "RTX" before a number do not count. Raises UsageError."""
    plain = _plain(re.sub(r"\b(nvidia|geforce|gpu)\b", " ", name, flags=re.IGNORECASE))
    for card in CARDS.values():
        names = _plain(card.name), _plain(card.title)
        if plain in names or (plain[:1].isdigit() and f"rtx{plain}" in names):
            return card
    by_plain = {_plain(known): known for known in CARDS}
    near = [by_plain[p] for p in difflib.get_close_matches(plain, by_plain, n=3, cutoff=0.6)]
    raise UsageError(
        f"gpu: unknown card {name!r}",
        *([f"did you mean {' or '.join(near)}?"] if near else []),
        f"known: {', '.join(CARDS)}; for any other: rackmill fit --vram GIB",
    )


def generic_card(
    vram_gib: float,
    title: str | None = None,
    capability: tuple[int, int] = (8, 6),
    told: DriverReading = DriverReading(),
) -> Card:
    """A card that is not in the table: its speed as the driver ``told`` it, else that of the known
    card nearest in memory."""
    known = [c for c in CARDS.values() if (c.compute_capability >= _ADA) == (capability >= _ADA)]
    near = min((c for c in known if c.has_bf16), key=lambda c: abs(c.vram_gb - vram_gib))
    bandwidth, flops = told.bandwidth, told.bf16_flops(capability)
    basis = "from its clocks, memory bus and cores" if bandwidth else f"as the {near.title}'s"
    return Card(
        name=f"{vram_gib:g}gb" if title is None else _plain(_short(title)),
        title=title or f"a {vram_gib:g} GB card",
        vram_gb=vram_gib,
        vram_bytes=int(vram_gib * _SEEN_BY_CUDA * GIB),
        bandwidth=bandwidth or near.bandwidth,
        bf16_flops=flops or near.bf16_flops,
        watts=near.watts,
        compute_capability=capability,
        guessed=basis,
    )


def card_from_device(
    device_name: str,
    total_bytes: int,
    capability: tuple[int, int] | None = None,
    told: DriverReading = DriverReading(),
) -> Card:
    """The card that the driver calls ``device_name``, with ``total_bytes`` of memory.

    ``capability``, ``told``: what else the driver says of it. A known line with another memory (a
    chip with larger ones soldered on) keeps its speed; a name that nobody knows gets a generic
    card. A laptop's is never taken for the desktop's of the same number, nor the other way round.
    """
    line, gib = _line(device_name), total_bytes / GIB
    same = [card for card in CARDS.values() if _base(card.name) == line]
    if not same:
        return generic_card(round(gib), _short(device_name), capability or (8, 6), told)
    near = min(same, key=lambda card: abs(card.vram_gb - gib))
    bandwidth = told.bandwidth
    # the same name is sold with faster or slower memory, as the RTX 3060 Ti with GDDR6X
    differs = abs(bandwidth / near.bandwidth - 1) > _SAME_SPEED if bandwidth else False
    if abs(near.vram_gb - gib) <= _SAME_MEMORY * near.vram_gb:
        return replace(near, bandwidth=bandwidth) if differs else near
    return replace(
        near,
        name=f"{_base_name(near.name)}-{round(gib)}gb",
        title=f"{_base_title(near.title)} {round(gib)} GB",
        vram_gb=round(gib),
        vram_bytes=total_bytes,
        bandwidth=bandwidth or near.bandwidth,
        guessed=f"as the {near}'s" + (", memory as the driver tells it" if bandwidth else ""),
    )


def parse_gpus(text: str, card_of: Callable[[str], Card] = find_card) -> list[tuple[int, Card]]:
    """ "4x rtx3090, rtx4090:2, 3060" -> [(4, Card), (2, Card), (1, Card)]. ``card_of``: the card
    of a name. Raises UsageError."""
    found = []
    for part in text.split(","):
        match = _CARDS_OF_A_KIND.fullmatch(part)
        number = (match[1] or match[3]) if match is not None else None
        if match is None or (match[1] and match[3]) or (number is not None and not int(number)):
            raise UsageError(
                f"gpus: {text!r} is no list of cards", 'write it like "4x rtx3090,2x rtx4090"'
            )
        if len(number or "") > _MOST_DIGITS:
            raise UsageError(f"gpus: {number} cards are too many", "give up to 99 999")
        found.append((int(number or 1), card_of(match[2])))
    return found


def in_slot(name: str, cards: int) -> str:
    """What a slot of so many cards is called: "rtx3090", "2x rtx3060"."""
    return f"{cards}x {name}" if cards > 1 else name


def times(number: int, name: str, cards: int = 1) -> str:
    """So many slots: "2× RTX 3090", "2× (2x RTX 3060)"."""
    return f"{number}× ({in_slot(name, cards)})" if cards > 1 else f"{number}× {name}"


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _short(device_name: str) -> str:
    """A driver's name without its maker's."""
    return re.sub(r"^(NVIDIA|GeForce)\s+", "", re.sub(r"^NVIDIA\s+", "", device_name.strip()))


def _line(device_name: str) -> str:
    """A driver's name as the table's names are written, without the memory."""
    name = device_name.lower()
    desktop = "workstation" in name or "server edition" in name  # Max-Q is a power limit there
    laptop = not desktop and re.search(r"laptop|max-?q|mobile", name) is not None
    name = re.sub(_NOT_THE_LINE, " ", name)
    plain = re.sub(r"super", "s", _plain(name))
    return plain + ("laptop" if laptop else "")


def _base_name(name: str) -> str:
    return re.sub(r"-\d+gb$", "", name)


def _base_title(title: str) -> str:
    return re.sub(r" \d+ GB$", "", title)


def _base(name: str) -> str:
    """A card's name without its memory: drivers do not say it."""
    return _plain(_base_name(name))
