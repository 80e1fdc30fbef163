"""Text in the columns of a terminal: Chinese letters and emoji take two, marks on letters none."""

from __future__ import annotations

from rich.cells import cell_len


def columns_of(text: str) -> int:
    """How many columns ``text`` takes."""
    return cell_len(text)


def padded(text: str, columns: int) -> str:
    """``text`` with spaces after it, so that it takes ``columns`` at least."""
    return text + " " * (columns - cell_len(text))


def cut(text: str, columns: int) -> str:
    """``text`` on one line of ``columns`` at most, cut between words where it can be."""
    line = text.strip().replace("\n", "⏎").replace("\t", " ")
    if cell_len(line) <= columns:
        return line
    head = ""
    taken = 1  # for the sign that it goes on
    for letter in line:
        taken += cell_len(letter)
        if taken > columns and head:
            break
        head += letter
    space = head.rfind(" ")
    return (head[:space] if space > len(head) // 2 else head).rstrip() + "…"
