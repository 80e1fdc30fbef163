"""Text in a terminal's columns: Chinese characters and emoji take two, combining marks none."""

from __future__ import annotations

from rich.cells import cell_len


def padded(text: str, columns: int) -> str:
    """``text`` padded with spaces to at least ``columns``."""
    return text + " " * (columns - cell_len(text))


def cut(text: str, columns: int) -> str:
    """``text`` on one line of at most ``columns``, cut between words where possible."""
    line = text.strip().replace("\n", "⏎").replace("\t", " ")
    if cell_len(line) <= columns:
        return line
    head = ""
    taken = 1  # for the ellipsis
    for letter in line:
        taken += cell_len(letter)
        if taken > columns and head:
            break
        head += letter
    space = head.rfind(" ")
    return (head[:space] if space > len(head) // 2 else head).rstrip() + "…"


def filled(start: str, text: str, end: str, columns: int) -> str:
    """A line of ``columns``: ``text`` gets what room ``start`` and ``end`` leave, and at least a
    dozen columns."""
    room = max(12, columns - cell_len(start) - cell_len(end))
    return f"{start}{padded(cut(text, room), room if end else 0)}{end}"
