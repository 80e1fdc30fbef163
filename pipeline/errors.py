"""Everything rackmill raises on purpose.

    RackmillError                 something rackmill can explain
    ├── UsageError                exit 2: the job file, the arguments or the input are wrong
    │   └── HalfWritten               an input file is being written, or was cut off
    └── JobFailed                 exit 1: the job could not finish
        ├── Stopped               exit 130: it was asked to stop (Ctrl-C, SIGTERM, rackmill stop)
        ├── NoCard                exit 75: a submitted job has no card for now
        ├── AlreadyRunning        another run works on the same output
        ├── EngineFailed          an engine could not start, or died and could not be replaced
        │   ├── EngineOutOfMemory     it did not get the memory it asked for
        │   ├── MachineUnfit          its machine cannot do the job, whatever engine it gets
        │   │   ├── CardLost              its card has fallen off the bus
        │   │   └── EndpointUnfit         a server cannot do the job, or refuses us
        │   └── EndpointGone          a server does not answer any more
        │       └── EndpointSlow          it is there, but busy or silent for too long
        ├── StorageFailed         storage could not be read or changed, or did not answer
        ├── CommitFailed          nothing was committed: cleaning up and trying again is safe
        └── CommitStateUnknown    a commit may or may not have happened: nothing may be deleted

A row that fails is not an exception but data: see ``RowError``.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from functools import partial
from typing import Any


class RackmillError(Exception):
    """Base of all errors that a user sees as one short message.

    ``message`` says what is wrong and where; ``hints`` are further lines, the fix last.
    """

    exit_code = 1

    def __init__(self, message: str, *hints: str) -> None:
        super().__init__(message)
        self.message = message
        self.hints = hints

    def __str__(self) -> str:
        return "\n  ".join([self.message, *self.hints])

    def __reduce__(self) -> tuple[Callable[..., RackmillError], tuple[str, ...]]:
        # the default would drop the hints when an error travels between processes
        return type(self), (self.message, *self.hints)


class UsageError(RackmillError):
    """The job file, the arguments or the input are wrong; nothing expensive was started."""

    exit_code = 2


class HalfWritten(UsageError):
    """An input file is not whole: it is being written, or was cut off. Other files can be
    processed."""


class JobFailed(RackmillError):
    """The job stopped before every row had an output row; what is committed stays."""


class Stopped(JobFailed):
    """The run stopped because it was asked to; the same command goes on from there."""

    exit_code = 130  # what shells say of a command that Ctrl-C ended


class NoCard(JobFailed):
    """A submitted job has no card of the rack for now; its queue starts it again."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h


class AlreadyRunning(JobFailed):
    """Another run works on the same output; nothing was touched."""


class EngineFailed(JobFailed):
    """An engine could not start, or died and could not be replaced."""


class MemoryNeed(Enum):
    """What there was too little memory for."""

    CONTEXT = "one request as long as the context"
    CACHE = "a KV cache as large as was asked for"
    SHARE = "the share of the card that was asked for"
    ENGINE = "the engine"


@dataclass(frozen=True, slots=True)
class Shortage:
    """Too little memory for ``need``. ``free_bytes`` of ``total_bytes`` were free (None: not
    known)."""

    need: MemoryNeed = MemoryNeed.ENGINE
    free_bytes: int | None = None
    total_bytes: int | None = None

    @property
    def free_share(self) -> float | None:
        """Of the memory, 0..1."""
        if self.free_bytes is None or not self.total_bytes:
            return None
        return self.free_bytes / self.total_bytes


class EngineOutOfMemory(EngineFailed):
    """An engine did not get the memory it asked for, while it was loaded or later."""

    def __init__(self, message: str, *hints: str, shortage: Shortage = Shortage()) -> None:
        super().__init__(message, *hints)
        self.shortage = shortage

    def __reduce__(self) -> tuple[Callable[..., RackmillError], tuple[str, ...]]:
        return partial(type(self), shortage=self.shortage), (self.message, *self.hints)


class MachineUnfit(EngineFailed):
    """A machine cannot do the job, whatever engine it gets: others may."""


class CardLost(MachineUnfit):
    """A card has fallen off the bus: until its machine is restarted no engine runs there."""


class EndpointUnfit(MachineUnfit):
    """A server cannot do what the job asks for, or refuses us: another try would not help."""


class EndpointGone(EngineFailed):
    """A server that was an engine does not answer any more; no row of the job is to blame."""


class EndpointSlow(EndpointGone):
    """A server is there, but was busy or silent for too long: perhaps it still loads its model."""


class StorageFailed(JobFailed):
    """Storage could not be read or changed, or did not answer; what is committed stays."""


class CommitFailed(JobFailed):
    """A unit was not committed and nothing of it is visible; trying again is safe."""


class CommitStateUnknown(JobFailed):
    """Storage did not say whether a commit took effect; nothing may be deleted."""


class RowErrorType(StrEnum):
    """The kinds of error row, few and stable: scripts match on them."""

    INVALID_ROW = "InvalidRow"
    PROMPT_TOO_LONG = "PromptTooLong"
    INVALID_SAMPLING = "InvalidSampling"
    SCHEMA_NOT_MET = "SchemaNotMet"
    ENGINE_FAILURE = "EngineFailure"
    TIMEOUT = "Timeout"


@dataclass(frozen=True, slots=True)
class RowError(Exception):
    """Why one row has no completion; becomes the row's ``error`` column.

    ``attempts`` counts how often the row was given to an engine (0: never).
    """

    type: RowErrorType
    message: str
    attempts: int = 0

    def __reduce__(self) -> tuple[Any, tuple[RowErrorType, str, int]]:
        # exceptions pickle only the arguments they were raised with, without defaults
        return RowError, (self.type, self.message, self.attempts)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that is most similar to ``word``; None where none is similar."""
    return next(iter(difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)), None)


def did_you_mean(word: str, known: Iterable[str], form: str = "{}") -> list[str]:
    """The hint that names the known word most similar to ``word``, written in ``form``; no hint
    where none is similar."""
    near = nearest(word, known)
    return [f"did you mean {form.format(near)}?"] if near is not None else []


def unknown_column(says: str, name: str, columns: Sequence[str], form: str = "{}") -> UsageError:
    """``says`` names a column that does not exist."""
    return UsageError(
        f"{says}, but the input has no such column",
        f"columns: {some_of(columns)}",
        *did_you_mean(name, columns, form),
    )


def one_of(names: Iterable[str]) -> str:
    """'a', 'b' or 'c'."""
    *others, last = map(repr, names)
    return f"{', '.join(others)} or {last}" if others else last


def some_of(names: Sequence[str], most: int = 30) -> str:
    """Names in a row, no more than one can read."""
    more = f", … {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
