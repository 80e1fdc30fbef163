"""The bar that all long commands show on a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn


def make_bar(console: Console) -> tuple[Progress, TaskID]:
    """A bar with a text behind it, hidden until its task is made visible; it leaves no trace."""
    bar = Progress(
        TextColumn(" "),
        BarColumn(40),
        TextColumn("{task.description}"),
        console=console,
        transient=True,
    )
    return bar, bar.add_task("", total=None, visible=False)
