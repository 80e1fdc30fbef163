"""report.html: what came out and how well, for people who do not run engines. One file that loads
nothing from elsewhere."""

from __future__ import annotations

import base64
import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from pipeline.humanize import count, duration, energy, plural, rate, size
from pipeline.input.plain import plain_rows
from pipeline.job.template.field_text import as_shown
from pipeline.output.rows.stored_rows import FILE, ROW, StoredRows
from pipeline.printable import shown
from pipeline.report.classes import in_percent, per_class
from pipeline.report.comparison.intervals import Share
from pipeline.report.fixes import error_lines
from pipeline.report.report import agreement_in_words, hidden_columns
from pipeline.report.summary import Summary
from pipeline.report.trust.section import sentences
from pipeline.report.trust.section import tables as trust_tables

Row = Mapping[str, Any]
_CELL_CHARACTERS = 300
_SHOWN = 10  # rows of each kind
_LOOKED_AT = 100_000  # rows: with millions, the report should still be there soon after the last
_APART = {"finish_reason", "error", FILE, ROW}
_WIDTH, _HEIGHT, _TOP = 800.0, 150.0, 20.0


@dataclass(frozen=True)
class RowTable:
    """Rows to show. ``note``: how they were chosen."""

    title: str
    rows: Sequence[Row]
    note: str = ""


def write_page(
    s: Summary,
    tables: Sequence[RowTable],
    licence: str,
    picture: bytes | None = None,
) -> str:
    """The page as HTML. ``picture``: a PNG that shows how right the labels are. All text from rows,
    files and messages is escaped."""
    text = template().render(
        s=s,
        when=f"{datetime.now().astimezone():%Y-%m-%d %H:%M %Z}",
        licence=licence,
        facts=_facts(s),
        labels=_bars(s.labels, s.succeeded),
        questions=[
            (name, _bars(one["labels"], s.succeeded), _agreement_of(one, "the right answers"))
            for name, one in s.questions.items()
        ],
        agreement=_agreement(s),
        **_classes(s),
        trust=[(name, sentences(block), trust_tables(block)) for name, block in s.trust.items()],
        trust_picture=base64.b64encode(picture).decode() if picture else None,
        row_tables=[_cells(table, _APART | hidden_columns(s)) for table in tables if table.rows],
        errors=[(kind, count(n), why, fix) for kind, n, why, fix in error_lines(s)],
        costs=_costs(s),
        cost_note=_cost_note(s),
        line=_line(s),
        machine=_machine(s),
    )
    return shown(text)


@cache
def template() -> Template:
    """The page's template, compiled once per process."""
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("page.html")


def rows_to_show(stored: StoredRows) -> list[RowTable]:
    """The tables, in the order in which people look at them. Raises StorageFailed."""
    first: list[dict[str, Any]] = []
    wrong: list[dict[str, Any]] = []
    doubtful: list[tuple[float, int, dict[str, Any]]] = []  # a heap: the most certain first
    seen, right = 0, stored.right_answers
    for table in stored.tables():
        rows: list[dict[str, Any]] = [row for row in plain_rows(table)[0] if row]
        first += rows[: _SHOWN - len(first)]
        for row in rows:
            seen += 1
            if len(wrong) < _SHOWN and right.is_wrong(row):
                wrong.append(row)
            confidence = stored.confidence(row)
            if confidence is not None:
                heapq.heappush(doubtful, (-confidence, -seen, row))
                if len(doubtful) > _SHOWN:
                    heapq.heappop(doubtful)
        if seen >= _LOOKED_AT:
            break
    note = f"Of the first {count(seen)} rows." if seen >= _LOOKED_AT else ""
    least = [row for _, _, row in sorted(doubtful, key=lambda one: (-one[0], -one[1]))]
    return [
        RowTable("Labels that differ from the right answer", wrong, note),
        RowTable("Labels of least confidence", least, note),
        RowTable("The first rows", first),
    ]


def _facts(s: Summary) -> list[tuple[str, str]]:
    found = [("rows", count(s.rows)), ("failed", count(s.failed))]
    if s.accuracy is not None:
        found.insert(1, (f"agree with {s.gold}", f"{s.accuracy:.1%}"))
    found.append(("from start to end", duration(s.seconds)))
    if s.rows_per_second:
        found.append(("rows a second at work", rate(s.rows_per_second)))
    return found


def _bars(labels: Mapping[str, int], rows: int) -> list[tuple[str, str, str, str]]:
    most = max(labels.values(), default=0)
    return [
        (label, count(n), f"{n / max(1, rows):.1%}", f"{100 * n / most:.1f}")
        for label, n in labels.items()
    ]


def _agreement(s: Summary) -> str:
    return _agreement_of(vars(s), s.gold) if s.gold is not None else ""


def _agreement_of(counts: Mapping[str, Any], gold: str) -> str:
    """``counts``: what a summary says about the labels, or about one question."""
    if counts["accuracy"] is None:
        return ""
    low, high = Share(counts["graded_right"], counts["graded"]).bounds
    return (
        f"{counts['accuracy']:.1%} of {plural(counts['graded'], 'graded row')} agree with {gold} "
        f"(95 % interval {low:.1%} to {high:.1%}, if these rows are like all others)."
    )


def _classes(s: Summary) -> dict[str, Any]:
    if not s.confusion:
        return {"classes": [], "confusion": [], "confusion_columns": []}
    labels = sorted({label for row in s.confusion.values() for label in row})
    classes = [
        {
            "name": one.name,
            "gold": count(one.gold),
            "labelled": count(one.labelled),
            "precision": in_percent(one.precision),
            "recall": in_percent(one.recall),
            "f1": f"{one.f1:.3f}" if one.f1 is not None else "–",
        }
        for one in per_class(s.confusion)
    ]
    cells = [
        (
            gold,
            [
                (
                    count(row.get(label, 0)),
                    "hit" if label == gold else "miss" if label in row else "",
                )
                for label in labels
            ],
        )
        for gold, row in sorted(s.confusion.items())
    ]
    return {"classes": classes, "confusion": cells, "confusion_columns": labels}


def _cells(table: RowTable, hidden: set[str]) -> dict[str, Any]:
    names = [n for n in table.rows[0] if n not in hidden]
    if "label" in names and "completion" in names:
        names.remove("completion")
    return {
        "title": table.title,
        "columns": names,
        "rows": [[_cell(row.get(name)) for name in names] for row in table.rows],
        "note": table.note,
    }


def _cell(value: Any) -> str:
    if value is None:
        return ""
    text = f"{value:.3f}" if isinstance(value, float) else as_shown(value)
    return text if len(text) <= _CELL_CHARACTERS else text[: _CELL_CHARACTERS - 1] + "…"


def _costs(s: Summary) -> list[tuple[str, str]]:
    rows = [
        ("from start to end", duration(s.seconds)),
        ("of it until the engine began", duration(s.ready_seconds)),
        ("of it at work", duration(s.work_seconds)),
    ]
    if s.predicted_seconds is not None:
        rows.append(("foretold", duration(s.predicted_seconds)))
    if s.energy_kwh is not None:
        rows.append(("energy, measured", energy(s.energy_kwh)))
    elif s.predicted_kwh:
        rows.append(("energy, as predicted (none was measured)", energy(s.predicted_kwh)))
    if s.energy_cost is not None:
        rows.append(("cost of the energy", f"{s.energy_cost:.4f}"))
    if s.api_cost is not None:
        rows.append(("the same tokens at the API price that was set", f"{s.api_cost:.4f}"))
        if s.energy_cost:
            rows.append(
                ("the API costs so many times as much", f"{s.api_cost / s.energy_cost:.0f}")
            )
    return rows


def _cost_note(s: Summary) -> str:
    missing = []
    if s.energy_cost is None:
        missing.append("resources.price_kwh")
    if s.api_cost is None:
        missing.append("resources.api_price")
    return f"To see more, set {' and '.join(missing)} in the job." if missing else ""


def _line(s: Summary) -> dict[str, str] | None:
    """Rows per second over the run, as the points of an SVG line."""
    spans = [i for i in s.timeline if i["seconds"] > 0]
    if len(spans) < 2:
        return None
    start = spans[0]["start"]
    whole = spans[-1]["start"] + spans[-1]["seconds"] - start
    rates = [i["rows"] / i["seconds"] for i in spans]
    top = max(rates) or 1.0
    points = []
    for interval, value in zip(spans, rates, strict=True):
        y = _HEIGHT - (_HEIGHT - _TOP) * value / top
        moments = interval["start"], interval["start"] + interval["seconds"]
        points += [f"{_WIDTH * (at - start) / whole:.1f},{y:.1f}" for at in moments]
    return {"points": " ".join(points), "top": rate(top), "seconds": duration(whole)}


def _machine(s: Summary) -> list[tuple[str, str]]:
    engines = [
        (
            f"engine {number}",
            f"{e['kind']} {e['version']} on {e['device']}, {size(e['kv_bytes'])} KV cache, "
            f"context {count(e['max_model_len'])}",
        )
        for number, e in enumerate(s.engines, 1)
    ]
    by = [(name, f"{count(rows)} rows") for name, rows in s.answered_by.items()]
    agreed = [("agreement", line) for line in agreement_in_words(s)]
    return [
        *engines,
        *by,
        *agreed,
        ("prompt tokens", count(s.prompt_tokens)),
        ("completion tokens", count(s.completion_tokens)),
        ("tokens a second", rate(s.prompt_tokens_per_second + s.completion_tokens_per_second)),
        ("answered by an equal row's answer", count(s.duplicates)),
        ("reused from earlier runs", count(s.reused)),
        ("KV cache in use, mean", f"{s.mean_kv_use:.0%}"),
        ("requests at once, mean", f"{s.mean_batch:.1f}"),
        ("computed again after preemptions", f"{s.recomputed_share:.2%} of the tokens"),
        *((name.removesuffix("_version"), version) for name, version in s.versions.items()),
        ("job fingerprint", s.fingerprint[:16]),
    ]
