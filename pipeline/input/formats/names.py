"""What a file's name tells: its format, its compression, its delimiter. Pure."""

from __future__ import annotations

from pipeline.errors import UsageError
from pipeline.input.formats.csv.delimiter import BY_NAME
from pipeline.job.registries.input_formats import INPUT_FORMATS, format_by_suffix

ARROW = {".arrow": "arrow", ".ipc": "arrow", ".feather": "arrow", ".orc": "orc"}
PACKED = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz", ".zst": "zstd"}
_ADVICE = {
    ".zip": "unpack it (unzip), and give the files in it",
    ".tar": "unpack it (tar -xf), and give the files in it",
    ".tgz": "unpack it (tar -xzf), and give the files in it",
    ".7z": "unpack it (7z x), and give the files in it",
    ".rar": "unpack it (unrar x), and give the files in it",
    ".avro": "write it as Parquet: duckdb -c \"copy (from read_avro('FILE')) to 'FILE.parquet'\"",
    ".xlsx": "save it as CSV (UTF-8)",
    ".xls": "save it as CSV (UTF-8)",
    ".sqlite": "write it as Parquet: duckdb -c \"copy (from sqlite_scan(…)) to 'FILE.parquet'\"",
}


def is_data(name: str) -> bool:
    """Whether a file in a folder is an input file, judged by its name."""
    return _known_format(name) is not None


def _known_format(path: str) -> str | None:
    suffix, packing = ends_of(path)
    if not packing and suffix in ARROW:
        return "parquet"
    known = format_by_suffix(suffix)
    return known.name if known is not None and (known.text or not packing) else None


def format_of(path: str) -> str:
    """parquet, jsonl or csv: the file's format, or the one it is converted to. Raises
    UsageError."""
    if (name := _known_format(path)) is not None:
        return name
    suffix, packing = ends_of(path)
    told = _ADVICE.get(_suffix(path)) or _ADVICE.get(suffix)
    if told or (packing and format_by_suffix(suffix)):
        raise UsageError(f"{path}: such files are not read", told or "unpack it: Parquet is packed")
    names = [one.name for one in INPUT_FORMATS]
    raise UsageError(
        f"{path}: the name does not say its format",
        f"set input.format: {', '.join(names[:-1])} or {names[-1]}",
    )


def delimiter_by_name(path: str) -> str | None:
    """The delimiter of a file with that name, if the name tells it."""
    return BY_NAME.get(ends_of(path)[0])


def is_tsv(path: str, delimiter: str) -> bool:
    """Whether quotes may be letters in the file: it is separated by tabs, and its name does not say
    CSV."""
    suffix = ends_of(path)[0]
    return suffix in BY_NAME or (delimiter == "\t" and suffix != ".csv")


def ends_of(path: str) -> tuple[str, str]:
    """The suffix that tells the format, such as ".csv", and that of the compression, "" if there is
    none."""
    last = _suffix(path)
    if last not in PACKED:
        return last, ""
    return _suffix(path[: -len(last)]), PACKED[last]


def _suffix(path: str) -> str:
    name = path.rsplit("/", 1)[-1]
    return "." + name.rsplit(".", 1)[-1].lower() if "." in name else ""
