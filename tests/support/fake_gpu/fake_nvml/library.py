"""A driver's library of NVML, written in Python: what ``ctypes`` would find in it, by name.

It stands in for ``libnvidia-ml.so.1`` beneath whatever binding is in use: nvidia-ml-py's
``pynvml``, and the copies that Ray and vLLM bring. Their structures, constants and errors stay
their own; only the functions of the library below them are these. What the driver shows is read
from the state's file at every call. A function that is not here does not exist ("Function Not
Found"), as with an old driver.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable
from typing import Any

from .state import STATE, FakeCard, FakeDriver, current

SUCCESS = 0
ERRORS = {
    "UNINITIALIZED": 1,
    "INVALID_ARGUMENT": 2,
    "NOT_SUPPORTED": 3,
    "NO_PERMISSION": 4,
    "NOT_FOUND": 6,
    "INSUFFICIENT_SIZE": 7,
    "DRIVER_NOT_LOADED": 9,
    "TIMEOUT": 10,
    "LIBRARY_NOT_FOUND": 12,
    "FUNCTION_NOT_FOUND": 13,
    "GPU_IS_LOST": 15,
    "RESET_REQUIRED": 16,
    "LIB_RM_VERSION_MISMATCH": 18,
    "MEMORY": 20,
    "UNKNOWN": 999,
}
_REASONS = {  # nvmlClocksThrottleReason...
    "GpuIdle": 0x1,
    "ApplicationsClocksSetting": 0x2,
    "SwPowerCap": 0x4,
    "HwSlowdown": 0x8,
    "SyncBoost": 0x10,
    "SwThermalSlowdown": 0x20,
    "HwThermalSlowdown": 0x40,
    "HwPowerBrakeSlowdown": 0x80,
    "DisplayClockSetting": 0x100,
}
_CLOCK_GRAPHICS, _CLOCK_SM, _CLOCK_MEMORY = 0, 1, 2
_NO_MEMORY_TOLD = 2**64 - 1
_RESERVED = 400 << 20  # of memory: the driver's own, which only version 2 tells

_started = 0
_lock = threading.Lock()


class Refused(Exception):
    """Ends a function with NVML's error of that name."""


def shown() -> bool:
    """Whether this process is shown a fake driver at all."""
    return bool(os.environ.get(STATE))


def missing() -> bool:
    """Whether there is no driver: the library itself cannot be loaded."""
    return current().error == "LIBRARY_NOT_FOUND"


def function(name: str) -> Callable[..., int] | None:
    """The library's function, None if it has none of that name."""
    base = name.removesuffix("_v2").removesuffix("_v3")
    if base in ("nvmlInit", "nvmlInitWithFlags"):
        return _init
    if base == "nvmlShutdown":
        return _shutdown
    if base in _SYSTEM:
        return _checked(base, lambda driver, *given: _SYSTEM[base](driver, *given))
    if base in _DEVICE:
        return _checked(base, lambda driver, *given: _DEVICE[base](_card(driver, given[0], base),
                                                                   *given[1:]))  # fmt: skip
    return None


def _init(*_flags: object) -> int:
    global _started
    error = current().error
    if error is not None:
        return ERRORS[error]
    with _lock:
        _started += 1
    return SUCCESS


def _shutdown() -> int:
    global _started
    with _lock:
        if not _started:
            return ERRORS["UNINITIALIZED"]
        _started -= 1
    return SUCCESS


def _checked(name: str, work: Callable[..., None]) -> Callable[..., int]:
    def call(*given: Any) -> int:
        driver = current()
        if not _started:
            return ERRORS["UNINITIALIZED"]
        if driver.error is not None:
            return ERRORS[driver.error]
        try:
            work(driver, *given)
        except Refused as e:
            return ERRORS[str(e)]
        return SUCCESS

    return call


def _handle(index: int, pointer: Any) -> None:
    """Handles are pointers to what nobody looks at: the card's number, and one, as address."""
    ctypes.cast(pointer, ctypes.POINTER(ctypes.c_void_p))[0] = index + 1


def _index(handle: Any) -> int:
    return int(ctypes.cast(handle, ctypes.c_void_p).value or 0) - 1


def _card(driver: FakeDriver, handle: Any, asked: str = "") -> FakeCard:
    index = _index(handle)
    if not 0 <= index < len(driver.cards):
        raise Refused("INVALID_ARGUMENT")
    card = driver.cards[index]
    if card.lost:
        raise Refused("GPU_IS_LOST")
    if asked in card.unsupported:
        raise Refused("NOT_SUPPORTED")
    if asked in card.errors:
        raise Refused(card.errors[asked])
    return card


def _number(value: float, pointer: Any) -> None:
    pointer._obj.value = int(value)


def _text(value: str, buffer: Any, size: Any) -> None:
    if len(value) >= size.value:
        raise Refused("INSUFFICIENT_SIZE")
    buffer.value = value.encode()


def _by_index(driver: FakeDriver, index: Any, pointer: Any) -> None:
    if index.value >= len(driver.cards):
        raise Refused("INVALID_ARGUMENT")
    _handle(index.value, pointer)
    _card(driver, pointer._obj)


def _by_uuid(driver: FakeDriver, uuid: Any, pointer: Any) -> None:
    for index, card in enumerate(driver.cards):
        if card.uuid == uuid.value.decode():
            return _handle(index, pointer)
    raise Refused("NOT_FOUND")


def _index_of(driver: FakeDriver, handle: Any, pointer: Any) -> None:
    _card(driver, handle)
    _number(_index(handle), pointer)


def _memory(card: FakeCard, pointer: Any) -> None:
    memory = pointer._obj
    memory.total, memory.used = card.memory_bytes, card.used_bytes
    if hasattr(memory, "reserved"):
        memory.reserved = _RESERVED
    memory.free = card.memory_bytes - card.used_bytes


def _capability(card: FakeCard, major: Any, minor: Any) -> None:
    _number(card.capability[0], major)
    _number(card.capability[1], minor)


def _clock(card: FakeCard, kind: Any, pointer: Any) -> None:
    clocks = {
        _CLOCK_GRAPHICS: card.sm_clock,
        _CLOCK_SM: card.sm_clock,
        _CLOCK_MEMORY: card.memory_clock,
    }
    kind = getattr(kind, "value", kind)
    if kind not in clocks:
        raise Refused("INVALID_ARGUMENT")
    _number(clocks[kind], pointer)


def _reasons(card: FakeCard, pointer: Any) -> None:
    _number(sum(_REASONS[reason] for reason in card.throttle), pointer)


def _processes(graphics: bool) -> Callable[..., None]:
    def tell(card: FakeCard, count: Any, room: Any) -> None:
        those = [p for p in card.processes if (p.graphics if graphics else p.compute)]
        too_few = count._obj.value < len(those)
        count._obj.value = len(those)
        if too_few:
            raise Refused("INSUFFICIENT_SIZE")
        for place, process in zip(room or (), those, strict=False):
            told = process.memory_bytes
            place.pid = process.pid
            place.usedGpuMemory = _NO_MEMORY_TOLD if told is None else told

    return tell


def _process_use(card: FakeCard, room: Any, count: Any, seen: Any) -> None:
    those = [p for p in card.processes if p.use]
    now = time.time_ns() // 1000
    if not those or now <= seen.value:
        raise Refused("NOT_FOUND")
    too_few = count._obj.value < len(those)
    count._obj.value = len(those)
    if too_few:
        raise Refused("INSUFFICIENT_SIZE")
    for place, process in zip(room, those, strict=False):
        place.pid, place.timeStamp, place.smUtil = process.pid, now, process.use


def _temperature_struct(card: FakeCard, pointer: Any) -> None:
    pointer._obj.temperature = card.temperature


def _utilization(card: FakeCard, pointer: Any) -> None:
    pointer._obj.gpu, pointer._obj.memory = card.utilization, card.memory_utilization


def _mig(card: FakeCard, now: Any, pending: Any) -> None:
    if card.capability < (8, 0):
        raise Refused("NOT_SUPPORTED")
    _number(card.mig, now)
    _number(card.mig, pending)


def _nvlink(driver: FakeDriver, one: Any, other: Any, _kind: Any, pointer: Any) -> None:
    both = _card(driver, one).nvlink and _card(driver, other).nvlink
    _number(0 if both else 3, pointer)  # 3: NVML_P2P_STATUS_GPU_NOT_SUPPORTED


def _place(driver: FakeDriver, handle: Any, pointer: Any) -> None:
    _card(driver, handle)
    index = _index(handle)
    pointer._obj.bus, pointer._obj.busId = index + 1, f"00000000:{index + 1:02X}:00.0".encode()


def _affinity(_card: FakeCard, size: int, pointer: Any) -> None:
    cores = os.cpu_count() or 1
    for word in range(size):
        pointer._obj[word] = (1 << max(min(cores - 64 * word, 64), 0)) - 1


def _limits(card: FakeCard, least: Any, most: Any) -> None:
    _number(card.default_power_limit * 300, least)
    _number(card.default_power_limit * 1100, most)


_SYSTEM: dict[str, Callable[..., None]] = {
    "nvmlSystemGetDriverVersion": lambda driver, *room: _text(driver.version, *room),
    "nvmlSystemGetCudaDriverVersion": lambda driver, pointer: _number(driver.cuda, pointer),
    "nvmlDeviceGetCount": lambda driver, pointer: _number(len(driver.cards), pointer),
    "nvmlDeviceGetHandleByIndex": _by_index,
    "nvmlDeviceGetHandleByUUID": _by_uuid,
    "nvmlDeviceGetIndex": _index_of,
    "nvmlDeviceGetP2PStatus": _nvlink,
    "nvmlDeviceGetPciInfo": _place,
}
_DEVICE: dict[str, Callable[..., None]] = {
    "nvmlDeviceGetName": lambda card, *room: _text(card.name, *room),
    "nvmlDeviceGetUUID": lambda card, *room: _text(card.uuid, *room),
    "nvmlDeviceGetMemoryInfo": _memory,
    "nvmlDeviceGetCudaComputeCapability": _capability,
    "nvmlDeviceGetMaxClockInfo": _clock,
    "nvmlDeviceGetClockInfo": _clock,
    "nvmlDeviceGetMemoryBusWidth": lambda card, at: _number(card.bus_width, at),
    "nvmlDeviceGetNumGpuCores": lambda card, at: _number(card.cores, at),
    "nvmlDeviceGetTemperature": lambda card, _sensor, at: _number(card.temperature, at),
    "nvmlDeviceGetTemperatureV": _temperature_struct,
    "nvmlDeviceGetTemperatureThreshold": lambda card, _which, at: _number(
        card.slowdown_temperature, at
    ),
    "nvmlDeviceGetPowerUsage": lambda card, at: _number(card.watts * 1000, at),
    "nvmlDeviceGetEnforcedPowerLimit": lambda card, at: _number(card.power_limit * 1000, at),
    "nvmlDeviceGetPowerManagementLimit": lambda card, at: _number(card.power_limit * 1000, at),
    "nvmlDeviceGetPowerManagementDefaultLimit": lambda card, at: _number(
        card.default_power_limit * 1000, at
    ),
    "nvmlDeviceGetPowerManagementLimitConstraints": _limits,
    "nvmlDeviceGetTotalEnergyConsumption": lambda card, at: _number(card.joules_now() * 1000, at),
    "nvmlDeviceGetCurrentClocksThrottleReasons": _reasons,
    "nvmlDeviceGetCurrentClocksEventReasons": _reasons,
    "nvmlDeviceGetComputeRunningProcesses": _processes(graphics=False),
    "nvmlDeviceGetGraphicsRunningProcesses": _processes(graphics=True),
    "nvmlDeviceGetUtilizationRates": _utilization,
    "nvmlDeviceGetProcessUtilization": _process_use,
    "nvmlDeviceGetMigMode": _mig,
    "nvmlDeviceGetCpuAffinity": _affinity,
}
