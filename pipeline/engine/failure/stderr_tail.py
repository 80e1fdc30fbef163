"""What an engine wrote before it died. Where its core is a separate process, the reason is only
there: the exception only says that there was one."""

from __future__ import annotations

import os
import re
from pathlib import Path

_MOST = 256 << 10  # bytes: a few tracebacks
# "… [core.py:1100] torch.OutOfMemoryError: CUDA out of memory. …", or the end of a traceback
_ERROR = re.compile(r"(?:^|\]\s)([\w.]*(?:Error|Exception|Interrupt)): (.*\S)", re.MULTILINE)
# how vLLM says that the reason is in the log of another process
ELSEWHERE = ("See root cause above", "See stack trace (above)")
_SAY_NOTHING = (*ELSEWHERE, "cancelled")


class StderrTail:
    """What this process and its children write from now on, where that goes into files."""

    def __init__(self) -> None:
        self._marks: dict[Path, int] = {}
        for number in (1, 2):
            try:
                path = Path(os.readlink(f"/proc/self/fd/{number}"))
                if path.is_file():
                    self._marks[path] = path.stat().st_size
            except OSError:
                continue

    @property
    def text(self) -> str:
        """The end of it."""
        parts: list[str] = []
        for path, mark in self._marks.items():
            try:
                with path.open("rb") as file:
                    size = file.seek(0, os.SEEK_END)
                    file.seek(max(mark, size - _MOST))
                    parts.append(file.read().decode(errors="replace"))
            except OSError:
                continue
        return "\n".join(parts)

    @property
    def reason(self) -> str | None:
        """The last error that says something, as "Kind: message"."""
        return last_error_in(self.text)


def last_error_in(log: str) -> str | None:
    """The last error in a log that says something, as "Kind: message"."""
    found = [f"{kind}: {message}" for kind, message in _ERROR.findall(log)]
    telling = [error for error in found if not any(word in error for word in _SAY_NOTHING)]
    return telling[-1] if telling else None
