"""The entries of one large JSON array: the source text of each; and, by a separate method that
shows faults of the first, the value of each. Pure."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import msgspec

from pipeline.input.formats.jsonl.types import is_begun
from pipeline.input.json_reading import value_at

_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*+"|[\[\]{},"]', re.DOTALL)
_BLANKS = " \t\r\n"


def entries(content: bytes) -> Iterator[bytes]:
    """The source text of each entry, including invalid ones, like invalid lines of JSON Lines.
    Raises ValueError if it is no array, EOFError if its end is missing."""
    content = content.removeprefix(codecs.BOM_UTF8)
    try:
        return map(bytes, msgspec.json.decode(content, type=list[msgspec.Raw]))
    except (msgspec.MsgspecError, RecursionError) as e:
        return _by_brackets(content, str(e))  # other readers accept more: NaN, half surrogate pairs


def _by_brackets(content: bytes, fault: str) -> Iterator[bytes]:
    begin, depth = content.index(b"[") + 1, 1
    for token in _TOKEN.finditer(content, begin):
        mark = token[0]
        if mark == b'"':  # never closed
            break
        if mark in (b"[", b"{"):
            depth += 1
        elif mark in (b"]", b"}"):
            depth -= 1
        if depth and (depth > 1 or mark != b","):
            continue
        entry = content[begin : token.start()]
        begin = token.end()
        if not entry.strip() or (not depth and (mark == b"}" or content[begin:].strip())):
            raise ValueError(fault)
        yield entry
        if not depth:
            return
    if "truncated" in fault or is_begun(content):
        raise EOFError
    raise ValueError(fault)


def values_of(text: str) -> Iterator[Any]:
    """The values of a complete array; None for an invalid entry."""
    at = _after_blanks(text, text.index("[") + 1)
    while text[at : at + 1] not in ("]", ""):
        value, end = None, -1
        with suppress(ValueError, RecursionError):
            value, end = value_at(text, at)
            end = _after_blanks(text, end)
        if text[end : end + 1] not in (",", "]"):
            value, end = None, _end_of_entry(text, at)
        yield value
        at = _after_blanks(text, end + 1) if text[end : end + 1] == "," else end


def _after_blanks(text: str, at: int) -> int:
    while text[at : at + 1] in _BLANKS and at < len(text):
        at += 1
    return at


def _end_of_entry(text: str, at: int) -> int:
    """The end of an invalid entry, found by its brackets."""
    depth, quoted = 0, False
    while at < len(text):
        one = text[at]
        if quoted and one == "\\":
            at += 1
        elif one == '"':
            quoted = not quoted
        elif not quoted and depth == 0 and one in "]},":
            break
        elif not quoted:
            depth += (one in "[{") - (one in "]}")
        at += 1
    return at
