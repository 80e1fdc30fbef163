"""`rackmill doctor`'s conclusions about a machine's GPU, driver, compiler and vLLM build. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.budget.weights import weight_bytes
from pipeline.engine.gpu.compiler import BuildTools, missing_tools
from pipeline.engine.gpu.nvml import Driver, Gpu, Holder, held_by
from pipeline.engine.gpu.surroundings import Surroundings
from pipeline.engine.gpu.usable import ON_THE_PROCESSOR, UsableCards, variant_of
from pipeline.engine.gpu.variant import CUDA, Variant, unfit
from pipeline.engine.gpu.visible import VARIABLE
from pipeline.humanize import size
from pipeline.model.catalogue import MODELS

_GIB = 1 << 30
_FREE = 0.85  # of a card's memory: with less, another program holds a relevant part of it
_BESIDE_WEIGHTS = int(1.2 * _GIB)  # CUDA's context, activations, a small KV cache
_NEEDED_SHM = 256 << 20
_PINNED_FROM = (4, 19, 121)  # from this version on, WSL2's kernels have pinned memory
_LITTLE_RAM = 8 * _GIB
SETUP = "./infra/setup"


@dataclass(frozen=True)
class Finding:
    """One result. ``fix`` says what to do, if ``ok`` is False or there is advice."""

    subject: str
    ok: bool
    says: str
    fix: str = ""


@dataclass(frozen=True)
class GpuView:
    """All input of the findings about GPUs. ``free``: index -> free and total bytes; ``holders``:
    index -> programs that hold memory; ``visible``: ``CUDA_VISIBLE_DEVICES``."""

    driver: Driver
    offer: UsableCards
    around: Surroundings
    tools: BuildTools
    visible: str | None = None
    free: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    holders: Mapping[int, Sequence[Holder]] = field(default_factory=dict)

    @property
    def wants_cuda(self) -> bool:
        """Whether the CUDA build is installed, or should be."""
        return CUDA in (self.offer.build, self.variant.build)

    @property
    def variant(self) -> Variant:
        """The vLLM build that suits the machine."""
        return variant_of(self.driver, self.around)


def gpu_findings(view: GpuView) -> list[Finding]:
    """Findings about the driver, each card, and other needs of engines on cards."""
    faults = view.variant.faults
    findings = [Finding("driver", False, fault.says, fault.fix) for fault in faults]
    for gpu in view.driver.gpus:
        findings += _card(gpu, view)
    if not view.driver.gpus:
        says = "none to be seen" if faults else "none"
        if view.offer.build != CUDA:  # otherwise nothing runs: see ``build_finding``
            says += ": engines run on the processor"
        findings.append(Finding("GPU", True, says))
    if view.wants_cuda:
        findings += _tools(view.tools)
    return findings


def build_finding(view: GpuView) -> Finding | None:
    """Whether the installed build of vLLM is the right one; None if it is, or there is none."""
    build, right = view.offer.build, view.variant
    if build == CUDA and not view.offer.gpus:
        why = "; ".join(view.offer.left) or "no NVIDIA GPU"
        return Finding(
            "vLLM", False, f"its CUDA build has no card to run on: {why}", ON_THE_PROCESSOR
        )
    if build is not None and build != CUDA and right.build == CUDA:
        return Finding(
            "vLLM",
            False,
            f"the CPU build, beside {right.reason}",
            f"{SETUP} installs the CUDA build",
        )
    return None


def shm_finding(free: int, container: bool) -> Finding:
    """About shared memory, through which an engine's processes and Ray communicate."""
    ok = free >= _NEEDED_SHM
    fix = "start the container with --shm-size 1g" if container else (
        "sudo mount -o remount,size=1G /dev/shm"
    )  # fmt: skip
    says = f"{size(free)} of shared memory (/dev/shm) are free"
    return Finding("/dev/shm", ok, says, "" if ok else f"{fix}: 256 MiB are needed")


def wsl_finding(release: str, ram: int, store: str) -> Finding:
    """About WSL2. ``release``: of its kernel; ``ram``: total bytes; ``store``: models' folder."""
    numbers = release.partition("-")[0].split(".")
    version = tuple(int(n) for n in numbers[:3] if n.isdigit())
    advice = []
    if version < _PINNED_FROM:
        advice.append("wsl --update on Windows: this kernel has no pinned memory, copies wait")
    if ram < _LITTLE_RAM:
        advice.append("WSL gets half of the RAM: [wsl2] memory=… in %UserProfile%\\.wslconfig")
    if store.startswith("/mnt/"):
        advice.append("models on a Windows disk load slowly: set RACKMILL_HOME to a Linux folder")
    says = f"kernel {release}, {size(ram)} of RAM; the driver is Windows'"
    return Finding("WSL2", version >= _PINNED_FROM, says, "; ".join(advice))


def _card(gpu: Gpu, view: GpuView) -> Iterator[Finding]:
    subject, card = f"GPU {gpu.index}", gpu.card
    capability = ".".join(map(str, gpu.capability))
    says = f"{card}, driver {gpu.driver}, compute capability {capability}"
    reason = unfit(gpu.seen)
    if reason is not None:
        yield Finding(subject, True, f"{says}: left alone, {reason}")
        return
    if gpu not in view.offer.gpus and view.visible is not None and view.offer.build == CUDA:
        yield Finding(subject, True, f"{says}: hidden by {VARIABLE}={view.visible}")
        return
    advice = []
    if card.is_laptop or "Laptop" in gpu.name:
        advice.append("a laptop's: on battery it is far slower, plug it in")
    if card.guessed:
        advice.append(f"not in our table: its speed is reckoned {card.guessed}")
    yield Finding(subject, True, says, "; ".join(advice))
    yield from _memory(gpu, view)


def _memory(gpu: Gpu, view: GpuView) -> Iterator[Finding]:
    free, total = view.free.get(gpu.index, (0, 0))
    if not total or free >= _FREE * total:
        return
    says = f"{size(free)} of {size(total)} are free; {held_by(view.holders.get(gpu.index, ()))}"
    fitting = [name for name, needed in _needed() if needed <= free]
    fits_all = [name for name, needed in _needed() if needed <= total]
    if not fitting:
        smallest = size(_needed()[0][1])
        fix = f"close what holds it: the smallest model in int4 needs {smallest}"
        yield Finding(f"memory {gpu.index}", False, says, fix)
        return
    fix = f"room for {fitting[-1]} in int4"
    if fitting != fits_all:
        fix += f"; with nothing else on the card: {fits_all[-1]}"
    yield Finding(f"memory {gpu.index}", True, says, fix)


def _needed() -> list[tuple[str, int]]:
    """Models, the smallest first, and the least bytes that an engine takes with them in int4."""
    return [
        (model.name, weight_bytes(model.geometry, "int4").text_bytes + _BESIDE_WEIGHTS)
        for model in MODELS.values()
    ]


def _tools(tools: BuildTools) -> Iterator[Finding]:
    missing = missing_tools(tools)
    for fault in missing:
        yield Finding("compiler", False, fault.says, fault.fix)
    if not missing:
        yield Finding("compiler", True, f"{tools.compiler}, Python.h in {tools.headers}")
