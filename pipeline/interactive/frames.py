"""Tables in memory as input files: a job's rows must be where every worker can read them."""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import UsageError
from pipeline.user_folder import cache_folder


def is_table(value: object) -> bool:
    """Whether it is a table of pandas, polars, Arrow, or anything else that exports an Arrow
    stream."""
    return isinstance(value, pa.RecordBatch) or hasattr(value, "__arrow_c_stream__")


def write_table(value: object) -> Path:
    """Write the table to a Parquet file in the user's cache, named by its content: so the same
    table is the same input, and a stopped run can continue. Raises UsageError."""
    table = _as_arrow(value)
    folder = cache_folder() / "tables"
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{secrets.token_hex(8)}.parquet"
    try:
        pq.write_table(table, part, compression="zstd")
        with part.open("rb") as file:
            name = hashlib.file_digest(file, "sha256").hexdigest()[:32]
        os.replace(part, folder / f"{name}.parquet")
    except pa.ArrowException as e:  # types and values that Parquet lacks
        raise UsageError(f"the table cannot be written: {e}") from None
    finally:
        part.unlink(missing_ok=True)
    return folder / f"{name}.parquet"


def _as_arrow(value: object) -> pa.Table:
    try:
        return value if isinstance(value, pa.Table) else pa.table(value)
    except (pa.ArrowException, ValueError, TypeError) as e:
        raise UsageError(f"the table cannot be written: {e}") from None
