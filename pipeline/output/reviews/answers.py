"""The answers of reviewers, beside the output that they are about.

    OUTPUT/_rackmill/reviews/NAME.jsonl            the answers of NAME, one per line
    OUTPUT/_rackmill/reviews/NAME/00000042.json    the same on an object store, one line per object

Nothing is ever changed or removed: a new answer is one more line, and so is taking one back. On a
disk a line is fsynced before it counts; half a last line, from a killed process or a full disk, is
skipped. Object stores cannot append: there each line is a separate object, created only if it did
not exist.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from pipeline.errors import CommitFailed, UsageError
from pipeline.output.commit.records import REVIEWS
from pipeline.storage.base import Storage, open_storage
from pipeline.storage.local import sync
from pipeline.storage.transient_errors import fix, reason

Place = tuple[str, int]  # an input file as named in the output, and a row of it
Key = tuple[str, Place]  # a question and the row that it is about
_NAME = re.compile(r"[^\W_][\w.@+-]{0,63}")
_FILE = re.compile(rf"{REVIEWS}/({_NAME.pattern})\.jsonl")
_OBJECT = re.compile(r"\d{8}\.json")


class ReviewerAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line. ``value``: a choice; None: the reviewer was unsure. ``at``: time in ISO form.
    ``undone``: takes back the answer to this row. ``seen``: the model's answer was shown."""

    question: str
    shard: str
    row: int
    value: str | None
    at: str
    undone: bool = False
    seen: bool = False

    @property
    def place(self) -> Place:
        return self.shard, self.row

    @property
    def key(self) -> Key:
        return self.question, self.place


_DECODER, _ENCODER = msgspec.json.Decoder(ReviewerAnswer), msgspec.json.Encoder()


def check_reviewer(name: str) -> str:
    """Returns ``name``. Raises UsageError if it cannot be a file name."""
    if _NAME.fullmatch(name) is None:
        raise UsageError(
            f"--reviewer {name}: not a name for a file",
            "take up to 64 letters, digits and . @ + - _, a letter or digit first",
        )
    return name


class ReviewAnswers:
    """All answers beside the output at ``storage``. Several processes may write at the same time,
    even for the same reviewer."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._local = "://" not in storage.address()
        self._objects: dict[str, bytes] = {}  # they never change

    def append(self, reviewer: str, answer: ReviewerAnswer) -> None:
        """Store the answer durably before this returns.

        Raises CommitFailed; CommitStateUnknown if storage does not report the result.
        """
        line = _ENCODER.encode(answer)
        if self._local:
            path = Path(self._storage.address(f"{REVIEWS}/{check_reviewer(reviewer)}.jsonl"))
            with _failing_as_commit(path):
                _append_line(path, line)
            return
        folder = f"{REVIEWS}/{check_reviewer(reviewer)}"
        number = max((int(p[-13:-5]) for p in self._names(folder)), default=0) + 1
        while not self._storage.create(f"{folder}/{number:08d}.json", line):
            number += 1

    def every(self) -> dict[str, list[ReviewerAnswer]]:
        """Reviewer -> all lines in the order of writing. Raises StorageFailed."""
        found: dict[str, list[ReviewerAnswer]] = {}
        if self._local:
            paths = sorted(p for p in self._storage.names(REVIEWS) if _FILE.fullmatch(p))
            contents = self._storage.read_many(paths)
            for path, content in zip(paths, contents, strict=True):
                name = path.removeprefix(f"{REVIEWS}/").removesuffix(".jsonl")
                found[name] = list(_parsed((content or b"").split(b"\n")))
            return found
        for name in self._folders():
            paths = sorted(self._names(f"{REVIEWS}/{name}"))
            missing = [path for path in paths if path not in self._objects]
            contents = self._storage.read_many(missing)
            self._objects |= {p: c for p, c in zip(missing, contents, strict=True) if c is not None}
            found[name] = list(_parsed(self._objects.get(path, b"") for path in paths))
        return found

    def current(self, question: str) -> dict[str, dict[Place, ReviewerAnswer]]:
        """Reviewer -> row -> the current answer: the last one, unless it was taken back."""
        return of_question(self.by_reviewer(), question)

    def by_reviewer(self) -> dict[str, dict[Key, ReviewerAnswer]]:
        """Reviewer -> the current answers to all questions, in the order in which they came."""
        return {name: _current(lines) for name, lines in self.every().items()}

    def _names(self, folder: str) -> list[str]:
        names = self._storage.names(folder)
        return [name for name in names if _OBJECT.fullmatch(name.rpartition("/")[2])]

    def _folders(self) -> list[str]:
        folders = open_storage(self._storage.address(REVIEWS)).folders()
        return [name for name in folders if _NAME.fullmatch(name)]


def of_question(
    by_reviewer: Mapping[str, Mapping[Key, ReviewerAnswer]], question: str
) -> dict[str, dict[Place, ReviewerAnswer]]:
    """Reviewer -> the current answers to ``question``, in the order in which they came."""
    return {
        name: {place: answer for (asked, place), answer in given.items() if asked == question}
        for name, given in by_reviewer.items()
    }


def _current(lines: list[ReviewerAnswer]) -> dict[Key, ReviewerAnswer]:
    found: dict[Key, ReviewerAnswer] = {}
    for line in lines:
        found.pop(line.key, None)
        if not line.undone:
            found[line.key] = line
    return found


def _parsed(lines: Iterator[bytes] | list[bytes]) -> Iterator[ReviewerAnswer]:
    for line in lines:
        with suppress(msgspec.MsgspecError, UnicodeDecodeError):  # half a line, or not ours
            yield _DECODER.decode(line)


def _append_line(path: Path, line: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    # do not follow a link: it would lead to another file
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    file = os.open(path, flags, 0o644)
    try:
        with suppress(OSError):  # some network folders lack locks: appending is still one step
            fcntl.flock(file, fcntl.LOCK_EX)
        size = os.fstat(file).st_size
        if size and os.pread(file, 1, size - 1) != b"\n":  # half a line: it stays a separate line
            line = b"\n" + line
        left = memoryview(line + b"\n")
        while left:
            left = left[os.write(file, left) :]
        os.fsync(file)
    finally:
        os.close(file)
    if new:
        sync(path.parent)


@contextmanager
def _failing_as_commit(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        raise CommitFailed(f"{path} cannot be written: {reason(e)}", fix(e)) from e
