"""`rackmill compare`: two outputs over the same rows, and which of them is better."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.options import Json
from pipeline.cli.terminal.columns import cut, filled, padded
from pipeline.cli.terminal.console import OUT, note, print_json
from pipeline.humanize import count, duration, plural

if TYPE_CHECKING:
    from pipeline.output.rows.stored_rows import StoredRows
    from pipeline.report.comparison.comparison import Comparison

_SURE = 0.05  # probability of chance; above it, it is not known which is better
_WIDEST = 18  # columns of an answer


def compare_command(
    one: Annotated[str, typer.Argument(metavar="A", help="An output folder.")],
    other: Annotated[str, typer.Argument(metavar="B", help="Another one, over the same rows.")],
    show: Annotated[
        int,
        typer.Option(min=0, metavar="N", help="Also show N rows that are answered differently."),
    ] = 0,
    as_json: Json = False,
) -> None:
    """Compare two prompts, models or precisions: rows that changed, accuracy with intervals where
    right answers are known, McNemar's test, tokens and time."""
    from pipeline.output.rows.stored_rows import StoredRows
    from pipeline.report.comparison.comparison import compare_outputs, compare_questions

    first, second = StoredRows(one), StoredRows(other)
    compared = compare_outputs(first, second, show)
    questions = compare_questions(first, second)
    for problem in (*first.right_answers.problems, *second.right_answers.problems):
        note(f"some right answers are not known: {problem}")
    if as_json:
        each = {name: _counts(question) for name, question in questions.items()}
        print_json(_as_json(first, second, compared) | ({"questions": each} if each else {}))
    else:
        _print(first, second, compared, questions)


def _as_json(one: StoredRows, other: StoredRows, compared: Comparison) -> dict[str, Any]:
    return {
        "outputs": [one.address, other.address],
        **_counts(compared),
        "tokens_per_row": list(compared.tokens),
        "seconds": [one.seconds, other.seconds],
        "changes": [vars(change) for change in compared.changes],
    }


def _counts(compared: Comparison) -> dict[str, Any]:
    counts = {k: v for k, v in vars(compared).items() if k not in ("changes", "tokens")}
    if not compared.graded:
        return counts
    a, b = compared.accuracies
    return counts | {"accuracy": [a.as_json(), b.as_json()], "p_value": compared.p_value}


def _print(
    one: StoredRows,
    other: StoredRows,
    compared: Comparison,
    questions: Mapping[str, Comparison],
) -> None:
    changed = compared.answered - compared.same
    share = f" ({compared.same / compared.answered:.1%} agree)" if compared.answered else ""
    OUT.print(f"a  {one.address}\nb  {other.address}")
    failed = compared.rows - compared.answered
    left_out = f", {count(failed)} failed in one of them" if failed else ""
    rows = f"{plural(compared.rows, 'row')} in both{left_out}"
    OUT.print(f"{rows} · answers differ in {count(changed)}{share}")
    if compared.graded:
        OUT.print(
            f"b is right where a is wrong: {count(compared.only_second)} · "
            f"a is right where b is wrong: {count(compared.only_first)}"
        )
        graded = plural(compared.graded, "gold row")
        OUT.print(f"accuracy over {graded}   {_accuracies(compared)}")
    for name, question in questions.items():
        differ = question.answered - question.same
        right = f"   accuracy {_accuracies(question)}" if question.graded else ""
        OUT.print(f"  {name}: answers differ in {count(differ)}{right}")
    tokens = f"tokens   a {compared.tokens[0]:.0f}/row, b {compared.tokens[1]:.0f}/row"
    times = [duration(s) if s is not None else "not known" for s in (one.seconds, other.seconds)]
    OUT.print(f"{tokens} · time   a {times[0]}, b {times[1]}")
    for change in compared.changes:
        gold = f"  gold: {change.truth}" if change.truth is not None else ""
        answers = f"{_text(change.before)} → {_text(change.after)}"
        start = f"{change.row:>6}  {answers}{gold}  "
        values = " · ".join(_plain(v) for v in change.values.values() if v is not None)
        OUT.print(filled(start, values, "", OUT.width))
    if changed and not compared.changes:
        command = f"rackmill compare {one.address} {other.address} --show 20"
        OUT.print(f"the {plural(changed, 'row')}: {command}")


def _accuracies(compared: Comparison) -> str:
    told = "   ".join(
        f"{name} {share.value:.3f} ({share.bounds[0]:.3f}–{share.bounds[1]:.3f})"
        for name, share in zip("ab", compared.accuracies, strict=True)
    )
    return f"{told}   {_verdict(compared)}"


def _verdict(compared: Comparison) -> str:
    p = compared.p_value or 0.0
    if p >= _SURE:
        return f"McNemar p = {p:.2g}: which is better is not known"
    better = "b" if compared.only_second > compared.only_first else "a"
    return f"McNemar p = {p:.2g}: {better} is better"


def _text(value: Any) -> str:
    return padded(cut(_plain(value), _WIDEST), _WIDEST)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
