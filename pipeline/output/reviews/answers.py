"""The answers of reviewers, beside the output that they are about.

    OUTPUT/_rackmill/reviews/NAME.jsonl            what NAME has answered, a line each
    OUTPUT/_rackmill/reviews/NAME/00000042.json    the same on an object store, a line an object

Nothing is ever changed or taken away: another answer is one more line, taking one back is too. On
a disk a line is fsynced before it counts, and half a last line, of a process that was killed or a
disk that was full, is passed over. Object stores cannot append: there each line is an object of its
own, created only if it was not there.
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
from pipeline.storage.base import Storage
from pipeline.storage.local import sync
from pipeline.storage.transient_errors import fix, reason

Place = tuple[str, int]  # an input file as the output calls it, and a row of it
Key = tuple[str, Place]  # a question and the row that it is asked of
_NAME = re.compile(r"[^\W_][\w.@+-]{0,63}")
_FILE = re.compile(rf"{REVIEWS}/({_NAME.pattern})\.jsonl")
_OBJECT = re.compile(r"\d{8}\.json")


class ReviewerAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line. ``value``: a choice; None: the reviewer was unsure. ``at``: when, in ISO form.
    ``undone``: the answer to this row is taken back. ``seen``: the model's answer was shown."""

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
    """``name``. Raises UsageError for one that is no name for a file."""
    if _NAME.fullmatch(name) is None:
        raise UsageError(
            f"--reviewer {name}: not a name for a file",
            "take up to 64 letters, digits and . @ + - _, a letter or digit first",
        )
    return name


class ReviewAnswers:
    """All answers beside the output at ``storage``. Two processes may write at once, also for the
    same reviewer."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._local = "://" not in storage.address()
        self._objects: dict[str, bytes] = {}  # they never change

    def append(self, reviewer: str, answer: ReviewerAnswer) -> None:
        """The answer is kept, whatever happens, when this returns.

        Raises CommitFailed; CommitStateUnknown where storage does not say.
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
        """By reviewer, all lines in the order in which they were written. Raises StorageFailed."""
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
        """By reviewer, what each row's answer is now: the last one, unless it was taken back."""
        return of_question(self.by_reviewer(), question)

    def by_reviewer(self) -> dict[str, dict[Key, ReviewerAnswer]]:
        """By reviewer, what stands of all questions, in the order in which it was given."""
        return {name: _current(lines) for name, lines in self.every().items()}

    def _names(self, folder: str) -> list[str]:
        names = self._storage.names(folder)
        return [name for name in names if _OBJECT.fullmatch(name.rpartition("/")[2])]

    def _folders(self) -> list[str]:
        from pipeline.storage.base import open_storage

        folders = open_storage(self._storage.address(REVIEWS)).folders()
        return [name for name in folders if _NAME.fullmatch(name)]


def of_question(
    by_reviewer: Mapping[str, Mapping[Key, ReviewerAnswer]], question: str
) -> dict[str, dict[Place, ReviewerAnswer]]:
    """By reviewer, the answers to ``question`` of all that stand, in the order in which they were
    given."""
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
        with suppress(msgspec.MsgspecError, UnicodeDecodeError):  # half a line, or none of ours
            yield _DECODER.decode(line)


def _append_line(path: Path, line: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    # a link would have us write to another file
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    file = os.open(path, flags, 0o644)
    try:
        with suppress(OSError):  # some network folders have no locks: appending is still one step
            fcntl.flock(file, fcntl.LOCK_EX)
        size = os.fstat(file).st_size
        if size and os.pread(file, 1, size - 1) != b"\n":  # half a line: it stays one by itself
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
