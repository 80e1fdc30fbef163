"""Where commands print: every text from outside is made harmless first."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, redirect_stdout
from textwrap import wrap
from typing import Any, Self, TypeVar

from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from pipeline.job.template.json_text import plain_json
from pipeline.printable import json_safe, shown

T = TypeVar("T")
_PLAIN_SECONDS = 5.0


class _Console(Console):
    """Prints texts as they are: no markup, no colours for numbers, no emoji. On a terminal lines
    break between words, elsewhere lines are not broken. No row, name or message can send control
    sequences to the terminal through it."""

    def __init__(self, *, stderr: bool) -> None:
        super().__init__(stderr=stderr, markup=False, highlight=False, soft_wrap=True, emoji=False)

    def render_str(self, text: str, **options: Any) -> Text:
        safe = shown(text)
        if self.is_terminal:
            safe = "\n".join(_between_words(line, self.width) for line in safe.split("\n"))
        return super().render_str(safe, **options)


def _between_words(line: str, width: int) -> str:
    """``line`` broken into lines of ``width`` columns, with continuation lines indented. Text to
    copy stays in one piece: a word that is wider (a path), and a line with a command."""
    if cell_len(line) <= width or "rackmill " in line:
        return line
    further_in = " " * (len(line) - len(line.lstrip()) + 2)
    parts = wrap(
        line, width, subsequent_indent=further_in, break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(parts)


OUT = _Console(stderr=False)  # what the user asked for
ERR = _Console(stderr=True)  # everything else


def note(line: str) -> None:
    """Print a remark while the command works."""
    ERR.print(f"  {line}", style="dim")


def only_data_on_stdout() -> AbstractContextManager[object]:
    """For the time when Ray works: it prints messages about dying workers to stdout."""
    return redirect_stdout(sys.stderr)


def print_json(content: Any, *, in_one_line: bool = False) -> None:
    """One JSON document on stdout; ``in_one_line`` if more of them may follow."""
    plain = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
    indent = None if in_one_line else 1
    print(json_safe(json.dumps(plain_json(content), indent=indent, ensure_ascii=plain)))


def tell(made: T, say: Callable[[T], object], *, as_json: bool) -> None:
    """Print what a command has made as JSON (by its own ``as_json``, if it is no plain data), or
    let ``say`` print it in words."""
    if as_json:
        print_json(made.as_json() if hasattr(made, "as_json") else made)
    else:
        say(made)


def prepare_streams() -> None:
    """Print the code of a character that a terminal cannot show, instead of crashing."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


class ProgressLine:
    """Progress: on a terminal a bar with text behind it, hidden until there is something to show,
    which leaves no trace; elsewhere a line every few seconds."""

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
        """Begin something of unknown size."""
        self._bar.reset(self._task, total=None, visible=True, description=text)

    @property
    def speed(self) -> float:
        """Counted units per second."""
        return self._bar.tasks[0].speed or 0.0

    def describe(self, text: str) -> None:
        """Change the text behind the bar."""
        self._bar.update(self._task, description=text)

    def show(self, text: str, done: float, total: float | None, plain: str = "") -> None:
        """``plain``: the line's text where there is no bar; by default ``text``."""
        if ERR.is_terminal:
            task = self._task
            self._bar.update(task, visible=True, description=text, completed=done, total=total)
        elif time.monotonic() - self._printed >= _PLAIN_SECONDS:
            self._printed = time.monotonic()
            ERR.print(f"  {plain or text}")
