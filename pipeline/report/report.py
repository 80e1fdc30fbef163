"""report.md: what ran and what came out, short enough to read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.humanize import count, duration, energy, money, plural, rate, size
from pipeline.output.columns.scores import LIST_COLUMNS
from pipeline.output.tally import Tally
from pipeline.report.fixes import error_lines
from pipeline.report.summary import Summary
from pipeline.report.trust.section import sentences, tables

_CELL_CHARACTERS = 90
_BAR_CHARACTERS = 30
# columns of each question that reports leave out
_IN_DATASET_ALONE = ("accepted", "raw_confidence", "probabilities", "label_set")


def write_report(
    summary: Summary,
    total: Tally,
    sample: Sequence[Mapping[str, Any]],
    licence: str,
    picture: str | None = None,
) -> str:
    """The report as Markdown. ``sample``: a few output rows; ``picture``: the name of a file in the
    same folder that shows how right the labels are."""
    parts = [
        f"# {summary.name}\n",
        _what_ran(summary),
        _counts(summary),
        _unlike_engines(summary),
        _prediction(summary),
        _energy(summary),
        _over_time(summary),
        _errors(summary),
        _labels(summary, total),
        _questions(summary),
        _no_confidence(summary),
        _trust(summary, picture),
        _scores(summary),
        _lengths("Prompt", total.prompt_lengths),
        _lengths("Completion", total.completion_lengths, answers=summary.drawn),
        _sample(sample, summary),
        f"## Licence\n\nThe model's terms apply to what it wrote: {licence}.\n",
    ]
    return "\n".join(part for part in parts if part)


def _computed(engine: Mapping[str, Any]) -> str:
    return f", computed in {c}" if (c := engine.get("computed_in")) else ""


def _what_ran(s: Summary) -> str:
    engines = [
        f"{e['kind']} {e['version']} on {e['device']}{_computed(e)}: "
        f"{size(e['kv_bytes'])} KV cache, "
        f"{count(e['num_blocks'])} blocks of {e['block_size']} tokens, "
        f"context {count(e['max_model_len'])}"
        for e in s.engines
    ]
    versions = ", ".join(f"{k.removesuffix('_version')} {v}" for k, v in s.versions.items())
    lines = [
        f"- Model: {s.model}, {s.quantization}",
        *(f"- Engine: {e}" for e in engines),
        f"- Versions: {versions}",
        f"- Job fingerprint: `{s.fingerprint[:16]}`",
    ]
    return "\n".join(lines) + "\n"


def _counts(s: Summary) -> str:
    rows = [
        ("rows", count(s.rows)),
        ("succeeded", count(s.succeeded)),
        ("failed", count(s.failed)),
        ("reused from earlier runs", count(s.reused)),
        ("prompt tokens", count(s.prompt_tokens)),
        ("completion tokens", count(s.completion_tokens)),
        ("wall time", duration(s.seconds)),
        ("of it until the engine's first step", duration(s.ready_seconds)),
        ("of it generating", duration(s.work_seconds)),
        *([("of it waiting for cards", duration(s.waited_seconds))] if s.waited_seconds else []),
        ("rows/s", rate(s.rows_per_second)),
        ("prompt tokens/s", rate(s.prompt_tokens_per_second)),
        ("completion tokens/s", rate(s.completion_tokens_per_second)),
        ("answered by an equal row's answer", count(s.duplicates)),
        ("KV cache in use, mean", f"{s.mean_kv_use:.0%}"),
        ("requests at once, mean", f"{s.mean_batch:.1f}"),
        ("preemptions", count(s.preemptions)),
        (
            "tokens computed again after them",
            f"{count(s.recomputed_tokens)} ({s.recomputed_share:.2%})",
        ),
        (
            "rows computed again after workers were lost",
            f"{count(s.lost_rows)} ({s.lost_share:.2%})",
        ),
    ]
    return "## Counts and rates\n\n" + _table(("", ""), rows)


def _unlike_engines(s: Summary) -> str:
    if not s.answered_by:
        return ""
    rows = [(name, count(number)) for name, number in s.answered_by.items()]
    lines = ["## Unlike engines\n\n" + _table(("", "rows"), rows)]
    lines += [f"{line}\n" for line in agreement_in_words(s)]
    return "\n".join(lines)


def agreement_in_words(s: Summary) -> list[str]:
    """How far different engines agree: one sentence for each two; or one that it is not known, if
    no two answered a row."""
    if len(s.answered_by) < 2:
        return []
    if not s.agreement:
        return ["How far they agree is not known: no row was answered by two of them."]
    return [
        f"{one['engines'][0]} and {one['engines'][1]} agree on {count(one['equal'])} of "
        f"{count(one['rows'])} rows that both answered ({one['equal'] / one['rows']:.0%}; between "
        f"{one['low']:.0%} and {one['high']:.0%} with 95 % confidence)."
        for one in s.agreement
    ]


def _prediction(s: Summary) -> str:
    if s.predicted_seconds is None:
        return ""
    phases = [
        ("until the first step", s.predicted_ready_seconds, s.ready_seconds - s.model_seconds),
        ("generating", s.predicted_work_seconds, s.work_seconds),
        ("in all", s.predicted_seconds, s.seconds - s.model_seconds - s.waited_seconds),
    ]
    rows = [
        (name, duration(before), duration(after), f"{(before - after) / after:+.0%}")
        for name, before, after in phases
        if before is not None and after > 0
    ]
    once = f", {duration(s.model_seconds)} for the model left out" if s.model_seconds > 1 else ""
    return (
        "## Predicted and actual\n\n"
        + _table(("", "predicted", "actual", "difference"), rows)
        + f"\nThe prediction was {s.prediction_basis}{once}.\n"
    )


def _energy(s: Summary) -> str:
    if not s.energy_covered:
        return ""
    if s.energy_kwh is None:
        return (
            f"## Energy\n\nOnly {s.energy_covered:.0%} of the engines' time was metered: no figure "
            "is claimed.\n"
        )
    rows = [("measured", energy(s.energy_kwh))]
    if s.energy_wh_per_1000_rows is not None:
        rows.append(("for 1 000 rows", energy(s.energy_wh_per_1000_rows / 1000)))
    if s.predicted_kwh:
        off = (s.predicted_kwh - s.energy_kwh) / s.energy_kwh if s.energy_kwh else 0.0
        rows.append(("predicted", f"{energy(s.predicted_kwh)} ({off:+.0%})"))
    if s.energy_cost is not None:
        rows.append(("cost", money(s.energy_cost)))
    by = "by their own counters" if s.energy_by == "counters" else "as a sum of power samples"
    return (
        "## Energy\n\n"
        + _table(("", ""), rows)
        + f"\nOf whole cards (or processors) while engines had them, {by}: with what a desktop "
        "drew meanwhile, without the rest of the machine.\n"
    )


def _over_time(s: Summary) -> str:
    if not s.timeline or not s.work_seconds:
        return ""
    start = s.timeline[0]["start"]
    rows = [
        (
            duration(i["start"] + i["seconds"] - start),
            rate(i["rows"] / i["seconds"]),
            rate(i["completion_tokens"] / i["seconds"]),
            f"{i['batch']:.1f}",
            f"{i['waiting']:.1f}",
            f"{i['kv_use']:.0%}",
            count(round(i["preemptions"])),
            count(round(i["recomputed_tokens"])),
        )
        for i in s.timeline
    ]
    head = ("until", "rows/s", "tokens/s", "batch", "waiting", "KV use", "preempted", "recomputed")
    text = "## Over time\n\n" + _table(head, rows)
    if s.kv_count_error is not None:
        text += (
            f"\nrackmill's own count of the KV blocks and the engine's differed by at most "
            f"{s.kv_count_error:.2%} of them.\n"
        )
    return text


def _errors(s: Summary) -> str:
    if not s.errors:
        return ""
    rows = [(kind, count(n), why, fix) for kind, n, why, fix in error_lines(s)]
    return "## Errors\n\n" + _table(("type", "rows", "why", "fix"), rows)


def _labels(s: Summary, total: Tally) -> str:
    if not s.labels and s.accuracy is None:
        return ""
    share = [(label, count(n), f"{n / s.succeeded:.1%}") for label, n in s.labels.items()]
    text = "## Labels\n\n" + (_table(("label", "rows", "share"), share) if share else "")
    if s.accuracy is None:
        return text
    graded = sum(total.confusion.values())
    over = plural(graded, _counted(s.answers))
    text += f"\nAgreement with `{s.gold}`: {s.accuracy:.3f} over {over}.\n"
    if not s.confusion:
        return text
    return text + "\n" + _confusion(s.gold or "", s.confusion)


def _no_confidence(s: Summary) -> str:
    why = s.no_confidence
    return f"{why[:1].upper()}{why[1:]}.\n" if why else ""


def _confusion(gold: str, confusion: Mapping[str, Mapping[str, int]]) -> str:
    labels = sorted({label for row in confusion.values() for label in row})
    rows = [
        (truth, *(count(found.get(label, 0)) for label in labels))
        for truth, found in sorted(confusion.items())
    ]
    return _table((f"{gold} ↓, label →", *labels), rows)


def _questions(s: Summary) -> str:
    if not s.questions:
        return ""
    rows = [
        (
            name,
            " · ".join(f"{label} {count(n)}" for label, n in one["labels"].items()),
            _agreement(one),
        )
        for name, one in s.questions.items()
    ]
    text = "## Questions\n\n" + _table(("question", "answers", "agreement"), rows)
    for name, one in s.questions.items():
        if one["confusion"]:
            text += "\n" + _confusion(name, one["confusion"])
    return text


def _agreement(question: Mapping[str, Any]) -> str:
    if question["accuracy"] is None:
        return ""
    return f"{question['accuracy']:.3f} over {plural(question['graded'], 'row')}"


def _trust(s: Summary, picture: str | None) -> str:
    parts = []
    for name, block in s.trust.items():
        title = f": {name}" if len(s.trust) > 1 else ""
        parts.append(f"## How right the labels are{title}\n")
        parts += [f"{line}\n" for line in sentences(block)]
        for table in tables(block):
            parts.append(f"### {table.title}\n\n" + _table(table.head, table.rows))
            parts += [f"{table.note}\n"] if table.note else []
    if parts and picture is not None:
        parts.append(f"![How sure the labels are, and how right]({picture})\n")
    return "\n".join(parts)


def _scores(s: Summary) -> str:
    if s.perplexity is None or s.logprob is None:
        return ""
    return (
        f"## Scores\n\nPerplexity {s.perplexity:.4g} over {plural(s.scored_tokens, 'token')}: "
        f"{-s.logprob / s.scored_tokens:.4f} nats a token in the mean (failed rows left out).\n"
    )


def _lengths(what: str, lengths: Mapping[int, int], answers: int = 1) -> str:
    if not lengths:
        return ""
    most = max(lengths.values())
    rows = [
        (
            "≤ 1" if bucket == 1 else f"{count(bucket // 2 + 1)}–{count(bucket)}",
            count(n),
            "█" * max(1, round(n / most * _BAR_CHARACTERS)),
        )
        for bucket, n in sorted(lengths.items())
    ]
    return f"## {what} lengths\n\n" + _table(("tokens", f"{_counted(answers)}s", ""), rows)


def _counted(answers: int) -> str:
    """What is counted if each row has so many answers."""
    return "answer" if answers > 1 else "row"


def _sample(sample: Sequence[Mapping[str, Any]], s: Summary) -> str:
    if not sample:
        return ""
    hidden = hidden_columns(s)
    names = [n for n in sample[0] if n not in hidden]
    if all(row["error"] is None for row in sample):
        names.remove("error")
    told = [{**row, "error": (row["error"] or {}).get("type")} for row in sample]
    rows = [tuple(_cell(row[name]) for name in names) for row in told]
    return f"## {plural(len(rows), 'row')}\n\n" + _table(names, rows)


def hidden_columns(s: Summary) -> set[str]:
    """The columns of the dataset that reports leave out."""
    of_answers = {f"{name}_{one}" for name in s.questions for one in _IN_DATASET_ALONE}
    of_answers |= set(_IN_DATASET_ALONE) if s.labels else set()
    return {"prompt_tokens", "completion_tokens", *LIST_COLUMNS, *of_answers}


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    text = "" if value is None else str(value)[: 20 * _CELL_CHARACTERS]
    text = " ".join(text.split())
    return text if len(text) <= _CELL_CHARACTERS else text[: _CELL_CHARACTERS - 1] + "…"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(c.replace("|", "\\|").replace("\n", " ") for c in cells) + " |"

    return "\n".join([line(head), "|" + "---|" * len(head), *map(line, rows)]) + "\n"
