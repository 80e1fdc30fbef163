"""A SQLite file in which what a service began is known after whatever ends it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from pipeline.errors import UsageError

_BUSY_SECONDS = 30.0


class Database:
    """Any process may read it; those that write wait for each other."""

    def __init__(self, path: Path, schema: str, what: str, fix: str) -> None:
        """``schema``: statements that make what is missing. Raises UsageError if ``path`` cannot be
        a file of ``what`` ("schedules"), with the ``fix``."""
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with self.transaction() as db:
                db.executescript(schema)
        except sqlite3.DatabaseError as e:
            raise UsageError(f"{path} is not a file of {what}: {e}", fix) from None
        except OSError as e:
            raise UsageError(f"{path} cannot be used: {e}", fix) from None

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All of it, or nothing."""
        with closing(sqlite3.connect(self.path, timeout=_BUSY_SECONDS)) as db:
            db.row_factory = sqlite3.Row
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")  # what was begun is known after a power cut
            db.execute("PRAGMA foreign_keys = ON")
            with db:
                yield db
