"""Lines of a log: what each is about, and how it is written and read again.

Components log with standard ``logging``, one logger per module. ``about`` sets the run, worker and
unit that the lines logged inside it are about; a handler with ``Context`` puts these on every
record. A line is one JSON object. Secrets are masked before it is written, because later readers do
not know them, and texts of rows are never logged.
"""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from types import TracebackType

from pipeline.printable import json_safe, printable, shown

ROOT = "pipeline"  # the parent of all our loggers
_LONGEST_TEXT = 2000  # characters of one line's text
_LONGEST_TRACE = 6000
_FILE_BYTES = 8 << 20
_REASON_LINES = 3


@dataclass(frozen=True, slots=True)
class About:
    """What a line is about; empty where nothing is known."""

    run: str = ""
    worker: str = ""
    unit: str = ""


_NOTHING = About()
_about: ContextVar[About] = ContextVar("about", default=_NOTHING)


@contextmanager
def about(
    *, run: str | None = None, worker: str | None = None, unit: str | None = None
) -> Iterator[None]:
    """What this thread logs inside this is about these; None leaves a value as it was. Threads
    started inside it do not inherit it: see ``Context``."""
    given = {"run": run, "worker": worker, "unit": unit}
    token = _about.set(replace(_about.get(), **{k: v for k, v in given.items() if v is not None}))
    try:
        yield
    finally:
        _about.reset(token)


def current_run() -> str:
    """The run that this thread works for; empty outside any."""
    return _about.get().run


class Context(logging.Filter):
    """Puts ``run``, ``worker`` and ``unit`` on records: those of ``about``, otherwise those of the
    process. Records of another run are dropped."""

    def __init__(self, run: str = "", worker: str = "") -> None:
        super().__init__()
        self._run, self._worker = run, worker

    def filter(self, record: logging.LogRecord) -> bool:
        known = _about.get()
        record.run = known.run or self._run
        record.worker = known.worker or self._worker
        record.unit = known.unit
        return not self._run or (known.run or self._run) == self._run


@dataclass(frozen=True, slots=True)
class LogLine:
    """``at``: epoch seconds, of the machine that wrote it; ``level``: a name of ``logging``'s;
    ``where``: the module."""

    at: float
    level: str
    worker: str
    unit: str
    where: str
    text: str

    @classmethod
    def of(cls, record: logging.LogRecord) -> LogLine:
        """From a record that ``Context`` has seen, without secrets."""
        text = shown(record.getMessage())[:_LONGEST_TEXT]
        if record.exc_info and record.exc_info[0] is not None:
            kind, _, trace = record.exc_info
            text += f"\n{kind.__name__}{_calls(trace)}"
        return cls(
            at=round(record.created, 3),
            level=record.levelname,
            worker=getattr(record, "worker", ""),
            unit=getattr(record, "unit", ""),
            where=record.name.removeprefix(f"{ROOT}."),
            text=text,
        )

    def encode(self) -> bytes:
        """One line."""
        return json_safe(json.dumps(asdict(self), ensure_ascii=False)).encode() + b"\n"

    @classmethod
    def decode(cls, content: bytes) -> LogLine | None:
        """None for a line of another form."""
        try:
            found = json.loads(content)
            at = float(found["at"])
            datetime.fromtimestamp(at, UTC)
            line = cls(**(found | {"at": at}))
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError, OSError):
            return None
        texts = (line.level, line.worker, line.unit, line.where, line.text)
        return line if all(isinstance(text, str) for text in texts) else None

    @property
    def level_number(self) -> int:
        return logging.getLevelNamesMapping().get(self.level, logging.INFO)

    def __str__(self) -> str:
        """For people: in UTC, without anything that a terminal interprets."""
        time = f"{datetime.fromtimestamp(self.at, UTC):%Y-%m-%d %H:%M:%S.%f}"[:-3]
        unit = f" [{self.unit}]" if self.unit else ""
        text = self.text.replace("\n", "\n  ")
        return printable(f"{time} {self.level:<7} {self.worker} {self.where}{unit}: {text}")


class _FileLog(RotatingFileHandler):
    """Lines for people. What cannot be written is lost, and stops nothing."""

    def format(self, record: logging.LogRecord) -> str:
        return str(LogLine.of(record))

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802, ARG002
        return


@contextmanager
def file_log(path: Path) -> Iterator[None]:
    """Meanwhile this process logs to ``path``, and to one older file beside it: for services, which
    run no job themselves."""
    options = {"encoding": "utf-8", "errors": "backslashreplace"}
    handler = _FileLog(path, maxBytes=_FILE_BYTES, backupCount=1, delay=True, **options)
    handler.addFilter(Context())
    ours, level = logging.getLogger(ROOT), logging.getLogger(ROOT).level
    ours.addHandler(handler)
    ours.setLevel(logging.INFO)
    try:
        yield
    finally:
        ours.removeHandler(handler)
        ours.setLevel(level)
        handler.close()


def _calls(trace: TracebackType | None) -> str:
    """Where an exception came from. Without its message, which may quote a row."""
    frames = "".join(traceback.format_tb(trace)).rstrip()[-_LONGEST_TRACE:]
    return f" at\n{frames}" if frames else ""


def last_words(log: Path | None, otherwise: str) -> str:
    """Why a command ended, in one line, from what it printed to ``log``; ``otherwise`` where it
    said nothing."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log else []
    at = max((n for n, line in enumerate(lines) if line.startswith("error:")), default=None)
    said = lines[at : at + _REASON_LINES] if at is not None else lines[-1:]
    return " · ".join(line.strip() for line in said) or otherwise
