"""Which of several outputs over the same rows answers better: a model is asked, row by row, about
every two answers, in both orders."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.driver.progress.watcher import Watcher
from pipeline.driver.run import RunOptions, run
from pipeline.errors import UsageError
from pipeline.humanize import plural
from pipeline.job.file.load import job_from
from pipeline.job.job import Job
from pipeline.output.folder import as_json
from pipeline.output.rows.answer_pairs import AnswerPair, answer_pairs, outputs_to_compare
from pipeline.output.rows.stored_rows import ROW, StoredRows
from pipeline.report.comparison.judgement import (
    CRITERIA,
    VERDICTS,
    Judgement,
    Pairing,
    Verdict,
    judge_pairings,
)
from pipeline.storage.base import open_storage

DEFAULT_OUTPUT = "runs/judge"
RESULT = "judge.json"
_PAIRS, _ANSWERS = "pairs.parquet", "verdicts"


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
class JudgeResult:
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


def judge(
    outputs: Sequence[str],
    options: JudgeOptions,
    watch: AbstractContextManager[Watcher],
) -> JudgeResult:
    """Ask the judge, and count. What an earlier call with the same options has asked is reused.

    Answers that are the same are a tie, without being asked about. Raises UsageError, JobFailed.
    """
    stored = outputs_to_compare(outputs)
    pairs = answer_pairs(stored, options.rows)
    job = _job(stored[0], options)
    asked = [pair for pair in pairs if pair.differs]
    verdicts: list[tuple[str | None, str | None]] = []
    if asked:
        storage = open_storage(options.output)
        content = _table(asked)
        if storage.read(_PAIRS) != content:
            storage.replace(_PAIRS, content)
        with watch as watcher:
            run(job, RunOptions(fresh=options.fresh), watcher)
        verdicts = _verdicts(job.output.path, len(asked))
    pairings, failed = [], set()
    for pair, told in zip(asked, verdicts, strict=True):
        if told[0] is None or told[1] is None:
            failed.add(pair.row)
        else:
            both = Verdict(told[0], one_first=True), Verdict(told[1], one_first=False)
            pairings.append(Pairing(pair.row, pair.one, pair.other, both))
    pairings += [Pairing(p.row, p.one, p.other) for p in pairs if not p.differs]
    pairings = [pairing for pairing in pairings if pairing.row not in failed]
    if not pairings:
        raise UsageError(
            f"no row could be judged: {plural(len(failed), 'row')} failed",
            f"see why: rackmill show {job.output.path} --errors",
        )
    rows = len({pairing.row for pairing in pairings})
    judged = JudgeResult(
        outputs=tuple(one.address for one in stored),
        model=job.model,
        rows=rows,
        failed=len(failed),
        judgement=judge_pairings(pairings, len(stored)),
        result=open_storage(options.output).address(RESULT),
    )
    open_storage(options.output).replace(RESULT, as_json(judged.as_json()))
    return judged


def _table(pairs: Sequence[AnswerPair]) -> bytes:
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


def _verdicts(output: str, pairs: int) -> list[tuple[str | None, str | None]]:
    """Of each pair what was said of both orders; None: an error row."""
    said: dict[int, str | None] = {}
    for table in StoredRows(output).tables():
        said.update(zip(table[ROW].to_pylist(), table["label"].to_pylist(), strict=True))
    return [(said.get(2 * n), said.get(2 * n + 1)) for n in range(pairs)]
