"""The manifest: which job an output folder belongs to, and which input rows it covers.

It holds all that is needed to verify the dataset without the job file and without reading the
input: what identified each input file, where its units begin, the schemas of input and output.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Annotated, Any, Self

import pyarrow as pa
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipeline.errors import UsageError
from pipeline.input.changes.compare import absolute
from pipeline.input.shard import Shard
from pipeline.input.shards import InputFiles
from pipeline.input.units import Unit, recut, starts_of
from pipeline.job.answer.questions import AskedQuestion, Question, asked_of
from pipeline.job.fingerprint import digest, fingerprint_parts
from pipeline.job.job import Job
from pipeline.job.registries.input_formats import INPUT_FORMATS
from pipeline.output.columns.results import OutputColumns
from pipeline.output.commit.records import MANIFEST
from pipeline.output.folder import OutputFolder

Count = Annotated[int, Field(ge=0, lt=1 << 62)]
_NO_PART_OF_SHARDS = {"path", "at", "partition", "unit_rows", "starts", "name"}
_MOST_UNITS = 50_000_000  # we never write more, and more would fill the memory


def describe(
    job: Job,
    files: InputFiles,
    units: Sequence[Unit],
    columns: OutputColumns,
    *,
    rows: int,
    unit_rows: Sequence[int],
    model_hash: str,
    found: Manifest | None = None,
) -> dict[str, Any]:
    """The manifest of a run over the first ``rows`` rows. ``found``: the existing manifest."""
    parts = fingerprint_parts(job, model_hash=model_hash, input_hash=files.fingerprint)
    fingerprint = digest(parts)
    before = [*found.content.earlier, found.content.fingerprint] if found else []
    starts = starts_of(files.shards, units, unit_rows)
    return {
        "format": 1,
        "name": job.name,
        "fingerprint": fingerprint,
        "earlier": [f for f in dict.fromkeys(before) if f != fingerprint],
        "parts": parts,
        "rows": rows,
        "cast": sorted(job.input.cast),
        "kept": [list(pair) for pair in columns.kept],
        "schema": _encode(columns.schema),
        "input_schema": _encode(files.schema),
        "shards": [
            {**s.identity, "at": absolute(s.path), "format": s.format, "unit_rows": size}
            | {"name": s.name}
            | ({"starts": first} if first is not None else {})
            | ({"stamp": s.stamp} if s.stamp else {})
            | ({"content": s.content} if s.content else {})
            | ({"last_apart": True} if s.last_apart else {})
            for s, size, first in zip(files.shards, unit_rows, starts, strict=True)
        ],
    }


def add_contents(manifest: Mapping[str, Any], shards: Sequence[Shard]) -> dict[str, Any]:
    """The manifest, with what is now known about the content of the files."""
    entries = [
        entry | ({"content": shard.content} if shard.content else {})
        for entry, shard in zip(manifest["shards"], shards, strict=True)
    ]
    return {**manifest, "shards": entries}


class _Entry(BaseModel):
    """What identifies an input file, and where its units begin (None: every ``unit_rows``).
    ``taken_back``: rows at its end that are not part of the output any more."""

    model_config = ConfigDict(frozen=True, strict=True)

    path: str
    at: str
    format: Annotated[str, AfterValidator(INPUT_FORMATS.known)]
    size: Count
    version: str
    rows: Count
    layout: str = ""
    first: Count = 0
    partition: dict[str, str | None] = {}
    kind: str = ""
    delimiter: str = ""
    quotes: str = ""
    unit_rows: Annotated[int, Field(ge=1, lt=1 << 40)]
    starts: list[Count] | None = None
    stamp: str = ""
    content: str = ""
    last_apart: bool = False
    taken_back: Count = 0
    name: str = ""

    @property
    def called(self) -> str:
        """The file's name in messages and reviews."""
        return self.name or self.path

    @model_validator(mode="after")
    def _starts_ascend(self) -> Self:
        ascend = all(a < b for a, b in pairwise(self.starts or []))
        if self.starts and (self.starts[0] != self.first or not ascend):
            raise ValueError("units do not begin one after the other")
        if self.first + self.taken_back > self.rows:
            raise ValueError("more rows are left out than there are")
        return self


class _Content(BaseModel):
    """A manifest, checked: others may write to the folder."""

    model_config = ConfigDict(frozen=True, strict=True)

    name: str
    fingerprint: str
    earlier: list[str] = []
    parts: dict[str, Any]
    rows: Count
    cast: list[str] = []
    kept: list[Annotated[list[str], Field(min_length=2, max_length=2)]]
    output_schema: str = Field(alias="schema")
    input_schema: str
    shards: Annotated[list[_Entry], Field(min_length=1)]


@dataclass(frozen=True)
class Manifest:
    """A manifest read from its file."""

    content: _Content
    schema: pa.Schema
    input_schema: pa.Schema

    @property
    def name(self) -> str:
        return self.content.name

    @property
    def fingerprints(self) -> frozenset[str]:
        """Fingerprints of the job: the current one, and those before its input changed."""
        return frozenset([self.content.fingerprint, *self.content.earlier])

    @property
    def has_choices(self) -> bool:
        """Whether every answer is one of a few labels."""
        label = self.content.parts.get("label")
        return isinstance(label, dict) and bool(label.get("choices"))

    @property
    def questions(self) -> tuple[AskedQuestion, ...]:
        """The questions about each row, if there are several."""
        questions: Any = self.content.parts.get("questions") or ()
        try:
            return asked_of({name: Question.model_validate(one) for name, one in questions})
        except (ValueError, TypeError):
            return ()

    @property
    def answers(self) -> int:
        """Answers per row; if there are several, they are lists or separate rows."""
        sampling = self.content.parts.get("sampling")
        n = sampling.get("n", 1) if isinstance(sampling, dict) else 1
        return n if isinstance(n, int) else 1

    @property
    def rows_of_one(self) -> int:
        """Output rows per input row."""
        return self.answers if self.content.parts.get("output.n") == "rows" else 1

    @property
    def rows(self) -> int:
        return self.content.rows

    @property
    def kept(self) -> tuple[tuple[str, str], ...]:
        """(input column, output column)"""
        return tuple((old, new) for old, new in self.content.kept)

    def kept_as(self, column: str) -> str | None:
        """The output's name of an input column; None if it was not kept."""
        return dict(self.kept).get(column)

    @cached_property
    def results(self) -> frozenset[str]:
        """Names of the output columns that are not kept input columns."""
        return frozenset(self.schema.names) - {new for _, new in self.kept}

    @cached_property
    def entries(self) -> list[dict[str, Any]]:
        """What identified each input file, as plain data."""
        return [entry.model_dump() for entry in self.content.shards]

    @cached_property
    def shards(self) -> tuple[Shard, ...]:
        """The shards, with what is needed to read them front to back."""
        return tuple(
            Shard(
                index=number,
                path=entry.at,
                known_as=entry.path,
                offsets=(0,),
                partition=tuple(entry.partition.items()),
                **entry.model_dump(exclude=_NO_PART_OF_SHARDS),
            )
            for number, entry in enumerate(self.content.shards)
        )

    @cached_property
    def units(self) -> tuple[Unit, ...]:
        """The units that the input was cut into."""
        entries = self.content.shards
        starts = [entry.starts for entry in entries]
        return tuple(recut(self.shards, starts, [e.unit_rows for e in entries], self.rows))

    def type_changes(self, files: InputFiles, used: Sequence[str]) -> list[str]:
        """Which of the ``used`` input columns had another type when the folder was begun."""
        schemas = (self.input_schema, files.schema)
        then, now = (dict(zip(one.names, one.types, strict=True)) for one in schemas)
        return [
            f"{name} ({then.get(name, 'not there')} → {now.get(name, 'not there')})"
            for name in used
            if then.get(name) != now.get(name)
        ]


def manifest_of(folder: OutputFolder) -> Manifest | None:
    """The manifest of an output folder; None for a new one. Raises UsageError, StorageFailed."""
    content = folder.manifest()
    if content is None:
        return None
    return read_manifest(content, folder.storage.address(MANIFEST))


def need_manifest(folder: OutputFolder) -> Manifest:
    """The same. Raises UsageError also if there is none."""
    found = manifest_of(folder)
    if found is None:
        raise UsageError(f"{folder.storage.address()} holds no output of rackmill")
    return found


def read_manifest(content: Mapping[str, Any], where: str) -> Manifest:
    """Raises UsageError for a manifest that rackmill would not write."""
    try:
        checked = _Content.model_validate(content)
        schema, input_schema = _decode(checked.output_schema), _decode(checked.input_schema)
        if sum(e.rows for e in checked.shards) > _MOST_UNITS * min(
            e.unit_rows for e in checked.shards
        ):
            raise ValueError("there are more units than there can be")
        absent = [new for _, new in checked.kept if new not in schema.names]
        absent += [old for old, _ in checked.kept if old not in input_schema.names]
        if absent or "error" not in schema.names:
            raise ValueError(f"the schema lacks {(absent or ['error'])[0]!r}")
    except ValidationError as e:
        first = e.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise _damaged(where, f"{place}: {first['msg']}") from None
    except (ValueError, OSError, pa.ArrowException) as e:
        raise _damaged(where, str(e)) from None
    return Manifest(checked, schema, input_schema)


def _damaged(where: str, why: str) -> UsageError:
    return UsageError(
        f"{where} is damaged, or of another version of rackmill: {why}", "start over with --fresh"
    )


def _encode(schema: pa.Schema) -> str:
    return base64.b64encode(schema.serialize().to_pybytes()).decode()


def _decode(text: str) -> pa.Schema:
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text, validate=True)))
