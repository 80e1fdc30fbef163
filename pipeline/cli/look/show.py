"""`rackmill show`: rows of an output in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.cells import cell_len

from pipeline.cli.options import Json, OutputFolder, rows_option
from pipeline.cli.terminal.columns import cut, filled, padded
from pipeline.cli.terminal.console import OUT, note, print_json
from pipeline.job.template.field_text import as_shown

if TYPE_CHECKING:
    from pipeline.output.rows.right_answers import GradedQuestion
    from pipeline.output.rows.stored_rows import StoredRows

_ROWS = 20
_MIDDLE = 24  # columns of an answer, before the row's text gets the rest of the line

Where = Annotated[
    str | None,
    typer.Option(metavar="SQL", help="Only rows for which this holds: \"label = 'spam'\"."),
]


def show_command(
    output: OutputFolder,
    wrong: Annotated[
        bool, typer.Option("--wrong", help="Rows whose label is not the right answer.")
    ] = False,
    errors: Annotated[bool, typer.Option("--errors", help="Rows that failed, and why.")] = False,
    least_confident: Annotated[
        bool, typer.Option("--least-confident", help="The most doubtful labels first.")
    ] = False,
    where: Where = None,
    rows: Annotated[int, rows_option("At most so many.")] = _ROWS,
    as_json: Json = False,
) -> None:
    """Show rows of an output: the first ones, or those that are worth a look."""
    from pipeline.output.columns.probabilities import why_not_sure
    from pipeline.output.rows.stored_rows import StoredRows
    from pipeline.report import selection

    stored = StoredRows(output)
    asked = selection.Selection(wrong, errors, least_confident, where, rows + 1)
    found = selection.rows(stored, asked)
    if as_json:
        print_json(
            {
                "output": output,
                "rows": [_named(stored, row) for row in found[:rows]],
                "more": len(found) > rows,
            }
        )
        return
    for line in row_lines(stored, found[:rows], OUT.width):
        OUT.print(line)
    why = why_not_sure(stored.job.asked if stored.job else (), found[:rows])
    if why is not None:
        note(why)
    if not found:
        OUT.print("no such row")
    elif len(found) > rows:
        OUT.print(f"… and more: --rows {rows * 5}, or --where")


def _named(stored: StoredRows, row: Mapping[str, Any]) -> dict[str, Any]:
    """The row for users, with its place in the input under free column names."""
    from pipeline.output.rows.stored_rows import FILE, ROW

    own = {name: value for name, value in row.items() if name not in (FILE, ROW)}
    return own | {shown: row[name] for name, shown in stored.shown_names.items()}


def row_lines(stored: StoredRows, rows: Sequence[Mapping[str, Any]], width: int) -> list[str]:
    """A line for each row, of at most ``width`` columns: whether it is right, the answer, its
    confidence, the row's text, and its place in the input."""
    from pipeline.output.rows.stored_rows import FILE, ROW

    lines = []
    judged = stored.right_answers.judged if rows else ()
    several = len({row[FILE] for row in rows}) > 1
    answers = [_answer(stored, row) for row in rows]
    widest = min(_MIDDLE * len(stored.answer_columns), max(_MIDDLE, width // 2))
    answer_width = min(widest, max(map(cell_len, answers), default=0))
    for row, answer in zip(rows, answers, strict=True):
        place = f"{file_in(row[FILE])} " if several else ""
        graded = [one for one in judged if one.truth(row) is not None]
        wrong = [one for one in graded if one.is_wrong(row) or row["error"] is not None]
        mark = "!" if row["error"] is not None else "✗" if wrong else "✓" if graded else " "
        confidence = stored.confidence(row)
        sure = f" {confidence:.2f}" if confidence is not None else ""
        end = f"  gold: {_truths(stored, wrong, row)}" if mark == "✗" else ""
        told = padded(cut(answer, answer_width), answer_width)
        start = f"{place}{row[ROW]:>6}  {mark} {told}{sure}  "
        lines.append(filled(start, _asked(stored, row), end, width))
    return lines


def _answer(stored: StoredRows, row: Mapping[str, Any]) -> str:
    if row["error"] is not None:
        return f"{row['error']['type']}: {row['error']['message']}"
    columns = stored.answer_columns
    if len(columns) == 1:
        return as_shown(row[columns[0]])
    return ", ".join(f"{name} {as_shown(row[name])}" for name in columns)


def _truths(stored: StoredRows, wrong: Sequence[GradedQuestion], row: Mapping[str, Any]) -> str:
    """The right answers, where the row's answers differ."""
    if len(stored.answer_columns) == 1:
        return str(wrong[0].truth(row))
    return ", ".join(f"{one.asked.name} {one.truth(row)}" for one in wrong)


def _asked(stored: StoredRows, row: Mapping[str, Any]) -> str:
    """The part of the row in its prompt, or else its columns of the input."""
    texts = [as_shown(row[name]) for name in stored.asked_columns if row[name] is not None]
    return " · ".join(texts)


def file_in(name: str) -> str:
    """An input file's name for people: ``name`` without the number of its path."""
    return name.partition("/")[2] or name
