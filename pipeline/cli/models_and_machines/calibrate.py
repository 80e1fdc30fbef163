"""`rackmill calibrate`: measures an engine's steps, for the simulator."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.options import Json, set_option
from pipeline.cli.terminal.console import OUT, ProgressLine, print_json
from pipeline.errors import UsageError
from pipeline.humanize import plural

if TYPE_CHECKING:
    from pipeline.engine.standalone.calibrate import StepTimeCalibration


def calibrate_command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The model, as in job files.")],
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="Where the calibration goes.")
    ] = Path("calibration.json"),
    settings: Annotated[
        list[str] | None, set_option("Change one engine or sampling setting (may be repeated).")
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=1, metavar="N", help="Measure no longer than that.")
    ] = 60.0,
    as_json: Json = False,
) -> None:
    """Measure an engine's steps here and write what they cost: `simulate --calibration FILE`."""
    from pipeline.engine.standalone.calibrate import calibrate

    _check_place(out)
    with ProgressLine() as line:
        calibration = calibrate(
            model,
            settings or (),
            seconds=seconds,
            note=lambda what, done: line.show(what, done, 1.0, plain=f"{done:.0%}  {what}"),
        )
    content = calibration.as_json()
    try:
        out.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as e:
        raise UsageError(f"--out {out} cannot be written: {e.strerror}") from None
    if as_json:
        print_json({"file": str(out), **content})
    else:
        print_calibration(calibration, out)


def _check_place(out: Path) -> None:
    """Raises UsageError before a minute of measuring is spent."""
    if out.is_dir():
        raise UsageError(f"--out {out} is a folder", "name a file in it")
    if not out.absolute().parent.is_dir():
        raise UsageError(f"--out {out}: there is no folder {out.parent}", "make it first")


def print_calibration(calibration: StepTimeCalibration, out: Path) -> None:
    """The measurements, step by step, and the errors of the fit."""
    engine = f"{calibration.engine} on {calibration.device}"
    OUT.print(f"{calibration.model} · {engine}\n")
    OUT.print(f"{'step':<44} {'measured':>10} {'fitted':>10} {'off':>7}")
    for one, error in zip(calibration.measured, calibration.fit.errors, strict=True):
        step = 1000 * one.seconds / one.steps
        line = f"{one.name:<44} {step:>7.1f} ms {step * (1 + error):>7.1f} ms {error:>+7.1%}"
        OUT.print(line)
    busy = sum(not one.quiet for one in calibration.measured)
    if busy:
        OUT.print(
            f"\nother programs kept this machine busy during {busy} of "
            f"{plural(len(calibration.measured), 'measurement')}: measure again without them"
        )
    fit = calibration.fit
    OUT.print(
        f"\nthe fit is off by {fit.median_error:.1%} in the middle, {fit.largest_error:.1%} at most"
        f"\n→ {out}"
    )
