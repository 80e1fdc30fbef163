"""What commands print fits the terminal: what matters least is left out, and no word is cut."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import sys
import termios
from functools import cache
from pathlib import Path

import pytest
from rich.cells import cell_len

_RACKMILL = Path(sys.executable).with_name("rackmill")


@cache
def on_terminal(columns: int, *arguments: str, term: str = "xterm") -> str:
    """What `rackmill` prints on a terminal so wide."""
    pid, screen = pty.fork()
    if pid == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "NO_COLOR")}
        os.execve(_RACKMILL, ["rackmill", *arguments], environment | {"TERM": term})
    said = b""
    while True:
        try:
            part = os.read(screen, 1 << 16)
        except OSError:  # the command has ended
            break
        if not part:
            break
        said += part
    os.waitpid(pid, 0)
    os.close(screen)
    return said.decode().replace("\r\n", "\n")


@pytest.mark.parametrize("columns", [60, 80, 120])
@pytest.mark.parametrize(
    "command", [("fit", "--gpu", "rtx3090"), ("--help",), ("model", "list"), ("fit", "--help")]
)
def test_lines_are_no_wider_than_the_terminal(columns: int, command: tuple[str, ...]) -> None:
    lines = on_terminal(columns, *command).splitlines()

    wider = [line for line in lines if cell_len(line) > columns and "rackmill " not in line]
    assert [line for line in wider if " " in line.strip()] == []
    assert len(lines) > 5


def test_a_narrow_table_keeps_what_matters_most() -> None:
    narrow, wide = (on_terminal(columns, "fit", "--gpu", "rtx3090") for columns in (60, 120))

    assert "announced" not in narrow
    assert "KV-bound" not in narrow
    assert "requests at once of" in narrow
    assert "announced" in wide
    assert "KV-bound" in wide


def test_a_dumb_terminal_gets_plain_text() -> None:
    assert "\x1b" not in on_terminal(80, "fit", "--gpu", "rtx3090", term="dumb")


@pytest.mark.parametrize("columns", [60, 80])
def test_cards_for_which_there_is_no_room_come_below_the_others(columns: int) -> None:
    told = on_terminal(columns, "fit")
    table = told[told.index("requests of 1k") : told.index("where the announcement")]

    rows = [line for line in table.splitlines() if line.startswith("27B int4")]
    assert [len(row) for row in rows] == [len(head) for head in _heads(table)]
    assert len(rows) > 1


def _heads(table: str) -> list[str]:
    return [line for line in table.splitlines()[1:] if line.startswith(" " * 11)]
