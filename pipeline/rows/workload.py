"""Properties of a job's requests besides the lengths of its rows: what their prompts share, and how
many requests a row takes. Pure.

A plan finds them in a sample of the prompts, and a run writes them to its output. The plan's
prediction and the simulator both build their requests from them: so they simulate the same.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from math import isclose
from typing import Any

from pipeline.rows.trace import TraceRow

SCORE = "score"
_WORTH = 16  # a block: groups count if a few rows share this many tokens beyond what all share
_SLICES = 32


@dataclass(frozen=True)
class Groups:
    """Prompts that begin alike beyond what all have in common: questions about one document.

    ``share``: of the rows, 0..1. ``tokens``: that a group's rows share, from the prompt's first
    one, on average. ``rows``: consecutive rows of a group, on average. ``recurring``: number of
    groups that come again and again; 0: each comes once.
    """

    share: float
    tokens: int
    rows: float
    recurring: int = 0


@dataclass(frozen=True)
class RequestShape:
    """``kind``: see ``pipeline.budget.predict.Workload``. ``common_tokens``: with which all prompts
    begin. ``max_tokens``: the limit of every request; 0: unknown. ``answers``: written for each
    row, each by a separate request; ``apart``: each is a row of the output. ``asks``: tokens of
    each of several questions of a row, which follow its text."""

    kind: str = "text"
    common_tokens: int = 0
    groups: Groups | None = None
    max_tokens: int = 0
    answers: int = 1
    apart: bool = False
    asks: tuple[int, ...] = ()

    @property
    def scores(self) -> bool:
        return self.kind.startswith(SCORE)

    def encode(self) -> str:
        """As text, for a file's metadata."""
        return json.dumps(asdict(self))

    @classmethod
    def decode(cls, text: str) -> RequestShape:
        """Raises ValueError for text that ``encode`` did not write."""
        try:
            content: dict[str, Any] = json.loads(text)
            groups, asks = content.pop("groups"), tuple(content.pop("asks", ()))
            return cls(**content, asks=asks, groups=Groups(**groups) if groups else None)
        except (TypeError, KeyError, AttributeError) as e:
            raise ValueError(str(e)) from None


@dataclass(frozen=True)
class Lengths:
    """Numbers of tokens by equal shares: the mean of each of up to 32 slices of the sorted numbers,
    which keeps the mean of all and roughly their spread. ``longest``: the largest number, kept
    separately: an engine that has done all others waits for it (0: unknown)."""

    slices: tuple[float, ...] = field(default=())
    longest: float = 0.0

    @classmethod
    def of(cls, numbers: Sequence[float]) -> Lengths:
        ordered = sorted(numbers)
        parts = min(_SLICES, len(ordered))
        ends = [len(ordered) * i // parts for i in range(parts + 1)] if parts else []
        slices = cls(tuple(sum(ordered[a:b]) / (b - a) for a, b in pairwise(ends)))
        return slices.with_mean(sum(ordered) / len(ordered)) if parts else slices

    @classmethod
    def in_buckets(cls, buckets: Mapping[int, int], mean: float) -> Lengths:
        """From a histogram (upper end, a power of two -> rows), evenly within each bucket; scaled
        to the mean ``mean``."""
        numbers: list[float] = []
        total = sum(buckets.values())
        for end, rows in sorted(buckets.items()):
            points = max(1, round(rows / total * 8 * _SLICES))
            start = end // 2
            numbers += [start + (end - start) * (i + 0.5) / points for i in range(points)]
        return cls.of(numbers).with_mean(mean)

    @property
    def mean(self) -> float:
        return sum(self.slices) / len(self.slices) if self.slices else 0.0

    def with_mean(self, mean: float) -> Lengths:
        """Scaled to the mean ``mean``; if there are none, one length."""
        if not self.slices or not self.mean:
            return Lengths((mean,))
        if isclose(mean, self.mean):
            return self
        by = mean / self.mean
        return Lengths(tuple(s * by for s in self.slices), self.longest * by)

    def draw(self, count: int, seed: int) -> list[int]:
        """``count`` integers, at least 1: every slice equally often, in a fixed shuffled order;
        their mean is that of the slices. One of them is the longest."""
        dice = random.Random(seed)
        drawn: list[int] = []
        debt = 0.0  # from rounding
        while len(drawn) < count:
            turn = list(self.slices)
            dice.shuffle(turn)
            for value in turn[: count - len(drawn)]:
                whole = max(1, round(value + debt))
                debt += value - whole
                drawn.append(whole)
        return self._with_longest(drawn)

    def _with_longest(self, drawn: list[int]) -> list[int]:
        """The last of the largest becomes the longest, the others of its slice become shorter."""
        longest, most = round(self.longest), max(drawn, default=0)
        if longest <= most:
            return drawn
        top = [place for place, number in enumerate(drawn) if number >= most - 1]
        others, last = top[:-1], top[-1]
        least = sorted(self.slices)[-2] if len(self.slices) > 1 else 1.0
        for place in others:
            drawn[place] -= min(round((longest - most) / len(others)), max(0, most - round(least)))
        drawn[last] = longest
        return drawn


def shape_of(stretches: Sequence[Sequence[Sequence[int]]]) -> tuple[int, Groups | None]:
    """What prompts share: the number of tokens with which all begin, and the groups beyond those.

    ``stretches``: the ids of consecutive rows, from several places of the input.
    """
    prompts = [ids for stretch in stretches for ids in stretch]
    if len(prompts) < 2:
        return 0, None
    places = [number for number, stretch in enumerate(stretches) for _ in stretch]
    order = sorted(range(len(prompts)), key=lambda row: list(prompts[row]))
    shared = [common_prefix(prompts[a], prompts[b]) for a, b in pairwise(order)]
    common = min(shared)
    groups: list[list[int]] = [[order[0]]]
    tokens: list[int] = []
    for after, (row, length) in enumerate(zip(order[1:], shared, strict=True)):
        # equal prompts are no group: they are computed once
        if length >= common + _WORTH and prompts[row] != prompts[order[after]]:
            groups[-1].append(row)
            tokens.append(length)
        elif length < common + _WORTH:
            groups.append([row])
    several = [rows for rows in groups if len(rows) > 1]
    grouped = sum(map(len, several))
    if not grouped:
        return common, None
    again = sum(len({places[row] for row in rows}) > 1 for rows in several)
    recurring = len(several) if 2 * again > len(several) else 0
    return common, Groups(
        grouped / len(prompts),
        round(sum(tokens) / len(tokens)),
        grouped / len(several),
        recurring,
    )


def requests(
    shape: RequestShape, lengths: Sequence[tuple[int, int]], per_row: float = 1.0
) -> list[TraceRow]:
    """The requests of rows with these (prompt, completion) ``lengths``, in their order; for rows
    with several answers there is one of the lengths for each answer.

    ``per_row``: requests per row on average; those after the first generate one more token after
    the same prompt. If a row has several questions, there is one request for each, after the text
    that they share, and a prompt's length is that of all together.
    """
    made: list[TraceRow] = []
    single = shape.scores or shape.kind == "choices"  # one token each
    for place, (prompt, completion) in enumerate(lengths):
        number = place // shape.answers
        prompt = max(1, prompt - sum(shape.asks))
        group, tokens = (-1, 0) if shape.scores else _group(shape, number)
        tokens = min(tokens, prompt)
        inner: tuple[tuple[int, int], ...] = ()
        if tokens > shape.common_tokens > 0:
            inner = ((group, tokens),)
            group, tokens = 0, shape.common_tokens
        elif group < 0 and shape.common_tokens and not shape.scores:
            group, tokens = 0, min(shape.common_tokens, prompt)
        asks = shape.asks or (0,)
        in_all = int((number + 1) * per_row) - int(number * per_row) if single else 1
        more = max(0, in_all - len(asks))
        if more > 0 or shape.answers > 1 or len(asks) > 1:
            inner += ((-2 - number, prompt),)
        for ask in [*asks, *(asks[-1] + extra for extra in range(1, more + 1))]:
            answer = 1 if single else max(completion, 1)
            made.append(TraceRow(len(made), prompt + ask, answer, group, tokens, 0.0, inner))
    return made


def _group(shape: RequestShape, number: int) -> tuple[int, int]:
    """(group, tokens that it shares) of row ``number``; group -1 if it has none."""
    groups = shape.groups
    if groups is None:
        return -1, 0
    dice = random.Random(number)
    if groups.recurring:
        name = dice.randrange(groups.recurring)
        return (name + 1, groups.tokens) if dice.random() < groups.share else (-1, 0)
    name = int(number / groups.rows)
    shared = random.Random(-name - 1).random() < groups.share
    return (name + 1, groups.tokens) if shared else (-1, 0)


def repeated(lengths: Sequence[tuple[int, int]], answered_once: int) -> set[int]:
    """Which ``answered_once`` rows cost nothing: first those as long as an earlier one, since equal
    rows are equally long; then the last ones."""
    seen: Counter[tuple[int, int]] = Counter()
    alike: list[int] = []
    for number, length in enumerate(lengths):
        if seen[length]:
            alike.append(number)
        seen[length] += 1
    chosen = set(alike[:answered_once])
    for number in range(len(lengths) - 1, -1, -1):
        if len(chosen) >= answered_once:
            break
        chosen.add(number)
    return chosen


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """The number of their first tokens that are equal."""
    end = min(len(a), len(b))
    return next((i for i in range(end) if a[i] != b[i]), end)
