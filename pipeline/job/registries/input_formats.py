"""The formats of input files: one line each, with what the layers need to know by name."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.registry import Registry


@dataclass(frozen=True)
class InputFormat:
    """``name``: the value of ``input.format``; ``title``: its usual name. ``module``: its code, an
    ``input.formats.protocol.FormatModule``. ``suffixes``: endings of such files' names. ``keys``:
    the keys of ``input`` that apply to such files. ``text``: they may be compressed."""

    name: str
    title: str
    module: str
    suffixes: tuple[str, ...]
    keys: frozenset[str] = frozenset()
    text: bool = True


INPUT_FORMATS = Registry(
    InputFormat(
        "parquet", "Parquet", "pipeline.input.formats.parquet.kind", (".parquet", ".pq"), text=False
    ),
    InputFormat(
        "jsonl",
        "JSONL",
        "pipeline.input.formats.jsonl.kind",
        (".jsonl", ".ndjson", ".json"),
        frozenset({"encoding"}),
    ),
    InputFormat(
        "csv",
        "CSV",
        "pipeline.input.formats.csv.kind",
        (".csv", ".tsv", ".tab"),
        frozenset({"delimiter", "quotes", "encoding"}),
    ),
)


def format_by_suffix(suffix: str) -> InputFormat | None:
    """The format of files whose names end in ``suffix``, as ".csv"."""
    return next((one for one in INPUT_FORMATS if suffix in one.suffixes), None)
