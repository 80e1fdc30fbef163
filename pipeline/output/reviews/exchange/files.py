"""Writes files of reviews for other tools, and reads them back."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.errors import JobFailed, UsageError, did_you_mean, some_of
from pipeline.output.reviews.answers import Place, ReviewAnswers, ReviewerAnswer, check_reviewer
from pipeline.output.reviews.draw import ShownRow
from pipeline.output.reviews.exchange import argilla, csv_file, label_studio
from pipeline.output.reviews.exchange.shapes import ExportedRow, ImportedAnswer
from pipeline.output.reviews.question import ReviewQuestion
from pipeline.output.reviews.sample import ReviewSample
from pipeline.printable import json_safe

Shape = Literal["csv", "argilla", "label-studio"]
_MOST_BYTES = 512 << 20


@dataclass(frozen=True)
class Imported:
    """Counts of answers. ``taken``: new and stored now; ``known``: stored before; ``elsewhere``:
    skipped, because their rows are not in the sample."""

    taken: int
    known: int
    elsewhere: int


def write_reviews(
    path: Path,
    shape: Shape | None,
    sample: ReviewSample,
    question: ReviewQuestion,
    rows: Mapping[Place, ShownRow],
    answers: Mapping[str, Mapping[Place, ReviewerAnswer]],
) -> int:
    """Write the sample with its ``answers``. ``shape`` None: set by the file's extension. Returns
    the number of answers in it.

    The file appears whole or not at all. Raises UsageError, JobFailed.
    """
    shape = shape or _shape_of(path)
    outs = [
        ExportedRow(
            one,
            rows[one.drawn.place],
            {
                name: given[one.drawn.place]
                for name, given in answers.items()
                if one.drawn.place in given
            },
        )
        for one in sample.asked()
        if one.drawn.place in rows
    ]
    if shape == "csv":
        text = csv_file.written(outs)
    else:
        tool = argilla if shape == "argilla" else label_studio
        records = [tool.written(out, question.name) for out in outs]
        text = json_safe(json.dumps(records, ensure_ascii=False, indent=1)) + "\n"
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(text.encode("utf-8", "backslashreplace"))
        os.replace(part, path)
    except OSError as e:
        raise JobFailed(f"{path} could not be written: {e.strerror or e}") from None
    finally:
        with suppress(OSError):
            part.unlink()
    return sum(len(out.answers) for out in outs)


def read_reviews(
    path: Path,
    sample: ReviewSample,
    question: ReviewQuestion,
    answers: ReviewAnswers,
    reviewer: str,
    now: str,
) -> Imported:
    """Store the answers of a file as if they were given now. ``reviewer``: the name for answers
    without one in the file. Reading the same file again adds nothing.

    If one answer is not valid, nothing is stored: raises UsageError, which names it.
    """
    try:
        found = list(_parsed(path, question))
    except UsageError as e:
        raise UsageError(f"{path}: {e.message}", *e.hints) from None
    for one in found:
        if one.value is not None and one.value not in question.choices:
            raise UsageError(
                f"{path}, {one.where}: {one.value!r} is not one of the choices",
                f"choices: {some_of(question.choices)}",
                *did_you_mean(one.value, question.choices),
            )
    places = {row.place for row in sample.rows}
    by_reviewer = answers.current(question.name)
    here: dict[tuple[str, Place], ImportedAnswer] = {}
    for one in found:
        if (one.file, one.row) not in places:
            continue
        name = check_reviewer(one.reviewer or reviewer)
        first = here.setdefault((name, (one.file, one.row)), one)
        if first.value != one.value:
            raise UsageError(
                f"{path}, {one.where}: {name} says {one.value or 'unsure'!r} of a row, and "
                f"{first.value or 'unsure'!r} of the same in {first.where}",
                "leave one of the two out, or say who gave each",
            )
    taken = 0
    for (name, place), one in here.items():
        before = by_reviewer.get(name, {}).get(place)
        if before is None or before.value != one.value:
            answers.append(name, ReviewerAnswer(question.name, *place, one.value, now))
            taken += 1
    elsewhere = sum((one.file, one.row) not in places for one in found)
    return Imported(taken, len(here) - taken, elsewhere)


def _shape_of(path: Path) -> Shape:
    if path.suffix.lower() == ".csv":
        return "csv"
    raise UsageError(
        f"{path}: for which tool is it?",
        "say it: --format csv, --format argilla or --format label-studio",
    )


def _parsed(path: Path, question: ReviewQuestion) -> Iterator[ImportedAnswer]:
    text = _text(path)
    if not text.lstrip().startswith(("[", "{")):
        yield from csv_file.read(text)
        return
    for number, record in enumerate(_records(text), 1):
        where = f"record {number}"
        if label_studio.is_task(record):
            yield from label_studio.read(record, question.name, where)
        elif argilla.is_record(record):
            yield from argilla.read(record, question.name, where)
        else:
            raise UsageError(
                f"{where} is neither a record of Argilla's (fields, responses) nor a task of Label "
                "Studio's (data, annotations)"
            )


def _text(path: Path) -> str:
    try:
        if not path.is_file():
            raise UsageError("there is no such file")
        if path.stat().st_size > _MOST_BYTES:
            raise UsageError(f"it is larger than {_MOST_BYTES >> 20} MiB")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as e:
        raise UsageError(f"it is not UTF-8 ({e.reason} at byte {e.start})") from None
    except OSError as e:
        raise UsageError(f"it cannot be read: {e.strerror or e}") from None


def _records(text: str) -> list[Mapping[str, Any]]:
    """The records of a JSON list, or of lines with one object each."""
    try:
        if text.lstrip().startswith("["):
            records = json.loads(text)
        else:
            records = [json.loads(line) for line in text.splitlines() if line.strip()]
    except (ValueError, RecursionError) as e:
        raise UsageError(f"it is not JSON: {e}") from None
    for number, record in enumerate(records, 1):
        if not isinstance(record, Mapping):
            raise UsageError(f"record {number} is no object")
    found: list[Mapping[str, Any]] = records
    return found
