"""The formats of input files: one line each, and what the layers ask of one by its name."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.registry import Registry


@dataclass(frozen=True)
class InputFormat:
    """``name``: as ``input.format`` has it; ``title``: as people call it. ``module``: its code, an
    ``input.formats.protocol.FormatModule``. ``suffixes``: how names of such files end. ``keys``: of
    ``input``, those that say something of such files. ``text``: they may be packed."""

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
