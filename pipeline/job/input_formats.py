"""The formats of input files: one line each, and what the layers ask of one by its name."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.errors import did_you_mean, one_of


@dataclass(frozen=True)
class InputFormat:
    """``name``: as ``input.format`` has it; ``title``: as people call it. ``module``: its code, an
    ``input.formats.door.FormatModule``. ``suffixes``: how names of such files end. ``keys``: of
    ``input``, those that say something of such files. ``text``: they may be packed."""

    name: str
    title: str
    module: str
    suffixes: tuple[str, ...]
    keys: frozenset[str] = frozenset()
    text: bool = True


_FORMATS: dict[str, InputFormat] = {}


def register(one: InputFormat) -> None:
    """Let jobs read files of that format."""
    _FORMATS[one.name] = one


def input_format(name: str) -> InputFormat:
    """The format of that name. Raises ValueError, with those that there are."""
    if name in _FORMATS:
        return _FORMATS[name]
    near = did_you_mean(name, _FORMATS)
    hint = f"; did you mean {near}?" if near else ""
    raise ValueError(f"give {one_of(_FORMATS)}, not {name!r}{hint}")


def format_by_suffix(suffix: str) -> InputFormat | None:
    """The format of files whose names end in ``suffix``, as ".csv"."""
    return next((one for one in _FORMATS.values() if suffix in one.suffixes), None)


def formats_with(key: str) -> list[InputFormat]:
    """Those of whose files a key of ``input`` says something."""
    return [one for one in _FORMATS.values() if key in one.keys]


def format_names() -> list[str]:
    return list(_FORMATS)


register(
    InputFormat(
        "parquet",
        "Parquet",
        "pipeline.input.formats.parquet.kind",
        (".parquet", ".pq"),
        text=False,
    )
)
register(
    InputFormat(
        "jsonl",
        "JSONL",
        "pipeline.input.formats.jsonl.kind",
        (".jsonl", ".ndjson", ".json"),
        frozenset({"encoding"}),
    )
)
register(
    InputFormat(
        "csv",
        "CSV",
        "pipeline.input.formats.csv.kind",
        (".csv", ".tsv", ".tab"),
        frozenset({"delimiter", "quotes", "encoding"}),
    )
)
