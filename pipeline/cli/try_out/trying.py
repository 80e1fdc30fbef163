"""`rackmill try`: answers a few rows at once, with an engine that stays loaded."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.cells import cell_len

from pipeline.cli.options import JobFile, Json, Settings
from pipeline.cli.terminal.columns import cut, filled, padded
from pipeline.cli.terminal.console import ERR, OUT, print_json
from pipeline.errors import RackmillError
from pipeline.humanize import duration, plural
from pipeline.job.file.load import load_job
from pipeline.job.template.field_text import as_shown
from pipeline.job.template.json_text import json_text

if TYPE_CHECKING:
    from pipeline.driver.trial.trial import Trial, TriedRow

_ROWS, _MOST_ROWS = 5, 1000
_LOOK_SECONDS = 0.2
_WIDEST_ANSWER = 40


def try_command(
    job: JobFile,
    rows: Annotated[
        int, typer.Option(min=1, max=_MOST_ROWS, metavar="N", help="The first N rows.")
    ] = _ROWS,
    watch: Annotated[
        bool, typer.Option("--watch", help="Again whenever the job file is saved, until Ctrl-C.")
    ] = False,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Answer a few rows in seconds, and write nothing: the engine stays loaded for ten minutes, or
    until `run` needs the card. Edit the prompt, and try again. With --watch, --json prints an
    object a line."""
    if not watch:
        _once(job, settings, rows, as_json=as_json)
        return
    seen = 0
    while True:
        now = _changed(job)
        if now != seen:
            seen = now
            try:
                _once(job, settings, rows, as_json=as_json, again=True)
            except RackmillError as error:  # an unfinished edit: the next one may be valid
                ERR.print(f"error: {error}")
            ERR.print(f"waiting for {job} to be saved; Ctrl-C ends", style="dim")
        time.sleep(_LOOK_SECONDS)


def _changed(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return -1  # an editor is about to write the new file


def _once(
    path: Path, settings: list[str] | None, rows: int, *, as_json: bool, again: bool = False
) -> None:
    from pipeline.driver.trial.trial import try_rows

    loaded = load_job(path, settings or [])
    trial = try_rows(loaded, rows, lambda line: ERR.print(line, style="dim"))
    if as_json:
        print_json(_as_json(trial), in_one_line=again)
    else:
        _print(trial, " and ".join(f"`{column}`" for column in loaded.gold_columns))


def _as_json(trial: Trial) -> dict[str, Any]:
    rows = []
    for row in trial.rows:
        result = row.result
        error = (
            {"type": result.error.type, "message": result.error.message} if result.error else None
        )
        answer = {"label": result.label, "confidence": result.confidence} if result.label else {}
        rows.append(
            {"file": row.place.file, "row": row.place.row, "completion": result.completion}
            | answer
            | ({"fields": dict(result.fields)} if result.fields else {})
            | _answers(row)
            | {"prompt_tokens": result.prompt_tokens, "error": error}
        )
    return {"rows": rows, "seconds": trial.seconds, "warm": trial.warm}


def _answers(row: TriedRow) -> dict[str, Any]:
    """The answers to several questions, and the known right answers."""
    from pipeline.output.columns.question_columns import answer_fields

    if not row.asked:
        return {"gold": row.golds["label"]} if "label" in row.golds else {}
    golds = {"golds": dict(row.golds)} if row.golds else {}
    answers = zip(row.asked, row.result.answers, strict=False)
    return {"answers": {one.name: answer_fields(one, a) for one, a in answers}} | golds


def _print(trial: Trial, gold: str) -> None:
    answers = [_answer(row) for row in trial.rows]
    several = any(row.asked for row in trial.rows)
    widest = max(_WIDEST_ANSWER, OUT.width * 2 // 3) if several else _WIDEST_ANSWER
    width = min(widest, max(map(cell_len, answers), default=0))
    for row, answer in zip(trial.rows, answers, strict=True):
        result = row.result
        wrong = ", ".join(row.wrong.values() if not row.asked else map(" ".join, row.wrong.items()))
        mark = "!" if result.error else "✗" if wrong else "✓" if row.golds else " "
        sure = f" {result.confidence:.2f}" if result.confidence is not None else ""
        end = f"  gold: {wrong}" if wrong and not result.error else ""
        start = f"  {mark} {padded(cut(answer, width), width)}{sure}   "
        OUT.print(filled(start, _asked(row), end, OUT.width))
    graded = f" · {trial.right} of {trial.graded} agree with {gold}" if trial.graded else ""
    took = f"{plural(len(trial.rows), 'row')} in {duration(trial.seconds)}"
    OUT.print(f"{took}{graded}")


def _answer(row: TriedRow) -> str:
    result = row.result
    if result.error is not None:
        return f"{result.error.type.value}: {result.error.message}"
    if result.scores is not None:
        return f"logprob {result.scores.logprobs.sum():.2f}"
    if row.asked:
        answers = zip(row.asked, result.answers, strict=True)
        return ", ".join(f"{q.name} {a.label} {a.confidence or 0:.2f}" for q, a in answers)
    if result.answers:
        return " | ".join(answer.completion or "" for answer in result.answers)
    if result.fields:
        return json_text(dict(result.fields), ensure_ascii=False, default=str)
    return result.label or result.completion or ""


def _asked(row: TriedRow) -> str:
    return " · ".join(as_shown(value) for value in row.values.values() if value is not None)
