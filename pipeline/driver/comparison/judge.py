"""Which of several outputs over the same rows answers better: a model is asked, row by row, about
every two answers, in both orders."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.driver.progress.watcher import Watcher
from pipeline.driver.run import RunOptions, run
from pipeline.errors import UsageError
from pipeline.humanize import plural
from pipeline.input.plain import rows_with_gaps
from pipeline.job.file.load import job_from
from pipeline.job.job import Job
from pipeline.job.template.field_text import as_text
from pipeline.output.columns.answer_rows import NUMBER
from pipeline.output.rows.stored_rows import FILE, ROW, StoredRows
from pipeline.report.comparison.judgement import VERDICTS, Judgement, Pairing, judge_pairings
from pipeline.storage.base import open_storage

DEFAULT_OUTPUT = "runs/judge"
CRITERIA = "Which answer is better: more right, and more helpful?"
RESULT = "judge.json"
_PAIRS, _ANSWERS = "pairs.parquet", "verdicts"
_Place = tuple[str, int]  # file, row


@dataclass(frozen=True)
class JudgeOptions:
    """``criteria``: what better means. ``model``: None: that of the first output's job. ``rows``:
    so many, drawn at random (always the same ones); None: all. ``settings``: as ``--set`` has
    them."""

    criteria: str = CRITERIA
    model: str | None = None
    rows: int | None = None
    output: str = DEFAULT_OUTPUT
    settings: tuple[str, ...] = ()
    fresh: bool = False


@dataclass(frozen=True)
class Judged:
    """``outputs``: their addresses, which the ``judgement`` numbers. ``rows``: that were judged;
    ``failed``: left out, because the judge could not be asked."""

    outputs: tuple[str, ...]
    model: str
    rows: int
    failed: int
    judgement: Judgement
    result: str

    def as_json(self) -> dict[str, Any]:
        about = {"outputs": list(self.outputs), "model": self.model}
        counts = {"rows": self.rows, "failed": self.failed, "result": self.result}
        return about | counts | self.judgement.as_json()


@dataclass(frozen=True)
class _Pair:
    row: int
    one: int
    other: int
    question: str
    answers: tuple[str, str]

    @property
    def differs(self) -> bool:
        return self.answers[0] != self.answers[1]


def judge(
    outputs: Sequence[str],
    options: JudgeOptions,
    watch: AbstractContextManager[Watcher],
) -> Judged:
    """Ask the judge, and count. What an earlier call with the same options has asked is reused.

    Answers that are the same are a tie, without being asked about. Raises UsageError, JobFailed.
    """
    stored = _distinct(outputs)
    pairs = _pairs(stored, options.rows)
    job = _job(stored[0], options)
    asked = [pair for pair in pairs if pair.differs]
    verdicts: dict[int, tuple[str | None, str | None]] = {}
    if asked:
        storage = open_storage(options.output)
        content = _table(asked)
        if storage.read(_PAIRS) != content:
            storage.replace(_PAIRS, content)
        with watch as watcher:
            run(job, RunOptions(fresh=options.fresh), watcher)
        verdicts = _verdicts(job.output.path, len(asked))
    pairings, failed = [], set()
    for pair, told in zip(asked, (verdicts[n] for n in range(len(asked))), strict=True):
        if told[0] is None or told[1] is None:
            failed.add(pair.row)
        else:
            pairings.append(Pairing(pair.row, pair.one, pair.other, (told[0], told[1])))
    pairings += [Pairing(p.row, p.one, p.other, None) for p in pairs if not p.differs]
    pairings = [pairing for pairing in pairings if pairing.row not in failed]
    if not pairings:
        raise UsageError(
            f"no row could be judged: {plural(len(failed), 'row')} failed",
            f"see why: rackmill show {job.output.path} --errors",
        )
    rows = len({pairing.row for pairing in pairings})
    judged = Judged(
        outputs=tuple(one.address for one in stored),
        model=job.model,
        rows=rows,
        failed=len(failed),
        judgement=judge_pairings(pairings, len(stored)),
        result=open_storage(options.output).address(RESULT),
    )
    text = json.dumps(judged.as_json(), indent=1, ensure_ascii=False)
    open_storage(options.output).replace(RESULT, text.encode())
    return judged


def _distinct(outputs: Sequence[str]) -> list[StoredRows]:
    stored = [StoredRows(address) for address in outputs]
    if len({one.address.rstrip("/") for one in stored}) < len(stored):
        raise UsageError("one output is named twice", "name outputs of different jobs")
    for one in stored:
        if NUMBER in one.schema.names or "completions" in one.schema.names:
            raise UsageError(
                f"{one.address} has several answers a row", "judge outputs with one answer a row"
            )
    return stored


def _pairs(stored: Sequence[StoredRows], most: int | None) -> list[_Pair]:
    """Every two answers of each row that all outputs have answered; one row's after another."""
    answers = [dict(_answers(one)) for one in stored]
    common = [place for place in answers[0] if all(place in other for other in answers)]
    if not common:
        names = " and ".join(one.address for one in stored)
        raise UsageError(
            f"{names} have no answered row in common",
            "rows are matched by the name of their file and their place in it",
        )
    if most is not None:
        common = sorted(common, key=_drawn_at)[:most]
    return [
        _Pair(
            row,
            one,
            other,
            answers[0][place][0],
            (answers[one][place][1], answers[other][place][1]),
        )
        for row, place in enumerate(common)
        for one, other in combinations(range(len(stored)), 2)
    ]


def _drawn_at(place: _Place) -> bytes:
    """Places in the order in which they are drawn: as by chance, and always the same."""
    return hashlib.sha256(f"{place[0]}\0{place[1]}".encode()).digest()


def _answers(stored: StoredRows) -> Iterator[tuple[_Place, tuple[str, str]]]:
    """Each answered row with what was asked, and the answer."""
    shown = {FILE, ROW, "error", *stored.answer_columns, *stored.asked_columns}
    for table in stored.tables():
        names = [name for name in table.column_names if name in shown]
        for row in rows_with_gaps(table.select(names)):
            if row["error"] is None:
                yield (row[FILE], row[ROW]), (_asked(stored, row), _answer(stored, row))


def _asked(stored: StoredRows, row: dict[str, Any]) -> str:
    return "\n".join(as_text(row[name]) for name in stored.asked_columns if row[name] is not None)


def _answer(stored: StoredRows, row: dict[str, Any]) -> str:
    columns = stored.answer_columns
    if len(columns) == 1:
        return as_text(row[columns[0]]).strip()
    return "\n".join(f"{name}: {as_text(row[name])}" for name in columns)


def _table(pairs: Sequence[_Pair]) -> bytes:
    """Two rows for each pair, one for each order: what the judge sees."""
    orders = [(pair, order) for pair in pairs for order in (pair.answers, pair.answers[::-1])]
    table = pa.table(
        {
            "question": pa.array([pair.question for pair, _ in orders], pa.string()),
            "a": pa.array([order[0] for _, order in orders], pa.string()),
            "b": pa.array([order[1] for _, order in orders], pa.string()),
        }
    )
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def _job(first: StoredRows, options: JudgeOptions) -> Job:
    model = options.model or (first.job.model if first.job else None)
    if model is None:
        raise UsageError(f"{first.address} does not say its model", "name the judge: --model MODEL")
    place = options.output.rstrip("/")
    content = {
        "name": "judge",
        "model": model,
        "input": {"path": f"{place}/{_PAIRS}"},
        "instructions": f"{options.criteria} Say A, B, or tie.",
        "prompt": "Question: {question}\nAnswer A: {a}\nAnswer B: {b}\nBetter:",
        "label": {"choices": list(VERDICTS)},
        "trust": {"calibrate": "off"},
        "output": {"path": f"{place}/{_ANSWERS}"},
    }
    return job_from(content, options.settings)


def _verdicts(output: str, pairs: int) -> dict[int, tuple[str | None, str | None]]:
    """Of each pair what was said of both orders; None: an error row."""
    said: dict[int, str | None] = {}
    for table in StoredRows(output).tables():
        said.update(zip(table[ROW].to_pylist(), table["label"].to_pylist(), strict=True))
    return {n: (said.get(2 * n), said.get(2 * n + 1)) for n in range(pairs)}
