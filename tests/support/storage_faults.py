"""Deliberate storage faults in whole runs, set by an environment variable:

    RACKMILL_STORAGE_FAULTS="fail_one_in=5,seed=1"

A process that has imported this module obeys it; as the file ``sitecustomize.py`` on PYTHONPATH
(``faults_everywhere``), every Python of a command does. Operations of ``Storage`` are counted from
1, over all processes of a run if ``counter`` names a file. The errors are those that storage itself
would raise, so they are waited out, or explained.
"""

from __future__ import annotations

import errno
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from itertools import count
from pathlib import Path
from typing import Any, Self, TypeVar

from pipeline.storage import base
from pipeline.storage.base import Storage
from pipeline.storage.retrying import PatientStorage
from pipeline.storage.transient_errors import PATIENCE_SECONDS

T = TypeVar("T")
VARIABLE = "RACKMILL_STORAGE_FAULTS"
EXIT_CODE = 86  # of a process that exits on purpose
_WRITES = ("create", "replace", "write", "publish")
_numbers = count(1)  # of this process's operations


@dataclass(frozen=True)
class InjectedFaults:
    """Faults to inject; 0: never. Operations by number; ``delay``, ``patience`` in seconds."""

    exit_at: int = 0  # the process ends before this operation
    lose_at: int = 0  # this one takes effect, but its answer is lost
    gone_from: int = 0  # this one takes effect, its answer is lost, and so are all later ones
    full_from: int = 0  # no space from this one on
    read_only_from: int = 0
    fail_one_in: float = 0.0  # without effect
    lose_one_in: float = 0.0
    delay: float = 0.0  # of every operation
    patience: float | None = None  # instead of the default
    seed: int = 0
    counter: str = ""

    @classmethod
    def from_environment(cls) -> Self | None:
        """None if no faults are set. Raises ValueError."""
        text = os.environ.get(VARIABLE)
        return cls.from_text(text) if text else None

    @classmethod
    def from_text(cls, text: str) -> Self:
        """From ``name=value,name=value``. Raises ValueError."""
        kinds: dict[str, Any] = {"int": int, "str": str}
        known = {field.name: kinds.get(str(field.type), float) for field in fields(cls)}
        given: dict[str, Any] = {}
        for part in text.split(","):
            name, _, value = part.partition("=")
            try:
                given[name] = known[name](value)
            except (KeyError, ValueError):
                told = f"{VARIABLE}: {part!r} is no NAME=VALUE; names: {', '.join(known)}"
                raise ValueError(told) from None
        return cls(**given)


class FaultyStorage:
    """A ``Storage`` with faults: each of its operations except ``address`` is counted."""

    def __init__(self, inner: Storage, faults: InjectedFaults) -> None:
        self.inner = inner
        self._faults = faults

    def __getattr__(self, name: str) -> Any:
        if name == "inner" or name.startswith("_"):  # looked up before it is set
            raise AttributeError(name)
        operation = getattr(self.inner, name)
        if name == "address":
            return operation
        return lambda *given: self._do(
            lambda: operation(*given), writes=name in _WRITES, deletes=name == "delete"
        )

    def _do(self, call: Callable[[], T], *, writes: bool = False, deletes: bool = False) -> T:
        faults, number = self._faults, self._count()
        if faults.delay:
            time.sleep(faults.delay)
        if number == faults.exit_at:
            os._exit(EXIT_CODE)
        if 0 < faults.gone_from < number:
            raise OSError(errno.EIO, "injected: storage is gone")
        if writes and 0 < faults.full_from <= number:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if (writes or deletes) and 0 < faults.read_only_from <= number:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        dice = random.Random(f"{faults.seed} {number}")
        if _one_in(faults.fail_one_in, dice):
            raise OSError(errno.ETIMEDOUT, "injected: no answer")
        result = call()
        if _one_in(faults.lose_one_in, dice) or number in (faults.lose_at, faults.gone_from):
            raise OSError(errno.ECONNRESET, "injected: the answer was lost")
        return result

    def _count(self) -> int:
        """The number of the operation that starts."""
        if not self._faults.counter:
            return next(_numbers)
        file = os.open(self._faults.counter, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(file, b".")
            return os.lseek(file, 0, os.SEEK_CUR)  # the position after this byte
        finally:
            os.close(file)


def _one_in(calls: float, dice: random.Random) -> bool:
    return dice.random() * calls > max(calls - 1.0, 0.0)


class _Obeying(PatientStorage):
    """Has the faults of the environment; but not where nobody waits: status and logs."""

    def __init__(self, inner: Storage, patience_seconds: float = PATIENCE_SECONDS) -> None:
        asked = InjectedFaults.from_environment() if patience_seconds else None
        if asked is not None:
            inner = FaultyStorage(inner, asked)  # type: ignore[assignment]
            patience_seconds = asked.patience if asked.patience is not None else patience_seconds
        super().__init__(inner, patience_seconds)


base.PatientStorage = _Obeying  # type: ignore[misc]


def faults_everywhere(folder: Path) -> dict[str, str]:
    """The environment in which commands, and the processes they start, obey the variable too.
    ``folder``: for the file that sees to it."""
    (folder / "sitecustomize.py").write_text("import tests.support.storage_faults\n")
    search = [str(folder), str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    return {"PYTHONPATH": os.pathsep.join(filter(None, search))}
