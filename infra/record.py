"""Make the terminal recording of the README anew: python infra/record.py

Runs the demo (with the real engine) and a look at its rows, and draws what a terminal shows in the
end as infra/recording.svg.
"""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

_ROOT = Path(__file__).resolve().parent.parent
_COLUMNS = 100
_COMMANDS = (
    "rackmill demo",
    "rackmill try jobs/label-tweets.yaml --rows 3",
    "rackmill show runs/label-tweets --least-confident --rows 3",
)
_REDRAWN = re.compile(r"\x1b\[[0-9;?]*[A-LN-Za-ln-z]")  # all codes but those for colours


def run(command: str, folder: str) -> str:
    """What stands on the terminal when ``command`` has ended."""
    program, *arguments = command.split()
    main, other = pty.openpty()
    process = subprocess.Popen(
        [str(_ROOT / ".venv/bin" / program), *arguments],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=other,
        stderr=other,
        env={**os.environ, "COLUMNS": str(_COLUMNS), "TERM": "xterm-256color"},
    )
    os.close(other)
    shown = bytearray()
    while True:
        try:
            part = os.read(main, 1 << 16)
        except OSError:  # how Linux says that nobody writes any more
            break
        if not part:
            break
        shown += part
    os.close(main)
    if process.wait():
        raise SystemExit(f"{command} ended with {process.returncode}:\n{shown.decode()}")
    return on_screen(shown.decode("utf-8", "replace"))


def on_screen(text: str) -> str:
    """``text`` as a terminal has it after all its redrawing: of each line the last version."""
    lines: list[str] = [""]
    for part in re.split(r"(\r\n|\n|\r|\x1b\[\d*A|\x1b\[2K)", text):
        if part in ("\r\n", "\n"):
            lines.append("")
        elif part in ("\r", "\x1b[2K"):
            lines[-1] = ""
        elif re.fullmatch(r"\x1b\[\d*A", part):
            if len(lines) > 1:
                lines.pop()
            lines[-1] = ""
        else:
            lines[-1] += _REDRAWN.sub("", part)
    return "\n".join(lines).rstrip("\n")


def main() -> None:
    console = Console(
        record=True, width=_COLUMNS, file=io.StringIO(), force_terminal=True, highlight=False
    )
    with tempfile.TemporaryDirectory() as folder:
        os.symlink(_ROOT / "jobs", Path(folder) / "jobs")
        for command in _COMMANDS:
            console.print(Text(f"$ {command}", style="bold"))
            console.print(Text.from_ansi(run(command, folder)))
            console.print()
    target = _ROOT / "infra/recording.svg"
    target.write_text(console.export_svg(title="rackmill"), encoding="utf-8")
    print(target.relative_to(_ROOT))


if __name__ == "__main__":
    main()
