"""`rackmill calibrate`: measure an engine's steps, for the simulator."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from pipeline.cli.console import make_console, print_json
from pipeline.errors import UsageError
from pipeline.humanize import plural

if TYPE_CHECKING:
    from pipeline.engine.calibrate.calibrate import Calibration

_out = make_console()
_err = make_console(stderr=True)
_EVERY_SECONDS = 5.0  # a line, where there is no terminal to show a bar


def calibrate_command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The model, as in job files.")],
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="Where the calibration goes.")
    ] = Path("calibration.json"),
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY.PATH=VALUE",
            help="Change one engine or sampling setting (may be repeated).",
        ),
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=1, metavar="N", help="Measure no longer than that.")
    ] = 60.0,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object on stdout, nothing else.")
    ] = False,
) -> None:
    """Measure an engine's steps here and write what they cost: `simulate --calibration FILE`."""
    from pipeline.cli.bar import make_bar
    from pipeline.engine.calibrate.calibrate import calibrate

    _check_place(out)
    bar, task = make_bar(_err)
    said = -_EVERY_SECONDS

    def note(what: str, done: float) -> None:
        nonlocal said
        if _err.is_terminal:
            bar.update(task, total=1.0, completed=done, description=what, visible=True)
        elif time.monotonic() - said >= _EVERY_SECONDS:
            said = time.monotonic()
            _err.print(f"  {done:.0%}  {what}", style="dim", markup=False)

    with bar:
        calibration = calibrate(model, settings or (), seconds=seconds, note=note)
    content = calibration.as_json()
    try:
        out.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as e:
        raise UsageError(f"--out {out} cannot be written: {e.strerror}") from None
    if as_json:
        print_json({"file": str(out), **content})
    else:
        print_calibration(_out, calibration, out)


def _check_place(out: Path) -> None:
    """Raises UsageError before a minute is spent."""
    if out.is_dir():
        raise UsageError(f"--out {out} is a folder", "name a file in it")
    if not out.absolute().parent.is_dir():
        raise UsageError(f"--out {out}: there is no folder {out.parent}", "make it first")


def print_calibration(console: Console, calibration: Calibration, out: Path) -> None:
    """What was measured, step by step, and how near the fit comes."""
    engine = f"{calibration.engine} on {calibration.device}"
    console.print(f"{calibration.model} · {engine}\n", markup=False)
    console.print(f"{'step':<44} {'measured':>10} {'fitted':>10} {'off':>7}", markup=False)
    for one, error in zip(calibration.measured, calibration.fit.errors, strict=True):
        step = 1000 * one.seconds / one.steps
        line = f"{one.name:<44} {step:>7.1f} ms {step * (1 + error):>7.1f} ms {error:>+7.1%}"
        console.print(line, markup=False)
    busy = sum(not one.quiet for one in calibration.measured)
    if busy:
        console.print(
            f"\nother programs kept this machine busy during {busy} of "
            f"{plural(len(calibration.measured), 'measurement')}: measure again without them",
            markup=False,
        )
    fit = calibration.fit
    console.print(
        f"\nthe fit is off by {fit.median_error:.1%} in the middle, {fit.largest_error:.1%} at most"
        f"\n→ {out}",
        markup=False,
    )
