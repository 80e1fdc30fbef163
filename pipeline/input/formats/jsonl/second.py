"""JSON Lines and arrays read a second time: each value is compared with the output's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from pipeline.input.formats.jsonl.array import values_of
from pipeline.input.formats.second_rows import RowByRow, text_of
from pipeline.input.json_reading import says_json, value_of
from pipeline.input.shard import Shard


class SecondLines(RowByRow):
    def __init__(self, shard: Shard) -> None:
        super().__init__(_entries(shard) if "array" in shard.kind else _objects(shard))

    def _alike(self, value: Any, told: Any, name: str) -> bool:
        return says_json(value, self._says(told, name))

    def _says(self, told: Any, name: str) -> Any:
        return told.get(name) if isinstance(told, dict) else None


def _entries(shard: Shard) -> Iterator[Any]:
    with text_of(shard) as file:
        yield from values_of(file.read().decode("utf-8-sig", errors="surrogateescape"))


def _objects(shard: Shard) -> Iterator[Any]:
    with text_of(shard) as file:
        for line in file:
            if not line.strip():
                continue
            value = None
            with suppress(ValueError, RecursionError):
                value = value_of(line)
            yield value
