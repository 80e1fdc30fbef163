"""A trace: requests that the simulator replays, with recorded lengths. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from pipeline.errors import UsageError
from pipeline.humanize import count

REQUIRED = ("prompt_tokens", "output_tokens")
OPTIONAL = ("prefix_group", "prefix_tokens", "arrival")
_LONGEST = 1 << 24  # tokens


@dataclass(frozen=True, slots=True)
class TraceRow:
    """One request. Sizes in tokens, ``arrival`` in seconds from the start.

    Rows of one ``prefix_group`` (-1: none) share their first ``prefix_tokens`` tokens. ``inner``:
    (group, tokens) of further groups; each lies within the previous one and shares more tokens.
    """

    id: int
    prompt_tokens: int
    output_tokens: int
    prefix_group: int = -1
    prefix_tokens: int = 0
    arrival: float = 0.0
    inner: tuple[tuple[int, int], ...] = ()

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.output_tokens

    def keys(self, block_size: int) -> tuple[int, ...]:
        """Keys of the whole blocks that it shares (see ``pipeline.admission.demand``)."""
        blocks = self.prefix_tokens // block_size if self.prefix_group >= 0 else 0
        keys = [hash((self.prefix_group, i)) for i in range(blocks)]
        for group, tokens in self.inner:
            keys += [hash((group, -1, i)) for i in range(len(keys), tokens // block_size)]
        return tuple(keys)


def rows_of(columns: Mapping[str, Sequence[Any]], where: str) -> list[TraceRow]:
    """Rows of a trace's columns, checked; other columns are ignored. ``where``: its name in
    messages.

    Raises UsageError for missing columns, no rows, non-numbers, nulls, negative or zero lengths,
    and a prefix longer than its prompt.
    """
    missing = [name for name in REQUIRED if name not in columns]
    if missing:
        raise UsageError(
            f"trace: {where} has no column {' and no column '.join(missing)}",
            f"columns: {', '.join(columns) or 'none'}",
            f"needed: {', '.join(REQUIRED)}; possible: {', '.join(OPTIONAL)}",
        )
    if ("prefix_tokens" in columns) != ("prefix_group" in columns):
        raise UsageError(f"trace: {where}: prefix_group and prefix_tokens only make sense together")
    rows = len(columns[REQUIRED[0]])
    if not rows:
        raise UsageError(f"trace: {where} has no rows")
    prompts = _whole(columns, "prompt_tokens", where, least=1)
    outputs = _whole(columns, "output_tokens", where, least=1)
    groups, shared, arrivals = [-1] * rows, [0] * rows, [0.0] * rows
    if "prefix_group" in columns:
        groups = _groups(columns["prefix_group"], where)
        raw = [
            0 if tokens is None and group < 0 else tokens
            for group, tokens in zip(groups, columns["prefix_tokens"], strict=True)
        ]
        shared = _whole({"prefix_tokens": raw}, "prefix_tokens", where, least=0)
        for row, (prefix, prompt) in enumerate(zip(shared, prompts, strict=True)):
            if prefix > prompt:
                raise _bad(where, row, f"prefix_tokens {prefix} is above prompt_tokens {prompt}")
    if "arrival" in columns:
        arrivals = _seconds(columns["arrival"], where)
    return [
        TraceRow(i, *values)
        for i, values in enumerate(zip(prompts, outputs, groups, shared, arrivals, strict=True))
    ]


def _groups(names: Sequence[Any], where: str) -> list[int]:
    """Numbers in place of names; -1 for null."""
    numbers: dict[Any, int] = {None: -1}
    for row, name in enumerate(names):
        if not isinstance(name, str | int | float | None):
            raise _bad(where, row, f"prefix_group is {name!r}, no name and no number")
        numbers.setdefault(name, len(numbers) - 1)
    return [numbers[name] for name in names]


def _whole(columns: Mapping[str, Sequence[Any]], name: str, where: str, least: int) -> list[int]:
    found = []
    for row, value in enumerate(columns[name]):
        if value is None:
            raise _bad(where, row, f"{name} is null")
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
            raise _bad(where, row, f"{name} is {value!r}, not a whole number")
        if not least <= value <= _LONGEST:
            bound = f"below {least}" if value < least else f"above {count(_LONGEST)}"
            raise _bad(where, row, f"{name} is {value:.0f}, {bound}")
        found.append(int(value))
    return found


def _seconds(values: Sequence[Any], where: str) -> list[float]:
    found = []
    for row, value in enumerate(values):
        if value is None:
            raise _bad(where, row, "arrival is null")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _bad(where, row, f"arrival is {value!r}, not a number of seconds")
        if not isfinite(value) or value < 0:
            raise _bad(where, row, f"arrival is {value}: seconds from the start, 0 or more")
        found.append(float(value))
    return found


def _bad(where: str, row: int, what: str) -> UsageError:
    return UsageError(f"trace: {where}, row {row + 1}: {what}")
