"""What a card says of itself now: power, heat, what slows it down, who uses it. NVML.

Nothing here raises: what a driver or a card does not tell is None.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import partial
from typing import Any, TypeVar

_T = TypeVar("_T")
# of nvmlClocksEventReasons
_POWER_CAP, _SLOWDOWN, _BRAKE = 0x4, 0x8, 0x80
_HEAT = 0x20 | 0x40  # by the driver, by the card itself


class Slowed(StrEnum):
    """What keeps a card from its full clock. Below its usual limit of power, the cap is an order
    of its owner; at that limit it is how cards are made, and no trouble."""

    HEAT = "heat"
    POWER = "power cap"
    HARDWARE = "hardware"  # an external brake, or a power supply that is too weak


@dataclass(frozen=True, slots=True)
class CardReading:
    """A card at a moment. ``index``: the driver's number; ``use``: of its time, 0..1; ``joules``:
    used since the driver was loaded. ``lost``: it has fallen off the bus."""

    index: int
    name: str = ""
    uuid: str = ""
    watts: float | None = None
    limit_watts: float | None = None
    usual_limit_watts: float | None = None
    celsius: int | None = None
    use: float | None = None
    used_bytes: int | None = None
    total_bytes: int | None = None
    slowed: tuple[Slowed, ...] = ()
    joules: float | None = None
    lost: bool = False

    @property
    def title(self) -> str:
        """Its name without its maker's."""
        short = self.name.removeprefix("NVIDIA ").removeprefix("GeForce ")
        return short or f"card {self.index}"

    @property
    def capped(self) -> bool:
        """Whether its owner has set its limit of power below the usual one."""
        return bool(
            self.limit_watts
            and self.usual_limit_watts
            and self.limit_watts < 0.97 * self.usual_limit_watts
        )

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"slowed": [str(why) for why in self.slowed]}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> CardReading:
        return cls(**content | {"slowed": tuple(map(Slowed, content["slowed"]))})


@dataclass(frozen=True, slots=True)
class CardProcess:
    """A process that uses a card. ``memory_bytes``, ``use`` (of the card's time, 0..1): None where
    the driver does not tell."""

    pid: int
    memory_bytes: int | None
    use: float | None


class CardReader:
    """The driver, kept open. One that is not there yet, or was replaced, is tried again."""

    def __init__(self) -> None:
        self._open = False
        self._seen: dict[int, int] = {}  # card -> time stamp of its last sample of processes
        self._names: dict[int, tuple[str, str]] = {}

    def number(self) -> int:
        """Of cards that the driver shows; 0 without a driver."""
        return self._ask(lambda nvml: int(nvml.nvmlDeviceGetCount())) or 0

    def all(self) -> list[CardReading]:
        """Of all cards that the driver shows."""
        found = [self.read(index) for index in range(self.number())]
        return [card for card in found if card is not None]

    def read(self, index: int) -> CardReading | None:
        """None without a driver, or without such a card."""
        import pynvml

        def look(nvml: Any) -> CardReading:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            told = partial(_told, nvml, handle)
            if index not in self._names:
                self._names[index] = (
                    str(nvml.nvmlDeviceGetName(handle)), str(nvml.nvmlDeviceGetUUID(handle)),
                )  # fmt: skip
            memory, use = told("nvmlDeviceGetMemoryInfo"), told("nvmlDeviceGetUtilizationRates")
            reasons = told("nvmlDeviceGetCurrentClocksEventReasons")
            if reasons is None:  # drivers before 535 know the older name only
                reasons = told("nvmlDeviceGetCurrentClocksThrottleReasons")
            return CardReading(
                index,
                *self._names[index],
                watts=_of_thousandths(told("nvmlDeviceGetPowerUsage")),
                limit_watts=_of_thousandths(told("nvmlDeviceGetEnforcedPowerLimit")),
                usual_limit_watts=_of_thousandths(told("nvmlDeviceGetPowerManagementDefaultLimit")),
                celsius=told("nvmlDeviceGetTemperature", nvml.NVML_TEMPERATURE_GPU),
                use=None if use is None else use.gpu / 100,
                used_bytes=None if memory is None else int(memory.used),
                total_bytes=None if memory is None else int(memory.total),
                slowed=_slowed(int(reasons or 0)),
                joules=_of_thousandths(told("nvmlDeviceGetTotalEnergyConsumption")),
            )

        try:
            return self._ask(look, lost=True)
        except pynvml.NVMLError:
            return CardReading(index, *self._names.get(index, ("", "")), lost=True)

    def processes(self, index: int) -> list[CardProcess] | None:
        """Who uses a card, since the last call; None where the driver does not tell."""
        return self._ask(lambda nvml: self._processes(nvml, index))

    def _processes(self, nvml: Any, index: int) -> list[CardProcess]:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        memory: dict[int, int | None] = {}
        for processes in (
            nvml.nvmlDeviceGetComputeRunningProcesses(handle),
            nvml.nvmlDeviceGetGraphicsRunningProcesses(handle),
        ):
            memory |= {p.pid: p.usedGpuMemory for p in processes}
        use = self._use(nvml, handle, index)
        return [
            CardProcess(pid, memory.get(pid, 0), None if use is None else use.get(pid, 0.0))
            for pid in sorted(memory.keys() | (use or {}).keys())
        ]

    def _use(self, nvml: Any, handle: Any, index: int) -> dict[int, float] | None:
        """By process, the mean of the samples since the last call."""
        try:
            samples = nvml.nvmlDeviceGetProcessUtilization(handle, self._seen.get(index, 0))
        except nvml.NVMLError as e:
            return {} if e.value in (nvml.NVML_SUCCESS, nvml.NVML_ERROR_NOT_FOUND) else None
        found: dict[int, list[float]] = {}
        for sample in samples:
            if sample.timeStamp > self._seen.get(index, 0):
                found.setdefault(sample.pid, []).append(sample.smUtil / 100)
        self._seen[index] = max([s.timeStamp for s in samples], default=self._seen.get(index, 0))
        return {pid: sum(shares) / len(shares) for pid, shares in found.items()}

    def _ask(self, what: Callable[[Any], _T], *, lost: bool = False) -> _T | None:
        """``lost``: that a card has fallen off the bus is raised."""
        import pynvml

        try:
            if not self._open:
                pynvml.nvmlInit()
                self._open = True
            return what(pynvml)
        except pynvml.NVMLError as e:
            if lost and _is_lost(e):
                raise
            self._open = self._open and e.value not in (
                pynvml.NVML_ERROR_UNINITIALIZED,
                pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
            )
            return None


def _told(nvml: Any, handle: Any, function: str, *given: Any) -> Any:
    """What a card tells; None where it does not. Raises NVMLError where it is lost."""
    try:
        return getattr(nvml, function)(handle, *given)
    except nvml.NVMLError as e:
        if _is_lost(e):
            raise
        return None


def _of_thousandths(number: int | None) -> float | None:
    return None if number is None else number * 1e-3


def _is_lost(error: Any) -> bool:
    import pynvml

    return error.value in (pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_RESET_REQUIRED)


def _slowed(reasons: int) -> tuple[Slowed, ...]:
    found = []
    if reasons & _HEAT:
        found.append(Slowed.HEAT)
    if reasons & _POWER_CAP:
        found.append(Slowed.POWER)
    if reasons & _BRAKE or (reasons & _SLOWDOWN and not reasons & _HEAT):
        found.append(Slowed.HARDWARE)
    return tuple(found)
