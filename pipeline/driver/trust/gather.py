"""All that is known of an output's labels: the model's own probabilities, and the right answers."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.driver.trust.parts import OutputPart
from pipeline.errors import UsageError
from pipeline.input.plain import plain_values
from pipeline.job.answer.questions import AskedQuestion
from pipeline.job.job import Job
from pipeline.output.columns.gold import names_of, truth
from pipeline.output.columns.probabilities import log_probabilities, log_probabilities_of
from pipeline.output.columns.question_columns import label_of
from pipeline.output.reviews.answers import Place
from pipeline.output.rows.example_rows import ExampleRows
from pipeline.output.rows.gold_file import gold_source, no_choices
from pipeline.rows.gold_row import GoldRow
from pipeline.trust.gold_sample import GoldSample

_IN_MEMORY_BYTES = 256 << 20  # of probabilities; more lie in a file


@dataclass
class KnownAnswers:
    """What is known of one question's answers. ``log_probabilities`` [rows, choices]: of the rows
    with an answer, over all parts in input order. ``told``: the right answers that the job names,
    by number of such a row, choices or not; ``reviewed``: those by people, of other rows.
    ``written``: there are labels of which nobody knows how probable they were; all of theirs is
    on the label.
    ``examples``: how many right answers were left out, whose rows are examples of the prompt."""

    asked: AskedQuestion
    log_probabilities: NDArray[np.float64]
    told: dict[int, str] = field(default_factory=dict)
    reviewed: dict[int, GoldRow] = field(default_factory=dict)
    in_examples: set[int] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    written: bool = False

    @property
    def examples(self) -> int:
        return len(self.in_examples & (self.told.keys() | self.reviewed.keys()))

    @property
    def strange(self) -> tuple[str, ...]:
        """What is wrong with right answers that are no choices, and the fix."""
        return no_choices(self.told.values(), self.asked)

    @property
    def sample(self) -> GoldSample:
        """The right answers that count, in the order of the rows."""
        number = {choice: n for n, choice in enumerate(self.asked.choices)}
        rows = sorted((self.told.keys() | self.reviewed.keys()) - self.in_examples)
        found = [self.reviewed.get(row) or GoldRow("", row, self.told[row]) for row in rows]
        places = [n for n, gold in enumerate(found) if gold.value in number]
        return GoldSample(
            np.array([rows[n] for n in places], np.int64),
            np.array([number[found[n].value] for n in places], np.int64),
            np.array([_probability(found[n]) for n in places], np.float64),
            np.array([found[n].random for n in places], np.bool_),
        )


def _probability(gold: GoldRow) -> float:
    return np.nan if gold.inclusion_probability is None else gold.inclusion_probability


def gather(
    parts: Sequence[OutputPart], job: Job, reviews: Mapping[str, Sequence[GoldRow]]
) -> list[KnownAnswers]:
    """For each question of ``job``; file by file. ``reviews``: by question.

    Raises UsageError for right answers that cannot be found; JobFailed, StorageFailed.
    """
    rows = sum(part.answered for part in parts)
    found = [KnownAnswers(asked, _room(rows, len(asked.choices))) for asked in job.asked]
    sources = [_Source(asked, reviews.get(asked.name, ())) for asked in job.asked]
    at = 0
    for part in parts:
        for source in sources:
            source.check(part)
        examples = ExampleRows(job, [new for _, new in part.manifest.kept])
        names = {asked.columns.probabilities for asked in job.asked} | set(examples.columns)
        names |= {asked.columns.answer for asked in job.asked}
        names |= {name for source in sources for name in source.columns(part)}
        wanted = [name for name in part.manifest.schema.names if name in names]
        for record in part.records:
            table = part.dataset.read_rows(record, wanted)
            first = job.asked[0].columns.answer
            answered = table.column(first).is_valid().to_numpy(zero_copy_only=False)
            if int(answered.sum()) != record.tally.succeeded:
                raise UsageError(
                    f"{part.dataset.storage.address(record.file)} has rows with neither "
                    "an answer nor an error",
                    f"see what is wrong: rackmill verify {part.dataset.storage.address()}",
                )
            table = table.filter(pa.array(answered))
            places = (record.row_range.start + np.flatnonzero(answered)).tolist()
            file = part.file_of(record)
            for known, source in zip(found, sources, strict=True):
                logs = _logs(known, table)
                known.log_probabilities[at : at + len(logs)] = logs
                source.look_up(known, part, table, [(file, place) for place in places], at)
            if examples and any(known.told or known.reviewed for known in found):
                among = np.flatnonzero(examples.among(table)) + at
                for known in found:
                    known.in_examples.update(among.tolist())
            at += table.num_rows
    for known, source in zip(found, sources, strict=True):
        known.notes += source.notes()
    return found


def _logs(known: KnownAnswers, table: pa.Table) -> NDArray[np.float64]:
    """Of the rows of ``table``, each of which has an answer."""
    asked = known.asked
    told = table.column(asked.columns.probabilities)
    if not told.null_count:
        return log_probabilities(told)
    known.written = True
    answers = table.column(asked.columns.answer).to_pylist()
    return log_probabilities_of([label_of(asked, one) for one in answers], asked.choices)


def _room(rows: int, choices: int) -> NDArray[np.float64]:
    """An array for so much; a large one in a file that goes with it."""
    if rows * choices * 8 <= _IN_MEMORY_BYTES:
        return np.empty((rows, choices))
    with tempfile.TemporaryFile(prefix="rackmill-trust-") as file:
        return np.memmap(file, np.float64, "w+", shape=(rows, choices))


class _Source:
    """Where the right answers to one question are found."""

    def __init__(self, asked: AskedQuestion, reviews: Sequence[GoldRow]) -> None:
        self._asked = asked
        self._column, self._file = gold_source(asked)
        self._reviews: dict[Place, GoldRow] = {(one.shard, one.row): one for one in reviews}

    def check(self, part: OutputPart) -> None:
        """Raises UsageError where the column that is needed was not kept."""
        name = self._column
        if name is None or part.manifest.kept_as(name) is not None:
            return
        there = name in part.manifest.input_schema.names
        kept = ", ".join(old for old, _ in part.manifest.kept)
        raise UsageError(
            f"{self._asked.gold_key}: {part.dataset.storage.address()} "
            + (f"was made without keeping the column {name!r}" if there else f"has no {name!r}"),
            f"it kept: {kept or 'no column of the input'}; right answers may also be in a file, "
            "by a column that was kept: --gold FILE --key COLUMN",
        )

    def columns(self, part: OutputPart) -> list[str]:
        column = self._column and part.manifest.kept_as(self._column)
        return [column] if column is not None else []

    def look_up(
        self,
        known: KnownAnswers,
        part: OutputPart,
        table: pa.Table,
        places: Sequence[Place],
        at: int,
    ) -> None:
        """Note the right answers of the rows of ``table``, which stand at ``places``."""
        for column in self.columns(part):
            values = table.column(column)
            answers: list[str | None]
            if self._file is not None:
                answers = self._file.look_up(values)
            else:
                names = names_of(self._asked.graded, part.manifest.input_schema)
                plain = plain_values(values)
                answers = [None if value is None else truth(value, names) for value in plain]
            for number, answer in enumerate(answers, at):
                if answer is not None:
                    known.told[number] = answer
        if self._reviews:
            for number, place in enumerate(places, at):
                if place in self._reviews and number not in known.told:
                    known.reviewed[number] = self._reviews[place]

    def notes(self) -> list[str]:
        said = self._file.check_found() if self._file is not None else None
        return [said] if said is not None else []
