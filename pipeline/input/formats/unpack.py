"""Files that cannot be read directly: compressed ones, text in UTF-16, one large JSON array,
Arrow's other formats. Each is converted once per machine, next to the model store, to UTF-8 text or
Parquet, which can be read from any place; copies unused for a week go when another is made.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import hashlib
import lzma
import os
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

import pyarrow as pa
import pyarrow.orc
import pyarrow.parquet as pq

from pipeline.errors import HalfWritten, UsageError
from pipeline.input.find import facts_now, moves
from pipeline.input.formats.base import lacks_its_end, open_raw, pieces
from pipeline.input.formats.jsonl.array import entries
from pipeline.input.formats.names import ARROW, PACKED, ends_of
from pipeline.job.registries.input_formats import INPUT_FORMATS
from pipeline.model.store.index import store_root
from pipeline.storage.transient_errors import passes

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_ENCODING = "encoding="  # in a kind's step, before the encoding's name
_UTF8 = ("utf-8", "utf-8-sig")
_DAMAGED = (EOFError, lzma.LZMAError, gzip.BadGzipFile, zlib.error, pa.ArrowException)
_KEPT_SECONDS = 7 * 24 * 3600.0
_PIECE = 1 << 20  # bytes
_MOST_ARRAY = 2 << 30  # bytes: it is held in memory
_BATCH = 1 << 14  # rows


def kind_now(kind: str) -> str:
    """A kind as this version writes it: earlier ones wrote ``utf-16`` for ``encoding=utf-16``."""
    return " ".join(f"{_ENCODING}{step}" if step == "utf-16" else step for step in kind.split())


def encoding_in(kind: str) -> str | None:
    """The text encoding of a file of that kind, if it is not UTF-8."""
    steps = kind_now(kind).split()
    found = (step.partition("=")[2] for step in steps if step.startswith(_ENCODING))
    return next(found, None)


def unpacked_kind(path: str, file_format: str, encoding: str | None = None) -> str:
    """How the file has to be converted before reading; "" if it is read directly. ``encoding``: of
    its text, if known. Raises OSError."""
    suffix, packing = ends_of(path)
    if not INPUT_FORMATS.get(file_format).text:
        return ARROW.get(suffix, "")
    head = b""
    try:
        with _open(path, packing) as file:
            head = file.read(4096)
    except (*_DAMAGED, OSError) as e:
        if _is_of_storage(e):
            raise
        # otherwise an error of its content: reported when all of it is read
    steps = [packing] if packing else []
    if encoding is None and head.startswith(_UTF16):
        encoding = "utf-16"
    if encoding is not None and encoding not in _UTF8:
        steps.append(f"{_ENCODING}{encoding}")
        head = head.decode(encoding, errors="ignore").encode(errors="surrogatepass")
    text = head.removeprefix(codecs.BOM_UTF8).lstrip()
    if file_format == "jsonl" and suffix == ".json" and text.startswith(b"["):
        steps.append("array")
    return " ".join(steps)


def readable(path: str, kind: str, size: int, stamp: str) -> str:
    """The path from which the file can be read: its own, or that of the converted copy. ``size``
    (bytes) and ``stamp``: of the intended file; the stamp changes with every write. Raises OSError,
    UsageError; HalfWritten if it is being written."""
    if not kind:
        return path
    where = path if "://" in path else os.path.abspath(path)
    told = "\0".join((where, kind, str(size), stamp)).encode(errors="surrogateescape")
    name = hashlib.sha256(told).hexdigest()[:32]
    folder = store_root().parent / "unpacked"
    made = folder / name
    if made.exists():
        with suppress(OSError):
            os.utime(made)
        return str(made)
    folder.mkdir(parents=True, exist_ok=True)
    _tidy(folder)
    part = folder / f"{name}.{uuid4().hex}.part"
    try:
        facts = facts_now(path)
        if facts[0] != size:
            raise moves(path)
        if size < 2 and "://" not in path:
            raise EOFError  # gzip accepts an empty file as complete, and one byte as another format
        with part.open("wb") as target:
            _write_out(path, kind.split(), target)
        if facts_now(path) != facts:
            raise moves(path)
        part.replace(made)
    except (*_DAMAGED, ValueError, OSError) as e:
        if _is_of_storage(e):
            raise
        why = str(e) or type(e).__name__
        if _is_cut(path, kind, e):
            raise HalfWritten(
                f"{path}: it cannot be unpacked, its end is missing",
                "it is still being written, or is cut off or damaged: write it again",
            ) from e
        raise UsageError(
            f"{path} cannot be unpacked: {why}", "it is cut off or damaged: write it again"
        ) from e
    finally:
        part.unlink(missing_ok=True)
    return str(made)


def _is_of_storage(error: Exception) -> bool:
    """Not an error of a file's content: pyarrow's errors of that kind have no number."""
    return isinstance(error, OSError) and (error.errno is not None or passes(error))


def _is_cut(path: str, kind: str, error: Exception) -> bool:
    """Whether the problem with a file is that its end is missing."""
    told = ("runcated", "Expected to be able to read", "bytes available")  # texts of libraries
    return (
        isinstance(error, EOFError)
        or any(words in str(error) for words in told)
        or (kind in ("arrow", "orc") and lacks_its_end(path))
    )


def _write_out(path: str, steps: list[str], target: BinaryIO) -> None:
    packing = steps[0] if steps and steps[0] in PACKED.values() else ""
    rest = steps[1:] if packing else steps
    if rest in (["arrow"], ["orc"]):
        _write_parquet(path, rest[0], target)
        return
    with _open(path, packing) as source:
        text = _text(path, source, encoding_in(" ".join(rest)))
        if "array" in rest:
            _write_lines(path, _all_of(text, _MOST_ARRAY), target)
        else:
            target.writelines(text)


def _all_of(pieces: Iterator[bytes], most: int) -> bytes:
    """All bytes of the pieces, if at most ``most``; otherwise a few more than that."""
    content = bytearray()
    for piece in pieces:
        content += piece
        if len(content) > most:
            break
    return bytes(content)


def _text(path: str, source: Any, encoding: str | None) -> Iterator[bytes]:
    """The text of a file in UTF-8. Raises UsageError for a byte that is invalid in the encoding."""
    if encoding is None:
        yield from pieces(source)
        return
    decoder = codecs.getincrementaldecoder(encoding)()
    read, piece = 0, b" "
    while piece:
        piece = source.read(_PIECE)
        try:
            text = decoder.decode(piece, final=not piece)
        except UnicodeDecodeError as e:
            if not piece:
                raise EOFError from e  # within a character
            at = read - (len(e.object) - len(piece)) + e.start
            raise UsageError(
                f"{path}: byte 0x{e.object[e.start]:02x} at offset {at:,} is not {encoding}",
                "say how it is written: input: {encoding: …}; cp1252 (Windows), latin-1, utf-8, …",
            ) from None
        except UnicodeError:
            raise UsageError(
                f"{path}: it does not begin with a byte order mark, as {encoding} does",
                f"say how it is written: input: {{encoding: {encoding}-le}}, or {encoding}-be",
            ) from None
        read += len(piece)
        yield text.encode(errors="surrogatepass")


def _write_lines(path: str, content: bytes, target: BinaryIO) -> None:
    """Each entry of a JSON array on its own line, with its values as written."""
    if len(content) > _MOST_ARRAY:
        raise UsageError(
            f"{path}: an array of JSON of more than {_MOST_ARRAY >> 30} GiB is not read",
            f"write it as JSON Lines: jq -c '.[]' {path}",
        )
    for entry in entries(content):  # in a string both are invalid: tabs as well as line ends
        target.write(entry.replace(b"\r", b"\t").replace(b"\n", b"\t") + b"\n")


def _write_parquet(path: str, kind: str, target: BinaryIO) -> None:
    with open_raw(path) as source:
        batches, schema = (_orc if kind == "orc" else _arrow)(source)
        with pq.ParquetWriter(target, schema) as writer:
            for batch in batches:
                writer.write_batch(batch)


def _orc(source: Any) -> tuple[Iterator[pa.RecordBatch], pa.Schema]:
    file = pyarrow.orc.ORCFile(source)
    return (file.read_stripe(n) for n in range(file.nstripes)), file.schema


def _arrow(source: Any) -> tuple[Iterator[pa.RecordBatch], pa.Schema]:
    """A file, a stream, or version 1 of Feather, which only pyarrow's Feather reader can read."""
    try:
        file = pa.ipc.open_file(source)
    except pa.ArrowInvalid:
        source.seek(0)
        try:
            stream = pa.ipc.open_stream(source)
        except pa.ArrowInvalid:
            source.seek(0)
            table = pa.feather.read_table(source)
            return iter(table.to_batches(_BATCH)), table.schema
        return iter(stream), stream.schema
    return (file.get_batch(n) for n in range(file.num_record_batches)), file.schema


@contextmanager
def _open(path: str, packing: str) -> Iterator[Any]:
    with open_raw(path) as file:
        unpack = UNPACK.get(packing)
        yield unpack(file) if unpack else file


# files of compressed ones
UNPACK: dict[str, Callable[[Any], Any]] = {
    "gzip": lambda file: gzip.GzipFile(fileobj=file),
    "bz2": bz2.BZ2File,
    "xz": lzma.LZMAFile,
    "zstd": lambda file: pa.CompressedInputStream(pa.PythonFile(file, "r"), "zstd"),
}


def _tidy(folder: Path) -> None:
    before = time.time() - _KEPT_SECONDS
    for one in folder.iterdir():
        with suppress(OSError):
            if one.stat().st_mtime < before:
                one.unlink()
