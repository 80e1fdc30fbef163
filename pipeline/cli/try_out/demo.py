"""`rackmill demo`: labels 512 tweets, wherever rackmill is installed, and shows the result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.cells import cell_len

from pipeline.cli.look.show import row_lines
from pipeline.cli.options import Fresh, Output, Settings, load_with, rows_option
from pipeline.cli.terminal.columns import padded
from pipeline.cli.terminal.console import OUT, note
from pipeline.humanize import count, plural
from pipeline.output.commit.records import PAGE

if TYPE_CHECKING:
    from pipeline.output.rows.stored_rows import StoredRows
    from pipeline.report.summary import Summary

_JOB, _DATA = "label-tweets.yaml", "data/tweets"
_WRONG = 3
_DIFFERS = "label != sentiment"
_BAR_CHARACTERS = 40
_MEANT = 0.05  # calibration error; below it, confidences are reliable
_PACKAGE = Path(__file__).parents[2]


def gallery() -> Path:
    """The folder of example jobs, with their data: in an installed wheel it is part of the package,
    in a clone it is next to the package."""
    installed = _PACKAGE / "gallery"
    return installed if installed.is_dir() else _PACKAGE.parent / "jobs"


def demo_command(
    rows: Annotated[int | None, rows_option("Only the first N of 512.")] = None,
    output: Output = None,
    settings: Settings = None,
    fresh: Fresh = False,
) -> None:
    """Label 512 tweets with Gemma 3 270M, into runs/label-tweets in this folder, and show how well
    that went. Exit codes are those of `run`."""
    note("demo    512 tweets that people graded: negative, or positive?")
    data = (gallery() / _DATA).resolve()
    here = Path.cwd().resolve()
    if data.is_relative_to(here):  # as in the job file: so `run` continues the same output
        data = data.relative_to(here)
    changes = [f"input.path={data}", *(settings or [])]
    job = load_with(gallery() / _JOB, changes, output=output)
    from pipeline.cli.run.run_watcher import attended, print_result
    from pipeline.driver.run import RunOptions, run

    with attended() as (watcher, stop):
        summary = run(job, RunOptions(rows, fresh), watcher, stop)
    print_result(summary)
    if summary.labels:
        _picture(summary)
    raise typer.Exit(summary.exit_code)


def _picture(summary: Summary) -> None:
    from pipeline.output.rows.stored_rows import StoredRows
    from pipeline.report import selection

    OUT.print()
    for line in share_lines(summary.labels, OUT.width):
        OUT.print(line)
    stored = StoredRows(summary.output)
    wrong = selection.rows(stored, selection.Selection(where=_DIFFERS, rows=_WRONG))
    if wrong:
        OUT.print("\nwhere people graded them otherwise, for example:")
    for line in row_lines(stored, wrong, OUT.width):
        OUT.print(line)
    OUT.print(f'\nmore of them:  rackmill show {summary.output} --where "{_DIFFERS}"')
    OUT.print(f"the report:    {summary.output}/{PAGE}")
    OUT.print()
    for line in trust_lines(summary.trust.get("label"), judged(stored)):
        OUT.print(line)


@dataclass(frozen=True)
class HeldOutAccuracy:
    """For ``rows`` that were not used for fitting: how many labels agree with the people's grades,
    and how far the confidences are from that (0 to 1)."""

    rows: int
    right: int
    calibration_error: float

    @property
    def words(self) -> str:
        share = 100 * self.right / max(1, self.rows)
        return f"{share:.1f} % right, calibration error {self.calibration_error:.3f}"


def judged(stored: StoredRows) -> tuple[HeldOutAccuracy, HeldOutAccuracy]:
    """The model's own answers and the current ones, graded on the rows that are not ``checked``:
    nothing was learned from those."""
    import numpy as np

    from pipeline.trust.scores import calibration_error

    columns = ["checked", "sentiment", "completion", "label", "raw_confidence", "confidence"]
    rows = [
        row
        for table in stored.tables()
        for row in table.select(columns).to_pylist()
        if row["checked"] is None and row["label"] is not None
    ]

    def agreement(label: str, sure: str) -> HeldOutAccuracy:
        right = np.array([row["sentiment"] == row[label] for row in rows], np.bool_)
        confidences = np.array([row[sure] for row in rows], np.float64)
        error = calibration_error(confidences, right) if rows else 0.0
        return HeldOutAccuracy(len(rows), int(right.sum()), error)

    return agreement("completion", "raw_confidence"), agreement("label", "confidence")


def trust_lines(
    block: Mapping[str, Any] | None, found: tuple[HeldOutAccuracy, HeldOutAccuracy]
) -> list[str]:
    """What the checked rows improved. ``block``: see ``Summary.trust``."""
    from pipeline.report.trust.words import missing_words, promise_words

    before, after = found
    lines = [f"by the grades of the {count(before.rows)} rows that were not checked:"]
    if block is None or not block.get("calibration"):
        why = missing_words(block) if block else None
        return [*lines, f"  {before.words}", *([why] if why else [])]
    lines += [f"  before  {before.words}", f"  after   {after.words}"]
    if after.right < before.right and after.calibration_error < _MEANT:
        fewer, checked = before.right - after.right, block["gold"]["rows"]
        own = block["before"]["accuracy"]["value"]
        lines.append(
            f"  ({plural(fewer, 'label')} fewer right: {plural(checked, 'checked row')} draw the "
            f"line only roughly; of these, the model had {100 * own:.1f} % right. But confidences "
            "now mean what they say)"
        )
    promise = promise_words(block)
    return lines + ([promise] if promise else [])


def share_lines(labels: Mapping[str, int], width: int) -> list[str]:
    """A line for each label, of at most ``width`` columns if its name leaves room for a bar: name,
    bar, number, and share of all."""
    names = max(map(cell_len, labels), default=0)
    numbers = max((len(count(n)) for n in labels.values()), default=0)
    room = max(1, min(_BAR_CHARACTERS, width - names - numbers - len("     100 %")))
    most, every = max(labels.values(), default=0), sum(labels.values())
    return [
        f"{padded(name, names)}  {'█' * max(1, round(n / most * room)) if n else '':<{room}}  "
        f"{count(n):>{numbers}} {n / every:>4.0%}".replace("%", " %")
        for name, n in labels.items()
    ]
