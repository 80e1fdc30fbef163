"""Text in a terminal's columns: Chinese characters and emoji take two, combining marks none."""

from __future__ import annotations

from rich.cells import cell_len


def columns_of(text: str) -> int:
    """The number of columns that ``text`` takes."""
    return cell_len(text)


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
