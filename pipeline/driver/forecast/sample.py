"""Prompts of some hundred rows from all over the input: how long they are, what they share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from statistics import fmean, pstdev

from pipeline.budget.engine_arguments import PromptShape
from pipeline.errors import JobFailed, RowError, RowErrorType, StorageFailed, UsageError
from pipeline.input.formats.base import Rows
from pipeline.input.plain import plain_values
from pipeline.input.reader import UnitReader
from pipeline.input.shards import InputFiles
from pipeline.input.units import Unit
from pipeline.job.job import Job
from pipeline.model.tokenizer import Tokenizer
from pipeline.output.tally import length_bucket
from pipeline.prompt.builder import PromptBuilder, prompt_columns
from pipeline.prompt.choices import ChoiceTree
from pipeline.prompt.join import Prompt
from pipeline.rows.error_reasons import reason_of
from pipeline.rows.workload import Groups, Lengths, shape_of

_SAMPLED_ROWS, _SAMPLED_UNITS = 256, 8
# More where rows are of very different lengths: until the standard error of their mean is that
# share of it, as far as it takes about a second.
_SURE = 0.02
_MOST_ROWS, _MOST_TOKENS = 2048, 1 << 19
_MOST_PASSED_OVER = 1 << 16  # rows of the units that those are of


@dataclass(frozen=True)
class InputSample:
    """What was found. Lengths in tokens.

    ``choice_lengths``: of each choice of a label, or of the mean choices of all questions together;
    ``choice_requests``: that lead to one, in the mean over the choices. ``asks``: of each of
    several questions of a row.
    """

    rows: int
    shape: PromptShape
    lengths: Mapping[int, int]  # bucket (see length_bucket) -> rows
    problems: Mapping[str, int]  # "type: message" -> rows
    slices: Lengths
    groups: Groups | None  # that share more than all rows do
    choice_lengths: tuple[float, ...] = ()
    choice_requests: float = 1.0
    # some of the values of each column of right answers
    gold: Mapping[str, frozenset[Hashable]] = field(default_factory=dict)
    control_as_text: Mapping[str, int] = field(default_factory=dict)  # first name -> rows
    asks: tuple[int, ...] = ()


def take_sample(
    job: Job, files: InputFiles, units: Sequence[Unit], tokenizer: Tokenizer, context: int
) -> InputSample:
    """Read and tokenize a few rows from each of a few of ``units``. ``context``: tokens that a
    prompt and its answer may have at most. Raises UsageError, StorageFailed."""
    builder = PromptBuilder(job, tokenizer)
    reader = UnitReader(files.shards, files.schema)
    found = _take(reader, builder, job, _some_of(units, _SAMPLED_UNITS), _SAMPLED_ROWS, context)
    all_rows = sum(unit.rows for unit in units)
    wanted = _enough(found.lengths, all_rows)
    if wanted > found.rows:
        number = max(_SAMPLED_UNITS, _MOST_PASSED_OVER * len(units) // all_rows)
        found = _take(reader, builder, job, _some_of(units, number), wanted, context)
    reader.close()
    lengths = found.lengths
    slices = Lengths.of(lengths)
    common, groups = shape_of(found.stretches)
    shape = PromptShape(slices.mean, found.longest, common)
    buckets = Counter(length_bucket(n) for n in lengths)
    problems = found.problems
    choices = _choices(job, tokenizer)
    answers = {column: frozenset(values) for column, values in found.gold.items()}
    about = (*choices, answers, found.names, found.asks)
    return InputSample(found.rows, shape, buckets, problems, slices, groups, *about)


@dataclass
class _Taken:
    """``stretches``: the prompts of rows that follow each other. ``problems``: of the others."""

    rows: int = 0
    stretches: list[list[list[int]]] = field(default_factory=list)
    problems: Counter[str] = field(default_factory=Counter)
    gold: dict[str, set[Hashable]] = field(default_factory=dict)
    names: Counter[str] = field(default_factory=Counter)  # of control tokens in texts
    lengths: list[int] = field(default_factory=list)  # of all that a row's requests read
    longest: int = 0  # of a request
    asks: tuple[int, ...] = ()

    def like(self, problem: str) -> str:
        """One that was found before and differs only in numbers, else ``problem``."""
        reason = reason_of(problem)
        return next((one for one in self.problems if reason_of(one) == reason), problem)

    def take(self, prompt: Prompt) -> None:
        """Measure one that fits."""
        self.lengths.append(prompt.tokens)
        self.longest = max(self.longest, prompt.longest)
        self.asks = tuple(len(one.ids) - len(prompt.ids) for one in prompt.asked)


def _some_of(units: Sequence[Unit], number: int) -> list[Unit]:
    """So many from the first to the last, evenly spread; all where there are fewer."""
    number = min(number, len(units))
    return [units[i * (len(units) - 1) // max(1, number - 1)] for i in range(number)]


def _take(
    reader: UnitReader,
    builder: PromptBuilder,
    job: Job,
    units: Sequence[Unit],
    wanted: int,
    context: int,
) -> _Taken:
    """Of each of ``units`` as many of its first rows, about ``wanted`` in all; of the columns of
    right answers the values."""
    taken = _Taken()
    for number, unit in enumerate(sorted(units, key=lambda unit: unit.rows)):
        each = -(-max(0, wanted - taken.rows) // (len(units) - number))
        rows = min(each, unit.rows)
        taken.rows += rows
        stretch: list[list[int]] = []
        read = _read(reader, Unit(unit.id, unit.shard, unit.start, unit.start + rows))
        for column in job.gold_columns if rows else ():
            values = plain_values(read.table.column(column))
            known = {v for v in values if v is not None and isinstance(v, Hashable)}
            taken.gold.setdefault(column, set()).update(known)
        for prompt in _prompts(read, builder, job, taken.names):
            if isinstance(prompt, Prompt) and prompt.longest >= context:
                kind = RowErrorType.PROMPT_TOO_LONG.value
                text = f"{kind}: prompt has {prompt.longest} tokens, context {context}"
                taken.problems[taken.like(text)] += 1
            elif isinstance(prompt, Prompt):
                stretch.append(prompt.ids)
                taken.take(prompt)
            else:
                taken.problems[taken.like(prompt)] += 1
        taken.stretches.append(stretch)
    return taken


def _enough(lengths: Sequence[int], rows: int) -> int:
    """How many of all ``rows`` tell their mean length, by the ``lengths`` of some."""
    mean = fmean(lengths) if lengths else 0.0
    if not mean:
        return 0
    needed = (pstdev(lengths) / mean / _SURE) ** 2
    # neighbours are often alike, so where that takes a good part of the rows, all of them
    needed = rows if needed > rows / 4 else needed
    return min(ceil(needed), _MOST_ROWS, int(_MOST_TOKENS / mean))


def _read(reader: UnitReader, few: Unit) -> Rows:
    try:
        return reader.read(few)
    except StorageFailed:
        raise
    except JobFailed as e:  # damaged: nothing has begun yet
        raise UsageError(e.message, *e.hints) from None


def _prompts(
    read: Rows, builder: PromptBuilder, job: Job, names: Counter[str]
) -> list[Prompt | str]:
    """Of each row its prompt, or what is wrong with it. Counts the first ``names`` of control
    tokens that are text."""
    rows = read.table.num_rows
    columns = prompt_columns(job, read.table.column_names) if rows else []
    plain, invalid = read.plain(columns).read(0, rows)
    found: list[Prompt | str] = []
    for position, prompt in enumerate(builder.build(plain)):
        if position in invalid:
            found.append(f"InvalidRow: {invalid[position]}")
        elif isinstance(prompt, RowError):
            found.append(f"{prompt.type.value}: {prompt.message}")
        else:
            found.append(prompt)
    for row in plain:
        name = builder.read_as_text(row)
        if name is not None:
            names[name] += 1
    return found


def _choices(job: Job, tokenizer: Tokenizer) -> tuple[tuple[float, ...], float]:
    """Tokens of each choice, and the requests that lead to one (see ``prompt.choices``); of several
    questions together."""
    if not job.asked:
        return (), 1.0
    found = [_choices_of(one.choices, tokenizer) for one in job.asked]
    requests = sum(number for _, number in found)
    if not job.questions:
        return found[0][0], requests
    return (sum(fmean(lengths) for lengths, _ in found),), requests


def _choices_of(choices: Sequence[str], tokenizer: Tokenizer) -> tuple[tuple[float, ...], float]:
    sequences = [
        tuple(tokenizer.encode_plain(tokenizer.parts(tokenizer.mark(f" {choice}"))))
        for choice in choices
    ]
    lengths = tuple(map(len, sequences))
    known = len(ChoiceTree(tuple(dict.fromkeys(sequences))).start)  # all of them begin with
    return lengths, sum(max(1, n - known) for n in lengths) / len(lengths)
