"""Prompts of a few hundred rows from all over the input: how long they are, what they share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.budget.settings import PromptShape
from pipeline.data.choices import ChoiceTree
from pipeline.data.plain import plain_rows
from pipeline.data.prompts import PromptBuilder
from pipeline.data.read import UnitReader
from pipeline.data.seam import Prompt
from pipeline.data.shards import InputFiles
from pipeline.data.tally import length_bucket
from pipeline.data.units import Unit
from pipeline.errors import JobFailed, RowError, StorageFailed, UsageError
from pipeline.model.tokenizer import Tokenizer
from pipeline.schedule.shape import Groups, Lengths, shape_of
from pipeline.spec.job import Job

_SAMPLED_ROWS = 256
_SAMPLED_UNITS = 8


@dataclass(frozen=True)
class Sample:
    """What was found. Lengths in tokens.

    ``choice_lengths``: of each choice of a label; ``choice_requests``: that lead to one, in the
    mean over the choices.
    """

    rows: int
    shape: PromptShape
    lengths: Mapping[int, int]  # bucket (see length_bucket) -> rows
    problems: Mapping[str, int]  # "type: message" -> rows
    slices: Lengths
    groups: Groups | None  # that share more than all rows do
    choice_lengths: tuple[int, ...] = ()
    choice_requests: float = 1.0

    @property
    def choice_tokens(self) -> float | None:
        """Of a label, in the mean over the choices."""
        lengths = self.choice_lengths
        return sum(lengths) / len(lengths) if lengths else None


def take_sample(job: Job, files: InputFiles, units: Sequence[Unit], tokenizer: Tokenizer) -> Sample:
    """Read and tokenize a few rows from each of a few of ``units``. Raises UsageError,
    StorageFailed."""
    builder = PromptBuilder(job, tokenizer)
    reader = UnitReader(files.shards, files.schema)
    few_units = min(_SAMPLED_UNITS, len(units))
    last = len(units) - 1
    chosen = [units[i * last // max(1, few_units - 1)] for i in range(few_units)]
    per_unit = -(-_SAMPLED_ROWS // len(chosen))
    stretches: list[list[list[int]]] = []
    problems: Counter[str] = Counter()
    rows = 0
    for unit in chosen:
        stretches.append([])
        few = Unit(unit.id, unit.shard, unit.start, min(unit.stop, unit.start + per_unit))
        for prompt in _prompts(reader, builder, few):
            rows += 1
            if isinstance(prompt, Prompt):
                stretches[-1].append(prompt.ids)
            else:
                problems[prompt] += 1
    reader.close()
    lengths = [len(ids) for stretch in stretches for ids in stretch]
    slices = Lengths.of(lengths)
    common, groups = shape_of(stretches)
    shape = PromptShape(slices.mean, max(lengths, default=0), common)
    buckets = Counter(length_bucket(n) for n in lengths)
    return Sample(rows, shape, buckets, problems, slices, groups, *_choices(job, tokenizer))


def _prompts(reader: UnitReader, builder: PromptBuilder, few: Unit) -> list[Prompt | str]:
    """Of each row its prompt, or what is wrong with it."""
    try:
        read = reader.read(few)
    except StorageFailed:
        raise
    except JobFailed as e:  # damaged: nothing has begun yet
        raise UsageError(e.message, *e.hints) from None
    table = read.table.select(builder.columns(read.table.column_names)) if few.rows else None
    plain, wrong = plain_rows(table) if table else ([], {})
    invalid = wrong | read.invalid
    found: list[Prompt | str] = []
    for position, prompt in enumerate(builder.build(plain)):
        if position in invalid:
            found.append(f"InvalidRow: {invalid[position]}")
        elif isinstance(prompt, RowError):
            found.append(f"{prompt.type.value}: {prompt.message}")
        else:
            found.append(prompt)
    return found


def _choices(job: Job, tokenizer: Tokenizer) -> tuple[tuple[int, ...], float]:
    """Tokens of each choice, and the requests that lead to one (see ``data.choices``)."""
    choices = job.label.choices if job.label else None
    if not choices:
        return (), 1.0
    sequences = [tuple(tokenizer.encode_plain(f" {choice}")) for choice in choices]
    lengths = tuple(map(len, sequences))
    known = len(ChoiceTree(tuple(dict.fromkeys(sequences))).start)  # all of them begin with
    return lengths, sum(max(1, n - known) for n in lengths) / len(lengths)
