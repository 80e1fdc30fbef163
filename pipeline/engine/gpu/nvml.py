"""The NVIDIA driver, asked through NVML: the one place that counts cards and looks at them.

NVML may fail at any call, whenever a card falls off the bus or a driver is replaced: no error of
its leaves this file, each becomes a sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import psutil

from pipeline.budget.cards.lookup import Card, DriverReading, card_from_device
from pipeline.engine.gpu.faults import Fault, card_fault, driver_fault
from pipeline.engine.gpu.surroundings import surroundings
from pipeline.engine.gpu.variant import SeenCard
from pipeline.humanize import size

_T = TypeVar("_T")
_PREFIX = "NVML_ERROR_"
_MOST_HOLDERS = 4  # that are named


@dataclass(frozen=True)
class DeviceFacts:
    """A card as its driver describes it. ``memory_bytes`` in all; ``capability`` as (major, minor).
    ``memory_clock``: MHz as NVML tells it, half of the data rate; ``bus_width``: bits; ``cores``:
    CUDA's; ``sm_clock``: the highest, MHz. 0 where the driver does not tell."""

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


@dataclass(frozen=True, kw_only=True)
class Gpu(DeviceFacts):
    """One NVIDIA card of this machine. ``index``: the driver's number, in the order of the PCI bus;
    ``driver``: its version."""

    index: int
    driver: str
    uuid: str = ""

    @property
    def seen(self) -> SeenCard:
        return SeenCard(self.name, self.capability)

    @property
    def facts(self) -> DeviceFacts:
        """Without what tells it from its like."""
        return DeviceFacts(
            **{field.name: getattr(self, field.name) for field in fields(DeviceFacts)}
        )


@dataclass(frozen=True)
class Holder:
    """A process that has memory of a card. ``memory_bytes``: None where the driver does not tell
    (WSL2). ``name``: its program's, where it can be seen from here."""

    pid: int
    name: str
    memory_bytes: int | None


@dataclass(frozen=True)
class Driver:
    """``version``: "" without a driver that answers. ``gpus``: the cards that answer, whether a
    process may use them or not; ``uuids``: of all, those too that do not. ``faults``: what is
    wrong."""

    version: str = ""
    gpus: tuple[Gpu, ...] = ()
    faults: tuple[Fault, ...] = ()
    uuids: tuple[str, ...] = ()


class NvmlTrouble(Exception):
    """NVML failed. ``error``: its name of it, as GPU_IS_LOST."""

    def __init__(self, error: str) -> None:
        super().__init__(error)
        self.error = error


@contextmanager
def nvml() -> Iterator[Any]:
    """NVML's binding, started for as long as that. Raises NvmlTrouble, for whatever of its errors
    happen meanwhile as well."""
    import pynvml

    try:
        pynvml.nvmlInit()
        try:
            yield pynvml
        finally:
            with suppress(pynvml.NVMLError):  # what it was started for is done, or has failed
                pynvml.nvmlShutdown()
    except pynvml.NVMLError as e:
        raise NvmlTrouble(_name(pynvml, e)) from e


def read_driver() -> Driver:
    """The driver and its cards, as they are now."""
    try:
        with nvml() as binding:
            return _read(binding)
    except NvmlTrouble as e:
        fault = driver_fault(e.error, surroundings())
        return Driver(faults=(fault,) if fault else ())


def free_gpu_memory(index: int) -> tuple[int, int]:
    """Bytes of a card's memory: free, and in all; (0, 0) where the driver does not tell."""
    try:
        with nvml() as binding:
            memory = binding.nvmlDeviceGetMemoryInfo(binding.nvmlDeviceGetHandleByIndex(index))
            return int(memory.free), int(memory.total)
    except NvmlTrouble as e:
        if e.error == "NOT_SUPPORTED":  # its memory is the machine's
            machine = psutil.virtual_memory()
            return int(machine.available), int(machine.total)
        return 0, 0


def holders(index: int) -> list[Holder]:
    """The processes that have memory of a card, those with most first; none where the driver does
    not tell."""
    found: dict[int, int | None] = {}
    for kind in ("Compute", "Graphics"):
        try:
            with nvml() as binding:
                card = binding.nvmlDeviceGetHandleByIndex(index)
                for process in getattr(binding, f"nvmlDeviceGet{kind}RunningProcesses")(card):
                    found[int(process.pid)] = process.usedGpuMemory
        except NvmlTrouble:
            continue
    known = [Holder(pid, _program(pid), memory) for pid, memory in found.items()]
    return sorted(known, key=lambda holder: -(holder.memory_bytes or 0))


def held_by(those: Sequence[Holder]) -> str:
    """ "held by game.exe (pid 12, 18.0 GiB), Xorg (pid 7, 0.5 GiB)"."""
    if not those:
        return "the driver does not tell which programs hold it"
    told = [_in_words(holder) for holder in those[:_MOST_HOLDERS]]
    more = len(those) - _MOST_HOLDERS
    return "held by " + ", ".join([*told, *([f"and {more} more"] if more > 0 else [])])


def _in_words(holder: Holder) -> str:
    name = holder.name or "a program of another user or container"
    memory = "" if holder.memory_bytes is None else f", {size(holder.memory_bytes)}"
    return f"{name} (pid {holder.pid}{memory})"


def _read(binding: Any) -> Driver:
    version = str(binding.nvmlSystemGetDriverVersion())
    gpus: list[Gpu] = []
    faults: list[Fault] = []
    uuids: list[str] = []
    for index in range(binding.nvmlDeviceGetCount()):
        try:
            gpu = _gpu(binding, index, version)
        except binding.NVMLError as e:
            faults.append(card_fault(f"GPU {index}", _name(binding, e)))
            uuids.append("")
        else:
            gpus.append(gpu)
            uuids.append(gpu.uuid)
    return Driver(version, tuple(gpus), tuple(faults), tuple(uuids))


def _gpu(binding: Any, index: int, driver: str) -> Gpu:
    card = binding.nvmlDeviceGetHandleByIndex(index)

    def told(what: Callable[..., _T], *given: Any, otherwise: _T) -> _T:
        """What the driver may not know of this card."""
        try:
            return what(card, *given)
        except (binding.NVMLError_NotSupported, binding.NVMLError_FunctionNotFound):
            return otherwise

    memory = told(binding.nvmlDeviceGetMemoryInfo, otherwise=None)
    # GB10 and its like have no memory of their own
    total = psutil.virtual_memory().total if memory is None else memory.total
    return Gpu(
        index=index,
        name=str(binding.nvmlDeviceGetName(card)),
        memory_bytes=int(total),
        driver=driver,
        capability=tuple(binding.nvmlDeviceGetCudaComputeCapability(card)),
        uuid=str(binding.nvmlDeviceGetUUID(card)),
        memory_clock=told(binding.nvmlDeviceGetMaxClockInfo, binding.NVML_CLOCK_MEM, otherwise=0),
        bus_width=told(binding.nvmlDeviceGetMemoryBusWidth, otherwise=0),
        cores=told(binding.nvmlDeviceGetNumGpuCores, otherwise=0),
        sm_clock=told(binding.nvmlDeviceGetMaxClockInfo, binding.NVML_CLOCK_SM, otherwise=0),
    )


def _name(binding: Any, error: Any) -> str:
    """NVML's name of an error, without its prefix."""
    for name in dir(binding):
        if name.startswith(_PREFIX) and getattr(binding, name) == error.value:
            return name.removeprefix(_PREFIX)
    return f"ERROR_{error.value}"


def _program(pid: int) -> str:
    try:
        return str(psutil.Process(pid).name())
    except psutil.Error:
        return ""  # another container's, or another user's
