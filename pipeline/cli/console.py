"""Where commands print: every text from outside is made harmless on its way."""

from __future__ import annotations

import json
import sys
import time
from contextlib import AbstractContextManager
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from pipeline.job.template.json_text import plain_json
from pipeline.printable import json_safe, shown

_PLAIN_SECONDS = 5.0


class _Console(Console):
    """Prints texts as they are: no markup, no colours for numbers, no wrapping, no emoji. No row,
    name or message can reach the terminal's controls through it."""

    def __init__(self, *, stderr: bool) -> None:
        super().__init__(stderr=stderr, markup=False, highlight=False, soft_wrap=True, emoji=False)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(shown(text), **options)


OUT = _Console(stderr=False)  # what was asked for
ERR = _Console(stderr=True)  # everything else


def note(line: str) -> None:
    """A remark on the way."""
    ERR.print(f"  {line}", style="dim")


def print_json(content: Any, *, in_one_line: bool = False) -> None:
    """One JSON document on stdout; ``in_one_line`` where more of them may follow."""
    plain = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
    indent = None if in_one_line else 1
    print(json_safe(json.dumps(plain_json(content), indent=indent, ensure_ascii=plain)))


def prepare_streams() -> None:
    """A terminal that lacks a character gets its number, not a crash."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


class ProgressLine(AbstractContextManager["ProgressLine"]):
    """How far something is: on a terminal a bar with a text behind it, hidden until there is
    something to show, that leaves no trace; elsewhere a line every few seconds."""

    def __init__(self) -> None:
        columns = (TextColumn(" "), BarColumn(40), TextColumn("{task.description}"))
        self._bar = Progress(*columns, console=ERR, transient=True, disable=not ERR.is_terminal)
        self._task = self._bar.add_task("", total=None, visible=False)
        self._printed = -_PLAIN_SECONDS

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def begin(self, text: str) -> None:
        """Something whose size nobody knows yet."""
        self._bar.reset(self._task, total=None, visible=True, description=text)

    @property
    def speed(self) -> float:
        """Of what is counted, a second."""
        return self._bar.tasks[0].speed or 0.0

    def describe(self, text: str) -> None:
        """Another text behind the bar."""
        self._bar.update(self._task, description=text)

    def show(self, text: str, done: float, total: float | None, plain: str = "") -> None:
        """``plain``: what a line says where there is no bar; by default the text."""
        if ERR.is_terminal:
            task = self._task
            self._bar.update(task, visible=True, description=text, completed=done, total=total)
        elif time.monotonic() - self._printed >= _PLAIN_SECONDS:
            self._printed = time.monotonic()
            ERR.print(f"  {plain or text}")
