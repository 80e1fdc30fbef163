"""Where commands print: every text from outside is made harmless on its way."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console
from rich.text import Text

from pipeline.printable import json_safe, shown


class _Console(Console):
    """A console through which no row, name or message can reach the terminal's controls."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(shown(text), **options)


def make_console(*, stderr: bool = False) -> Console:
    """A console that prints texts as they are: no markup for numbers, no wrapping, no emoji."""
    return _Console(stderr=stderr, highlight=False, soft_wrap=True, emoji=False)


def print_json(content: Any) -> None:
    """One JSON document on stdout."""
    plain = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
    print(json_safe(json.dumps(content, indent=1, ensure_ascii=plain)))


def prepare_streams() -> None:
    """A terminal that lacks a character gets its number, not a crash."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
