"""What a run would do, found out without loading an engine. `run` starts from the same plan."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import pyarrow as pa

from pipeline.cluster.engine_groups import engines_here
from pipeline.driver.forecast.sample import InputSample, take_sample
from pipeline.driver.plan.auto_engine import with_known_engine
from pipeline.driver.plan.job_model import find_model, model_identity
from pipeline.driver.trust.gold_check import check_gold_files
from pipeline.errors import HalfWritten, StorageFailed, UsageError, unknown_column
from pipeline.humanize import plural
from pipeline.input.changes.compare import NO_CHANGES, InputChanges, absolute, compare
from pipeline.input.output_apart import check_places
from pipeline.input.shards import InputFiles, discover
from pipeline.input.units import Unit, branches, cut, leaves
from pipeline.job.fingerprint import digest
from pipeline.job.job import Job
from pipeline.job.sampling import SAMPLING_COLUMN
from pipeline.model.folder import ModelFolder
from pipeline.model.stand_in import resolve_for_planning
from pipeline.model.store.resolve import check_reference
from pipeline.output.columns.gold import mismatch, names_of, truth
from pipeline.output.columns.results import OutputColumns, output_columns
from pipeline.output.commit.records import MANIFEST, CommitRecord, CommitState
from pipeline.output.dataset import Dataset
from pipeline.output.manifest import Manifest, describe, read_manifest
from pipeline.output.rows.redo import Redo
from pipeline.output.tally import Tally
from pipeline.prompt.builder import tokenizer_of
from pipeline.rows.work_order import SMALLEST, unit_rows
from pipeline.storage.base import Storage, open_storage
from pipeline.storage.transient_errors import passes


@dataclass(frozen=True)
class InputPlan:
    """The checked input and output of a job: everything known before the model is touched.

    ``unit_rows``: rows of a unit, for each shard.
    """

    job: Job
    files: InputFiles
    units: tuple[Unit, ...]
    columns: OutputColumns
    rows: int
    unit_rows: tuple[int, ...] = ()
    gold_notes: tuple[str, ...] = ()  # on files of right answers


@dataclass(frozen=True, repr=False)
class Plan:
    """A checked job: its input, its model, its output and what is there of it already."""

    input: InputPlan
    model: ModelFolder
    manifest: Mapping[str, Any]
    committed: Mapping[str, CommitRecord]  # by unit id, or that of a part of a unit
    missing: tuple[Unit, ...]  # units that are still to do, and parts of units
    outgrown: tuple[CommitRecord, ...] = ()  # of units that are no more: see ``changes``, --rows
    model_seconds: float = 0.0  # that fetching and converting the model took
    changes: InputChanges = NO_CHANGES  # since the folder was begun
    moved: tuple[tuple[CommitRecord, str], ...] = ()  # whose file gets another name
    stray_cuts: tuple[str, ...] = ()  # of units that are no more
    redo: Redo | None = None  # error rows are done again: see ``retry``

    def __repr__(self) -> str:
        files = plural(len(self.input.files.shards), "file")
        to_do = f"{self.rows_left} to do with {self.model.name} → {self.job.output.path}"
        return f"Plan({self.job.name}: {plural(self.input.rows, 'row')} in {files}, {to_do})"

    @cached_property
    def sample(self) -> InputSample:
        """Read and tokenize a few rows from each of a few units spread over the input."""
        files = self.input.files
        tokenizer = tokenizer_of(self.job, self.model)
        return take_sample(self.job, files, self.units, tokenizer, self.context)

    @property
    def context(self) -> int:
        """Tokens that a prompt and its answer may have at most: as the job says, or the model."""
        most = self.model.geometry.context
        return min(self.job.engine.max_model_len or most, most)

    @property
    def doubts(self) -> tuple[str, ...]:
        """What of the job is allowed, and hardly meant; each with its fix."""
        doubts = self.input.gold_notes
        names = self.sample.control_as_text
        if names:
            rows = plural(sum(names.values()), "sampled row")
            doubts += (
                f"{next(iter(names))} stands in the text of {rows}, and is text to the model",
                "if rows contain control tokens on purpose, as prompts built by hand do: "
                "special_tokens: control",
            )
        scored = self.job.score is not None and self.job.score.completion is not None
        if not self.job.prompt_fields and not scored:
            doubts += (
                "the prompt names no column: all rows ask the same",
                "write {COLUMN} where a row's text belongs",
            )
        for key, asked in self.job.graded.items():
            known = names_of(asked, self.input.files.schema)
            values = self.sample.gold.get(asked.gold_column or "", frozenset())
            doubts += mismatch(asked, key, {truth(value, known) for value in values}) or ()
        return doubts

    @property
    def template(self) -> str:
        """Identifies prompt, output shape and sampling, whatever the model and the rows are."""
        apart = ("model", "input", "output.keep")
        return digest({k: v for k, v in self.manifest["parts"].items() if k not in apart})

    @property
    def job(self) -> Job:
        return self.input.job

    @property
    def units(self) -> tuple[Unit, ...]:
        return self.input.units

    @cached_property
    def reused(self) -> Tally:
        """The rows that a resume would skip."""
        total = Tally()
        for record in self.committed.values():
            total.add(record.tally)
        return total

    @property
    def rows_left(self) -> int:
        """To be computed."""
        if self.redo is not None:
            return self.redo.rows
        return sum(unit.rows for unit in self.missing)

    @property
    def most_engines(self) -> int:
        """To so many there is something to give: what is missing of a unit may be cut."""
        return max(1, sum(-(-unit.rows // SMALLEST) for unit in self.missing))

    @property
    def units_done(self) -> int:
        """Units of which nothing is missing."""
        return len(self.units) - len({(u.whole or u).id for u in self.missing})


def check_input(
    job: Job,
    rows: int | None = None,
    files: InputFiles | None = None,
    *,
    leave: Collection[str] = (),
    engines: int | None = None,
) -> InputPlan:
    """Find fault with everything that can be checked without the model; within seconds.

    ``rows``: take only the first so many. ``files``: the input, where it has been looked into;
    ``leave``: files that are known not to be whole; ``engines``: that it may be worked on by,
    None: by those of this machine. Raises UsageError.
    """
    job = with_known_engine(job)
    check_reference(job.model)
    check_places(job)
    files = files or discover(job.input, leave)
    _check_conflicts(job, files)
    if files.rows or files.schema.names:
        _check_fields(job, files.schema)
    columns = output_columns(job, files.schema)
    total = files.rows if rows is None else min(rows, files.rows)
    size = unit_rows(files.rows, engines_here(job) if engines is None else engines)
    sizes = (size,) * len(files.shards)
    units = cut(files.shards, sizes, total)
    notes = check_gold_files(job, files, columns, units)
    return InputPlan(job, files, tuple(units), columns, total, sizes, notes)


def make_plan(
    inputs: InputPlan,
    *,
    fresh: bool = False,
    report: Callable[[str], None] = lambda line: None,
    fetch: bool = True,
    output: Storage | None = None,
) -> Plan:
    """The full plan: resolves the model (converting it if that was never done), compares what
    the output folder holds.

    ``fresh``: what the output folder holds does not count. ``fetch``: a model that is not here
    is downloaded; otherwise the plan is made with what the catalogue knows of it. ``output``: the
    output folder, where it is open. Raises UsageError, JobFailed.
    """
    job = inputs.job
    started = time.monotonic()
    model = find_model(job, report) if fetch else resolve_for_planning(job.model, report)
    model_seconds = time.monotonic() - started
    if job.messages is not None and job.chat_template is None and not model.has_chat_template:
        raise UsageError(
            f"messages need a chat template, and {model.name} is a base model without one",
            "use an instruction-tuned model, or name a template: chat_template: gemma3",
        )
    changes = NO_CHANGES
    found: Manifest | None = None
    dataset = Dataset(output or open_storage(job.output.path))
    state = CommitState({}, {})
    if not fresh:
        try:
            if not dataset.half_cleared:
                content = dataset.manifest()
                dataset.check(_manifest(inputs, model, None))
                if content is not None:
                    found = read_manifest(content, dataset.storage.address(MANIFEST))
                    inputs, changes = _as_begun(inputs, found)
                state = dataset.state()
        except StorageFailed as e:
            if not isinstance(e.__cause__, OSError) or passes(e.__cause__):
                raise
            where = f"output.path {job.output.path} cannot be used: {e.message}"
            raise UsageError(where, "give another --output") from None
    committed, missing = sort_out(inputs, state)
    others = [record for unit, record in state.commits.items() if unit not in committed]
    where = dataset.storage.address()
    _refuse_to_shrink(inputs, others, changes, where)
    if found is not None and state.commits:
        _refuse_to_drop_what_waits(inputs.files, found, changes, where)
        _refuse_what_does_not_map(inputs, found, changes, bool(committed), where)
    names = {leaf.id: leaf.file_name for unit in inputs.units for leaf in leaves(unit, state.cuts)}
    moved = [(r, names[unit]) for unit, r in committed.items() if r.file != names[unit]]
    committed |= {record.unit: replace(record, file=name) for record, name in moved}
    reached = {node for unit in inputs.units for node in branches(unit, state.cuts)}
    return Plan(
        inputs,
        model,
        _manifest(inputs, model, found),
        committed,
        missing,
        tuple(others),
        model_seconds,
        changes if state.commits else NO_CHANGES,
        tuple(moved),
        tuple(state.cuts.keys() - reached),
    )


def _as_begun(inputs: InputPlan, found: Manifest) -> tuple[InputPlan, InputChanges]:
    """The input as the folder knows it: files that are as they were have their names and their
    units of then, whatever else is there now; rows get the columns that those there have."""
    columns = output_columns(inputs.job, inputs.files.schema, found.results)
    shards, changes = compare(inputs.files.shards, found.entries)
    sizes = list(inputs.unit_rows)
    for now, then in changes.kept.items():
        sizes[now] = found.content.shards[then].unit_rows
    units = tuple(cut(shards, sizes, inputs.rows))
    files = replace(inputs.files, shards=shards)
    sized = replace(inputs, files=files, units=units, unit_rows=tuple(sizes), columns=columns)
    return sized, changes


def sort_out(
    inputs: InputPlan, state: CommitState
) -> tuple[dict[str, CommitRecord], tuple[Unit, ...]]:
    """Of the units, and what they were cut into: the records of those that are committed, in
    input order, and the others."""
    committed: dict[str, CommitRecord] = {}
    missing: list[Unit] = []
    for unit in inputs.units:
        for leaf in leaves(unit, state.cuts):
            record = state.commits.get(leaf.id)
            if record is None:
                missing.append(leaf)
            else:
                committed[leaf.id] = record
    return committed, tuple(missing)


def _refuse_to_shrink(
    inputs: InputPlan, others: list[CommitRecord], changes: InputChanges, where: str
) -> None:
    """A larger --rows goes on from a smaller one; the other way round would throw rows away."""
    ends = {unit.shard: unit.stop for unit in inputs.units}  # the last of a shard stays
    places = {then: now for now, then in changes.kept.items()}
    done = [record.row_range for record in others]
    if any(shard in places and stop > ends.get(places[shard], 0) for shard, _, stop in done):
        raise UsageError(
            f"{where} already holds more than the first {inputs.rows} rows",
            "leave --rows away or raise it, give another --output, or start over with --fresh",
        )


def _refuse_to_drop_what_waits(
    files: InputFiles, found: Manifest, changes: InputChanges, where: str
) -> None:
    """A file that is not whole now is not one that is gone: the rows made of it stay."""
    waiting = {absolute(one.path): one for one in files.left}
    for entry in found.entries:
        one = waiting.get(entry.get("at") or absolute(entry["path"]))
        if one is not None and entry["path"] in changes.removed:
            raise HalfWritten(
                f"not whole now: {one}; {where} was begun with it, and its rows would be dropped",
                "run again when it is whole, or give another --output",
            )


def _refuse_what_does_not_map(
    inputs: InputPlan, found: Manifest, changes: InputChanges, keeps: bool, where: str
) -> None:
    """What is there must have come from this input, and be of one schema with what is to come."""
    fix = "give another --output, or start over with --fresh"
    if changes.another_input:
        gone = changes.removed[0]
        raise UsageError(
            f"{where} holds the output of another input: none of its files is one of this job's "
            f"({gone}, …)",
            fix,
        )
    types = found.type_changes(inputs.files, _used_columns(inputs)) if keeps else []
    if types:
        raise UsageError(
            f"the input has other types than when {where} was begun: {', '.join(types)}",
            "the rows that are there would not go with new ones",
            fix,
        )


def _used_columns(inputs: InputPlan) -> list[str]:
    """The input columns that output rows depend on."""
    job, names = inputs.job, inputs.files.schema.names
    used = [f if f in names else f.split(".")[0] for f in job.prompt_fields]
    used += [old for old, _ in inputs.columns.kept] + [SAMPLING_COLUMN]
    used += job.gold_columns
    used += [job.score.completion] if job.score and job.score.completion else []
    return list(dict.fromkeys(used))


def _check_conflicts(job: Job, files: InputFiles) -> None:
    """Of columns whose types differ too much only those matter that the job uses."""
    keep = job.output.keep
    used = {field.partition(".")[0] for field in job.prompt_fields} | set(job.prompt_fields)
    used |= set(job.gold_columns)
    used |= {job.score.completion} if job.score and job.score.completion else set()
    for conflict in files.conflicts:
        name = conflict.column
        if keep is None or name in keep or name in used or name == SAMPLING_COLUMN:
            others = ", ".join(files.schema.names)
            leave = [] if name in used else [f"leave it out: output: {{keep: [{others}]}}"]
            raise UsageError(
                f"the input files disagree: {conflict}",
                *leave,
                f"make it text: input: {{cast: {{{name}: string}}}}",
            )


def _check_fields(job: Job, schema: pa.Schema) -> None:
    column = job.prompt.column if job.prompt else None
    if column in schema.names and job.instructions:
        kind = schema.field(column).type
        if pa.types.is_list(kind) or pa.types.is_large_list(kind):
            raise UsageError(f"instructions cannot stand before token ids (column {column!r})")
    for field in job.prompt_fields:
        if field in schema.names:
            continue
        head, dot, rest = field.partition(".")
        if dot and head in schema.names and pa.types.is_struct(schema.field(head).type):
            inner = schema.field(head).type
            if inner.get_field_index(rest.split(".")[0]) >= 0:
                continue
        key = "prompt" if job.prompt else "messages"
        raise unknown_column(f"{key} uses {{{field}}}", field, schema.names, "{{{}}}")


def _manifest(inputs: InputPlan, model: ModelFolder, found: Manifest | None) -> dict[str, Any]:
    return describe(
        inputs.job,
        inputs.files,
        inputs.units,
        inputs.columns,
        rows=inputs.rows,
        unit_rows=inputs.unit_rows,
        model_hash=model_identity(inputs.job, model),
        found=found,
    )
