"""Labels, confidences and promises written anew into an output.

Each file is replaced as a whole, by the unit's next generation, as ``retry`` does it; one in which
nothing changes stays as it is. So whoever is killed at any moment leaves a right dataset, and the
same call again brings it to the same end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from itertools import accumulate
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.driver.trust.gather import KnownAnswers
from pipeline.driver.trust.parts import OutputPart
from pipeline.driver.trust.question import TrustedQuestion
from pipeline.job.answer.questions import YES, AskedQuestion
from pipeline.output.columns.probabilities import LABEL_SET_TYPE, probabilities_in
from pipeline.output.columns.question_columns import as_stored, expectation, label_of
from pipeline.output.commit.records import CommitRecord
from pipeline.output.tally import Tally
from pipeline.trust.acceptance import Acceptance

_AT_ONCE = 4  # files


def rewrite(
    part: OutputPart,
    first: int,
    judged: Sequence[TrustedQuestion],
    stopped: Callable[[], bool] = lambda: False,
) -> int:
    """Write the labels of ``part`` as ``judged`` has them, whose row ``first`` (of those with an
    answer) is its first. Returns how many files changed. Raises KeyboardInterrupt when ``stopped``
    is true between two files; CommitFailed, CommitStateUnknown, JobFailed, StorageFailed."""

    def one(record: CommitRecord, at: int) -> bool:
        if stopped():
            raise KeyboardInterrupt
        return _rewrite_file(part, record, at, judged)

    places = accumulate((r.tally.succeeded for r in part.records), initial=first)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        changed = sum(pool.map(one, part.records, places))
    part.dataset.recover(part.dataset.newest(record) for record in part.records)
    return changed


def _rewrite_file(
    part: OutputPart, record: CommitRecord, at: int, judged: Sequence[TrustedQuestion]
) -> bool:
    stop = at + record.tally.succeeded

    def change(newest: CommitRecord, table: pa.Table) -> tuple[pa.Table, Tally] | None:
        made, total = table, deepcopy(newest.tally)
        for one in judged:
            made, labels = _relabelled(made, one, slice(at, stop))
            _count(total, one.known.asked, labels, _told(one.known, at, stop))
        if made.equals(table) and total == newest.tally:
            return None
        return made, total

    return part.dataset.recommit(record, change, {}).generation != record.generation


def _told(known: KnownAnswers, at: int, stop: int) -> list[str | None]:
    return [known.told.get(row) for row in range(at, stop)] if known.told else []


def _relabelled(table: pa.Table, one: TrustedQuestion, rows: slice) -> tuple[pa.Table, list[str]]:
    """``table`` with the columns of one question as they should be; and the labels of its rows
    with an answer, which are ``rows`` of all."""
    asked, report = one.known.asked, one.report
    names = asked.columns
    if one.known.written:
        told = table.column(names.answer).drop_null().to_pylist()
        return table, [label_of(asked, answer) for answer in told]
    answered = table.column(names.probabilities).is_valid().to_numpy(zero_copy_only=False)
    logs = np.asarray(one.known.log_probabilities[rows])
    decided = report.decide(logs)
    if report.calibration is not None:
        numbers, sure = decided.labels, decided.confidences
    else:  # the model's own, to the last bit
        own = probabilities_in(table.column(names.probabilities).filter(pa.array(answered)))
        numbers, sure = own.argmax(axis=1), own.max(axis=1)
    promised = isinstance(report.acceptance, Acceptance) and decided.accepted is not None
    accepted = _array(decided.accepted, answered, pa.bool_()) if promised else None
    labels = [asked.choices[n] for n in numbers.tolist()]
    if asked.kind == "predicate":  # how probable yes is
        yes = asked.choices.index(YES)
        sure = own[:, yes] if report.calibration is None else _of_yes(numbers == yes, sure)
    values = [as_stored(asked, label) for label in labels]
    columns: dict[str, pa.Array] = {
        names.answer: _array(values, answered, table.schema.field(names.answer).type),
        names.confidence: _array(sure, answered, pa.float64()),
        names.accepted: pa.nulls(len(answered), pa.bool_()) if accepted is None else accepted,
    }
    if names.expectation is not None:
        chances = own if report.calibration is None else report.calibration.apply(logs).round(12)
        means = [expectation(row) for row in chances.tolist()]
        columns[names.expectation] = _array(means, answered, pa.float64())
    if names.label_set in table.column_names:
        columns[names.label_set] = _sets(report.sets(logs), asked.choices, answered)
    for name, column in columns.items():
        place = table.column_names.index(name)
        table = table.set_column(place, table.schema.field(name), column)
    return table, labels


def _sets(
    belongs: NDArray[np.bool_] | None, choices: Sequence[str], answered: NDArray[np.bool_]
) -> pa.Array:
    """The choices of each row's set; null where none are known."""
    if belongs is None:
        return pa.nulls(len(answered), LABEL_SET_TYPE)
    sets = [[choices[n] for n in np.flatnonzero(row)] for row in belongs]
    return _array(sets, answered, LABEL_SET_TYPE)


def _of_yes(yes: NDArray[np.bool_], sure: NDArray[np.float64]) -> NDArray[np.float64]:
    """The probability of yes, of answers that are so sure."""
    return np.where(yes, sure, (1 - sure).round(12))


def _array(values: Any, answered: NDArray[np.bool_], kind: pa.DataType) -> pa.Array:
    """``values`` in the places of the rows with an answer; null elsewhere."""
    places = np.cumsum(answered) - 1
    return pa.array(values, kind).take(pa.array(places, mask=~answered))


def _count(
    total: Tally, asked: AskedQuestion, labels: Sequence[str], told: Sequence[str | None]
) -> None:
    """The labels of a unit and how they agree with right answers, counted anew."""
    pairs = [pair for pair in zip(told, labels, strict=False) if pair[0] is not None]
    confusion = Counter(f"{gold}\t{label}" for gold, label in pairs)
    if asked.text is None:
        total.labels, total.confusion = Counter(labels), confusion
        return
    total.question_labels = _again(total.question_labels, asked.name, Counter(labels))
    total.question_confusion = _again(total.question_confusion, asked.name, confusion)


def _again(counts: Counter[str], name: str, new: Counter[str]) -> Counter[str]:
    """``counts`` with those of the question ``name`` counted anew."""
    kept = {key: number for key, number in counts.items() if key.partition("\t")[0] != name}
    return Counter(kept | {f"{name}\t{key}": number for key, number in new.items()})
