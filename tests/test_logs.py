"""Lines of a log know what they are about, and hold nothing secret."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import pytest

from pipeline.logs import ROOT, Context, LogLine, about, current_run

_log = logging.getLogger(f"{ROOT}.worker.example")


class Kept(logging.Handler):
    """The lines, as they would be written."""

    def __init__(self, run: str = "one", worker: str = "driver") -> None:
        super().__init__()
        self.lines: list[LogLine] = []
        self.addFilter(Context(run, worker))

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(LogLine.of(record))


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kept]:
    handler = Kept()
    ours = logging.getLogger(ROOT)
    monkeypatch.setattr(ours, "level", logging.DEBUG)
    _log.manager._clear_cache()
    ours.addHandler(handler)
    yield handler
    ours.removeHandler(handler)
    _log.manager._clear_cache()


def test_a_line_is_about_what_its_thread_is_at_and_else_about_its_process(kept: Kept) -> None:
    with about(worker="worker-3"), about(unit="0-0"):
        _log.info("inside")
    _log.info("outside")

    first, second = kept.lines
    assert (first.worker, first.unit) == ("worker-3", "0-0")
    assert (second.worker, second.unit) == ("driver", "")


def test_threads_start_with_what_their_process_is_at(kept: Kept) -> None:
    with about(unit="0-0"):
        thread = threading.Thread(target=_log.info, args=("from a thread",))
        thread.start()
        thread.join()

    assert [(line.worker, line.unit) for line in kept.lines] == [("driver", "")]


def test_lines_of_another_run_are_left_out(kept: Kept) -> None:
    with about(run="two"):
        _log.info("another's")
        assert current_run() == "two"
    with about(run="one"):
        _log.info("ours")

    assert [line.text for line in kept.lines] == ["ours"]
    assert current_run() == ""


def test_a_line_comes_back_as_it_was_written(kept: Kept) -> None:
    _log.warning("two\nlines, %s", "ä\x1b[31m")

    [line] = kept.lines
    assert LogLine.decode(line.encode()) == line
    assert line.encode().count(b"\n") == 1
    assert line.level_number == logging.WARNING
    assert line.where == "worker.example"


_LIKE_A_LINE = b'{"at": AT, "level": "INFO", "worker": "w", "unit": "", "where": "x", "text": TEXT}'


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"[]", b'{"at": 1}', b'{"at": "x"}', b"null", b"1", b"[" * 10_000),
        *(_LIKE_A_LINE.replace(b"AT", at).replace(b"TEXT", b'""') for at in (b"NaN", b"1e30")),
        _LIKE_A_LINE.replace(b"AT", b"1").replace(b"TEXT", b"5"),
    ],
)
def test_what_is_no_line_is_none(content: bytes) -> None:
    assert LogLine.decode(content) is None


def test_a_shown_line_has_nothing_that_a_terminal_obeys() -> None:
    shown = str(LogLine(0.5, "INFO", "a\x1b[2J", "u\x07", "m", "text\x1b]0;title\x07\nmore"))

    assert shown.startswith("1970-01-01 00:00:00.500 INFO")
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert shown.endswith("\n  more")


def test_secrets_are_masked_before_a_line_is_written(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_0123456789")
    _log.info("asked https://me:word@host/x?token=abcdef with hf_0123456789")

    [line] = kept.lines
    assert [secret for secret in ("word", "abcdef", "hf_0123456789") if secret in line.text] == []
    assert line.text == "asked https://me:***@host/x?token=*** with ***"


def test_an_exception_is_told_by_its_place_not_by_its_words(kept: Kept) -> None:
    row = " ".join(["the", "text", "of", "a", "row"])
    try:
        raise ValueError(row)
    except ValueError as e:
        _log.critical("failed unexpectedly", exc_info=e)

    [line] = kept.lines
    assert "ValueError" in line.text
    assert "test_logs.py" in line.text
    assert row not in line.text


def test_a_long_line_is_cut(kept: Kept) -> None:
    _log.info("x" * 100_000)

    assert len(kept.lines[0].encode()) < 4_000
