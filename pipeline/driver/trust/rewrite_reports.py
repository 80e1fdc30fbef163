"""What is said of a finished output: its summary and its reports, written anew."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pipeline.errors import JobFailed
from pipeline.job.job import Job
from pipeline.output.commit.records import SUMMARY, TRUST_PICTURE, CommitState
from pipeline.output.dataset import Dataset
from pipeline.output.rows.stored_rows import StoredRows
from pipeline.output.tally import Tally
from pipeline.output.totals import totals
from pipeline.report.page.page import rows_to_show, write_page
from pipeline.report.report import write_report
from pipeline.report.summary import Summary
from pipeline.report.trust.picture import draw_trust

_log = logging.getLogger(__name__)
REPORTED_ROWS = 10


def rewrite_reports(dataset: Dataset, blocks: Mapping[str, dict[str, Any]], job: Job) -> None:
    """Of a dataset whose labels right answers may have changed; nothing is written where nothing
    changed. ``blocks``: see ``Summary.trust``. Raises JobFailed where no summary is there."""
    state = dataset.state()
    total = Tally()
    for record in state.commits.values():
        total.add(record.tally)
    before = dataset.summary()
    gold = job.label.gold_name if job.label else None
    try:
        summary = replace(
            Summary.from_json(before or {}),
            **totals(total, graded=gold is not None),
            gold=gold,
            generation=state.generation,
            trust=dict(blocks),
        )
    except (TypeError, ValueError, AttributeError):
        raise JobFailed(
            f"{dataset.storage.address(SUMMARY)} is gone or damaged",
            "run the same job again: it writes the summary anew",
        ) from None
    if not dataset.finished or same(summary.as_json(), before):
        return
    write_pages(dataset, summary, total, state)


def same(content: Mapping[str, Any], kept: Mapping[str, Any] | None) -> bool:
    """Whether a summary is the one that was written."""
    return kept is not None and json.loads(json.dumps(content)) == dict(kept)


def write_pages(dataset: Dataset, summary: Summary, total: Tally, state: CommitState) -> None:
    """Summary, reports and the mark that the dataset is whole."""
    sample = dataset.first_rows(REPORTED_ROWS)
    picture = _picture(summary)
    if picture is not None:
        dataset.storage.replace(TRUST_PICTURE, picture)
    name = TRUST_PICTURE.rpartition("/")[2] if picture is not None else None
    report = write_report(summary, total, sample, summary.licence, name)
    dataset.finish(summary.as_json(), report, state, _page(dataset, summary, picture))


def _picture(summary: Summary) -> bytes | None:
    """None where there is nothing to draw, or it cannot be drawn."""
    try:
        return draw_trust(summary.trust)
    except Exception:
        _log.exception("the picture of how right the labels are could not be made")
        return None


def _page(dataset: Dataset, summary: Summary, picture: bytes | None) -> str | None:
    """The report as HTML. None where it cannot be made: the rows are there, which matters more."""
    try:
        rows = rows_to_show(StoredRows(dataset.storage.address()))
        return write_page(summary, rows, summary.licence, picture=picture)
    except Exception:
        _log.exception("report.html could not be made")
        return None
