"""The promises of a finished dataset, as checks that need no storage: each returns what is wrong,
where, and how to fix it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import RowErrorType
from pipeline.humanize import count, plural
from pipeline.input.units import Unit, halves
from pipeline.job.answer.questions import LABEL_COLUMNS, AnswerColumns
from pipeline.output.columns.answers_as_rows import by_row, problem_with
from pipeline.output.columns.probabilities import PROBABILITIES, probabilities_in
from pipeline.output.columns.question_columns import labels_in
from pipeline.output.commit.records import COMMITS, OUTPUT_NAME, CommitRecord, CommitState
from pipeline.output.manifest import Manifest
from pipeline.output.rows.redo import error_types, token_count
from pipeline.output.tally import Tally
from pipeline.output.totals import of_questions

GO_ON = "run the same job again: it goes on from there"
_ROUNDING = 1e-6  # of probabilities
_KINDS = frozenset(RowErrorType)
COUNTED = ("rows", "succeeded", "failed", "prompt_tokens", "completion_tokens", "errors", "labels")


@dataclass(frozen=True)
class Flaw:
    """A promise that is not kept."""

    what: str
    where: str
    fix: str


@dataclass(frozen=True)
class Layout:
    """What should be there. ``leaves``: the units and parts of units that cover the input without
    overlap, in order, each with its record, if it has one."""

    leaves: tuple[tuple[Unit, CommitRecord | None], ...]
    faults: tuple[Flaw, ...] = ()

    @property
    def complete(self) -> bool:
        return all(record is not None for _, record in self.leaves)


def lay_out(manifest: Manifest, state: CommitState) -> Layout:
    """Walk down from the input's original units: their records and cuts must cover the input
    without overlap, and there must be no others."""
    leaves: list[tuple[Unit, CommitRecord | None]] = []
    faults: list[Flaw] = []
    reached: set[str] = set()
    nodes = list(reversed(manifest.units))
    while nodes:
        node = nodes.pop()
        reached.add(node.id)
        at, record = state.cuts.get(node.id), state.commits.get(node.id)
        where = f"{COMMITS}/{node.id}.json"
        if at is not None and node.start < at < node.stop:
            nodes += reversed(halves(node, at))
            continue
        if at is not None:
            what = f"cuts rows {node.start}–{node.stop} of a file before row {at}"
            faults.append(Flaw(f"a record {what}", where, f"remove it, then {GO_ON}"))
        if record is not None and (problem := _misfit(node, record)):
            faults.append(Flaw(problem, where, f"remove it, then {GO_ON}"))
            record = None
        leaves.append((node, record))
    strays = [u for u in (*state.commits, *state.cuts) if u not in reached]
    faults += [
        Flaw("a record of a unit that is not one of this input", f"{COMMITS}/{unit}.json", GO_ON)
        for unit in strays
    ]
    return Layout(tuple(leaves), tuple(faults))


def _misfit(unit: Unit, record: CommitRecord) -> str | None:
    if record.file != unit.file_name:
        return f"a record names {record.file} instead of {unit.file_name}"
    if record.tally.rows != unit.rows:
        return f"a record counts {record.tally.rows} rows of a unit of {unit.rows}"
    return None


def missing_rows(layout: Layout, manifest: Manifest) -> list[Flaw]:
    """Rows of the input without a result, joined to ranges."""
    stretches: list[list[int]] = []
    for unit, record in layout.leaves:
        if record is not None:
            continue
        if stretches and stretches[-1][0] == unit.shard and stretches[-1][2] == unit.start:
            stretches[-1][2] = unit.stop
        else:
            stretches.append([unit.shard, unit.start, unit.stop])
    shards = manifest.content.shards
    return [
        Flaw(
            f"{plural(stop - start, 'row')} of the input have no result",
            f"{shards[shard].path}, rows {count(start)}–{count(stop)}",
            GO_ON,
        )
        for shard, start, stop in stretches
    ]


def check_files(
    layout: Layout, files: Mapping[str, int], folders: Sequence[str], attempts: Mapping[str, int]
) -> list[Flaw]:
    """Every record has its file and vice versa, and nothing else looks like data.

    ``files``: name -> bytes, of files where readers look; ``attempts``: path -> bytes.
    """
    faults = []
    named = set()
    for _, record in layout.leaves:
        if record is None:
            continue
        named.add(record.file)
        waits = record.attempt_path in attempts
        if record.file not in files:
            faults.append(
                Flaw("a committed file is not published yet", record.file, GO_ON)
                if waits
                else Flaw("a committed file is gone", record.file, redo(record))
            )
        elif files[record.file] != record.size and not waits:
            what = f"has {count(files[record.file])} bytes instead of {count(record.size)}"
            faults.append(Flaw(f"a committed file {what}", record.file, redo(record)))
    for name in [*files, *folders]:
        if name.startswith(("_", ".")) or name in named:
            continue
        if OUTPUT_NAME.fullmatch(name):
            what = "a data file that no record names: readers see rows that do not belong there"
            faults.append(Flaw(what, name, "remove it"))
        else:
            what = "is not rackmill's, and readers would take it for data"
            faults.append(Flaw(what, name, "move it elsewhere"))
    return faults


def redo(record: CommitRecord) -> str:
    """How to have a unit computed again."""
    later = f" and {record.unit}.N.json" if record.generation else ""
    return f"remove {COMMITS}/{record.unit}.json{later}, then {GO_ON}"


def check_table(table: pa.Table, record: CommitRecord, manifest: Manifest) -> list[Flaw]:
    """The schema, the error column and the counts of one file."""
    problems = _problems(table, record, manifest)
    return [Flaw(problem, record.file, redo(record)) for problem in problems]


def _problems(table: pa.Table, record: CommitRecord, manifest: Manifest) -> list[str]:
    schema = table.schema
    made_by = (schema.metadata or {}).get(b"rackmill.fingerprint", b"").decode()
    if made_by and made_by not in manifest.fingerprints:
        return ["comes from another job"]
    if schema.remove_metadata() != manifest.schema:
        return [f"has another schema than the dataset: {_difference(schema, manifest.schema)}"]
    each = manifest.rows_of_one
    if table.num_rows != record.tally.rows * each:
        what = f"has {count(table.num_rows)} rows, its record says {count(record.tally.rows)}"
        return [what + (f" with {each} answers each" if each > 1 else "")]
    problems = _error_problems(table, manifest.results)
    if each > 1:
        same = [*(new for _, new in manifest.kept), "prompt_tokens"]
        problem = problem_with(table, each, same)
        problems += [problem] if problem else []
    elif manifest.answers > 1:
        problems += _list_problems(table, manifest.answers)
    if manifest.has_choices and PROBABILITIES in manifest.results:
        problems += _probability_problems(table, LABEL_COLUMNS)
    for asked in manifest.questions:
        problems += _probability_problems(table, asked.columns)
    return problems + _count_problems(by_row(table, each), record.tally, manifest)


def _difference(found: pa.Schema, wanted: pa.Schema) -> str:
    if found.names != wanted.names:
        return f"columns {', '.join(found.names)} instead of {', '.join(wanted.names)}"
    wrong = next(f for f in wanted if found.field(f.name) != f)
    return f"column {wrong.name!r} is {found.field(wrong.name).type}, not {wrong.type}"


def _error_problems(table: pa.Table, results: Container[str]) -> list[str]:
    error, types = table.column("error"), error_types(table)
    failed = error.is_valid()
    problems = []
    unknown = {str(kind) for kind in types.filter(failed).unique().to_pylist()} - _KINDS
    if unknown:
        problems.append(f"has errors of unknown type: {', '.join(sorted(unknown))}")
    rows = error.filter(failed)
    messages, attempts = (pc.struct_field(rows, name) for name in ("message", "attempts"))
    if messages.null_count:
        problems.append(f"has {plural(messages.null_count, 'error')} without a message")
    if attempts.null_count or pc.any(pc.less(attempts, 0)).as_py():
        problems.append("has errors whose attempts are no count")
    answer = next((name for name in ("completion", "logprob") if name in results), None)
    if answer:
        silent = pc.and_(pc.invert(failed), table.column(answer).is_null())
        number = pc.sum(silent).as_py() or 0
        if number:
            problems.append(f"has {plural(number, 'row')} with neither an answer nor an error")
    return problems


def _probability_problems(table: pa.Table, columns: AnswerColumns) -> list[str]:
    """The model's probabilities of the choices sum to 1; ``raw_confidence`` is the largest."""
    answered = table.filter(table.column("error").is_null())
    absent = answered.column(columns.probabilities).null_count
    if absent:
        name = columns.probabilities
        return [f"has {plural(absent, 'row')} with neither {name} nor an error"]
    values = probabilities_in(answered.column(columns.probabilities))
    told = answered.column(columns.raw_confidence).to_numpy()
    problems = []
    for what, wrong in (
        (f"{columns.probabilities} do not sum to 1", np.abs(values.sum(1) - 1) > _ROUNDING),
        (
            f"{columns.raw_confidence} is not the largest",
            ~(np.abs(values.max(1) - told) <= _ROUNDING),
        ),
    ):
        if wrong.any():
            problems.append(f"has {plural(int(wrong.sum()), 'row')} whose {what}")
    return problems


def _list_problems(table: pa.Table, answers: int) -> list[str]:
    """Each row has as many answers as the job says, or an error."""
    failed = table.column("error").is_valid()
    short = pa.array([False] * table.num_rows)
    for name in ("completions", "finish_reasons", "completion_tokens"):
        column = table.column(name)
        wrong = pc.not_equal(pc.fill_null(pc.list_value_length(column), 0), answers)
        none_at_all = pc.and_(failed, column.is_null())
        short = pc.or_(short, pc.and_(wrong, pc.invert(none_at_all)))
        if pc.list_flatten(column).null_count:
            return [f"has nulls among its {name}"]
    number = pc.sum(short).as_py() or 0
    return [f"has {plural(number, 'row')} without {answers} answers and no error"] if number else []


def _count_problems(table: pa.Table, tally: Tally, manifest: Manifest) -> list[str]:
    found = count_table(table, manifest)
    counts = ("failed", "errors", "prompt_tokens", "completion_tokens", "labels", "question_labels")
    return [
        f"comes to {_shown(getattr(found, name))} {name}, its record says "
        f"{_shown(getattr(tally, name))}"
        for name in counts
        if getattr(found, name) != getattr(tally, name)
    ]


def _shown(value: Any) -> str:
    return str(dict(value)) if isinstance(value, Counter) else count(value)


def count_table(table: pa.Table, manifest: Manifest) -> Tally:
    """The counts of a tally that the rows themselves show."""
    failed = table.column("error").is_valid()
    tally = Tally(rows=table.num_rows, failed=pc.sum(failed).as_py() or 0)
    tally.errors = _counts(error_types(table).filter(failed))
    for name in ("prompt_tokens", "completion_tokens"):
        if name in manifest.results:
            setattr(tally, name, token_count(table.column(name)))
    if manifest.has_choices:
        tally.labels = _counts(table.column("label").filter(pc.invert(failed)))
    if manifest.questions:
        answered = table.filter(pc.invert(failed))
        tally.question_labels = labels_in(answered, manifest.questions)
    return tally


def _counts(values: pa.ChunkedArray) -> Counter[str]:
    return Counter({str(e["values"]): e["counts"] for e in values.value_counts().to_pylist()})


def check_totals(summary: Mapping[str, Any] | None, total: Tally, where: str) -> list[Flaw]:
    """Compares what the run reported at its end with the dataset."""
    fix = "remove _SUCCESS, then run the same job again: it writes the summary anew"
    if summary is None:
        return [Flaw("the summary is gone or damaged", where, fix)]
    problems = []
    for name in COUNTED:
        found = getattr(total, name)
        told = summary.get(name)
        if (dict(found) if isinstance(found, Counter) else found) != told:
            problems.append(f"the summary says {name} {told}, the rows come to {_shown(found)}")
    told = summary.get("questions") or {}
    for name, counts in of_questions(total).items():
        labels, there = told.get(name, {}).get("labels"), counts["labels"]
        if labels != there:
            problems.append(f"the summary says {labels} of {name}, the rows come to {there}")
    return [Flaw(problem, where, fix) for problem in problems]


def leftover_attempts(layout: Layout, attempts: Mapping[str, int]) -> tuple[int, int]:
    """Files and bytes of attempts that no record names."""
    named = {record.attempt_path for _, record in layout.leaves if record is not None}
    sizes = [size for path, size in attempts.items() if path not in named]
    return len(sizes), sum(sizes)
