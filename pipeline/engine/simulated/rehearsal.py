"""Faults on request: how a simulated engine dies, hangs and refuses, so that a job's way through
them can be rehearsed."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Callable
from enum import Enum

from pipeline.engine.protocol import SEAT
from pipeline.errors import EngineFailed, EngineOutOfMemory
from pipeline.job.engine import RehearsedFaults


class RehearsedFault(Enum):
    """What a request does to its engine, or what becomes of it: by the name of the setting that
    says which texts do it, without its ``_on``."""

    KILL = "kill"
    HANG = "hang"
    FREEZE = "freeze"
    FAIL = "fail"
    REFUSE = "refuse"
    ENDLESS = "endless"


class Rehearsal:
    """The faults that ``settings`` ask for. ``decode``: token ids to text."""

    def __init__(
        self, settings: RehearsedFaults, decode: Callable[[list[int]], str] | None = None
    ) -> None:
        texts = [(getattr(settings, f"{fault.value}_on"), fault) for fault in RehearsedFault]
        self._settings = settings
        self._texts: list[tuple[str, RehearsedFault]] = [one for one in texts if one[0]]
        self._decode = decode

    @property
    def expects_faults(self) -> bool:
        """Whether any text is to do something to its engine."""
        return bool(self._texts)

    def fault_of(self, prompt_ids: list[int]) -> RehearsedFault | None:
        """What is wrong with a request."""
        if not self._texts or self._decode is None:
            return None
        prompt = self._decode(prompt_ids)
        return next((fault for text, fault in self._texts if text in prompt), None)

    def load(self, max_num_seqs: int) -> None:
        """Raise what an engine for so many sequences meets while it is loaded: EngineFailed."""
        if int(os.environ.get(SEAT, -1)) in self._settings.broken:
            raise EngineFailed("the simulated engine is broken")
        _check_memory(max_num_seqs, self._settings.load_out_of_memory_above)

    def step(self, running: int) -> None:
        """Raise what an engine with so many sequences at once meets: EngineOutOfMemory."""
        _check_memory(running, self._settings.step_out_of_memory_above)

    def strike(self, fault: RehearsedFault | None) -> None:
        """The engine computes a request with ``fault``: perhaps this does not return."""
        if fault is RehearsedFault.KILL:
            os.kill(os.getpid(), signal.SIGKILL)
        if fault is RehearsedFault.FAIL:
            raise RuntimeError("the simulated engine fails, as it was asked to")
        while fault is RehearsedFault.HANG:
            time.sleep(3600)
        while fault is RehearsedFault.FREEZE:
            ctypes.PyDLL(None).sleep(3600)  # with the interpreter's lock in hand


def _check_memory(number: int, most: int | None) -> None:
    if most is not None and number > most:
        raise EngineOutOfMemory(f"the simulated engine is out of memory: {number} > {most}")
