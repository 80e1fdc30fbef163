"""YAML as plain data, with the line of every key and entry, from PyYAML's nodes.

ruamel.yaml 0.19 was tried instead. It keeps lines too, but loses part of the source text of scalars
that are no text (+12, TRUE, ~ and 10:30 under YAML 1.1; under 1.2 10:30, yes and 012 get another
meaning), and takes twice the time (1.6 instead of 0.8 s for 250 kB).

Nothing in a file can execute (tags), run forever (devices, aliases that contain themselves) or
swell (aliases of aliases of aliases).
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipeline.errors import UsageError

Location = tuple[str | int, ...]

_MOST_BYTES = 2 << 20  # a prompt with a context's worth of examples has half a megabyte
_FEW_VALUES = 10_000  # values that aliases may add to those that are written out
_COLLECTIONS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")
_PIPES = ("/dev/fd/", "/dev/stdin", "/proc/self/fd/")  # as shells create them for <(command)


def read_text(path: Path) -> str:
    """The text of a job file. Raises UsageError."""
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode) and not str(path).startswith(_PIPES):
            what = "it is a folder" if stat.S_ISDIR(mode) else "it is not a file"
            raise UsageError(f"{path} cannot be read: {what}", "give a file with a job in it")
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise UsageError(
                f"{path} is too large: a job file has at most {_MOST_BYTES >> 20} MiB",
                "put rows into a data file, and name it in input.path",
            )
        return content.decode("utf-8")
    except FileNotFoundError:
        raise UsageError(f"{path}: no such job file") from None
    except (OSError, ValueError) as e:  # ValueError: not UTF-8, or not a valid path
        raise UsageError(f"{path} cannot be read: {e}") from None


@dataclass(frozen=True)
class Parsed:
    """The plain data of a text, the line of every key and entry, and the source text of each
    unquoted value that was not read as text."""

    data: Any
    lines: dict[Location, int]
    written: dict[Location, str]


def parse(text: str, name: str) -> Parsed:
    """``name``: the source of the text, for messages. Raises UsageError."""
    builder = _Builder(name, _FEW_VALUES + len(text))
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        return Parsed(builder.build(node, ()) if node else None, builder.lines, builder.written)
    except yaml.YAMLError as e:
        mark = getattr(e, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise UsageError(f"{name}{where}: not YAML: {getattr(e, 'problem', e)}") from None
    except RecursionError:
        raise UsageError(f"{name}: nested too deeply", "write it flatter") from None


class _Builder:
    """Plain Python data from YAML's nodes; a key given twice is an error."""

    def __init__(self, name: str, most_values: int) -> None:
        self.lines: dict[Location, int] = {}
        self.written: dict[Location, str] = {}
        self._name = name
        self._left = most_values

    def build(self, node: yaml.Node, location: Location) -> Any:
        line = self.lines[location] = node.start_mark.line + 1
        self._left -= 1
        if self._left < 0:
            raise self._wrong(line, "its aliases (*name) stand for too many values", "write it out")
        if isinstance(node, yaml.ScalarNode):
            value = self._scalar(node, line)
            if not isinstance(value, str) and node.style is None:
                self.written[location] = node.value
            return value
        if node.tag not in _COLLECTIONS:
            raise self._wrong(line, f"the tag {node.tag} is not for job files", "leave it out")
        if isinstance(node, yaml.SequenceNode):
            return [self.build(n, (*location, i)) for i, n in enumerate(node.value)]
        result: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise self._wrong(line, "a key must be a word")
            key = self._whole(key_node.value, line)
            if key in result:
                raise self._wrong(line, f"{key!r} is given twice")
            result[key] = self.build(value_node, (*location, key))
            self.lines[*location, key] = line
        return result

    def _scalar(self, node: yaml.Node, line: int) -> Any:
        try:
            value = yaml.SafeLoader("").construct_object(node)
        except (ValueError, OverflowError) as e:  # 2026-13-45 looks like a date but is none
            raise self._wrong(line, str(e)) from None
        return self._whole(value, line) if isinstance(value, str) else value

    def _whole(self, text: str, line: int) -> str:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise self._wrong(line, "half of a surrogate pair is no character") from None
        return text

    def _wrong(self, line: int, what: str, *hints: str) -> UsageError:
        return UsageError(f"{self._name}, line {line}: {what}", *hints)
