"""Limits for the regular expressions and JSON schemas that a job may require of its answers.

They are compiled into a grammar before the first token, and every answer is checked against them:
neither may run forever, whatever the job file says, and neither may read files or the network.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pipeline.job.answer.plain_schema import at_pointer

_parser = re._parser  # type: ignore[attr-defined]  # the standard library's own, unnamed in stubs

_MOST_POSITIONS = 20_000  # characters that a regular expression has when it is written out
_MOST_PARTS = 10_000  # of a schema: objects, lists and words in it
_MOST_DEPTH = 48
_MOST = {  # largest counts in a schema
    **dict.fromkeys(("minLength", "minItems", "minProperties", "minContains"), 10_000),
    **dict.fromkeys(("maxLength", "maxItems", "maxProperties", "maxContains"), 1_000_000),
}
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
_NOT_REGULAR = {
    "ASSERT": "(?=…) and (?<=…)",
    "ASSERT_NOT": "(?!…) and (?<!…)",
    "GROUPREF": r"references to groups (\1)",
    "GROUPREF_EXISTS": "conditions on groups",
}


def check_regex(pattern: str) -> str:
    """``pattern`` itself. Raises ValueError if it is no regular expression, not regular, or too
    large."""
    try:
        size = _positions(_parser.parse(pattern))
        re.compile(pattern)
    except RecursionError:
        raise ValueError("the regular expression is nested too deeply") from None
    except (re.error, OverflowError) as e:
        raise ValueError(f"not a regular expression: {e}") from None
    if size > _MOST_POSITIONS:
        raise ValueError(
            f"the regular expression is too large: written out it has {size:,} characters, and "
            f"{_MOST_POSITIONS:,} are the most; use * or + where the number does not matter"
        )
    return pattern


def _positions(parts: Any) -> int:
    return sum(_positions_of(str(op), argument) for op, argument in parts)


def _positions_of(op: str, argument: Any) -> int:
    if op in _NOT_REGULAR:
        raise ValueError(
            f"{_NOT_REGULAR[op]} are not for answers: no grammar can follow them while it writes"
        )
    if op == "BRANCH":
        return sum(_positions(branch) for branch in argument[1])
    if op == "SUBPATTERN":
        return _positions(argument[-1])
    if op == "ATOMIC_GROUP":
        return _positions(argument)
    if op in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
        least, most, inner = argument
        times = int(least) if most == _parser.MAXREPEAT else int(most)
        return max(1, times) * max(1, _positions(inner))
    return 0 if op == "AT" else 1


def check_schema_size(schema: Mapping[str, Any]) -> None:
    """Raise ValueError if a schema is too large, refers to anything outside itself, or refers to
    itself without end."""
    parts = 0
    waiting: list[tuple[Any, int]] = [(schema, 0)]
    while waiting:
        part, depth = waiting.pop()
        parts += 1
        if depth > _MOST_DEPTH or parts > _MOST_PARTS:
            raise ValueError(
                f"the schema is too large: {_MOST_PARTS:,} parts and a depth of {_MOST_DEPTH} are "
                "the most"
            )
        if isinstance(part, Mapping):
            _check_part(part, schema)
            waiting += [(inner, depth + 1) for inner in part.values()]
        elif isinstance(part, list | tuple):
            waiting += [(inner, depth + 1) for inner in part]


def _check_part(part: Mapping[str, Any], schema: Mapping[str, Any]) -> None:
    for key in _REFERENCES:
        target = part.get(key)
        if isinstance(target, str) and not target.startswith("#"):
            raise ValueError(
                f"{key} leads out of the schema ({target}): files and pages are not read, put it "
                "under $defs"
            )
    if isinstance(part.get("$ref"), str):
        _follow(part, schema)
    for key, most in _MOST.items():
        number = part.get(key)
        if isinstance(number, int | float) and number > most:
            raise ValueError(f"{key} {number}: {most:,} is the most")
    if isinstance(part.get("patternProperties"), Mapping):
        raise ValueError(  # noqa: TRY004
            "patternProperties is not for answers: name the properties"
        )
    if isinstance(part.get("pattern"), str):
        check_regex(part["pattern"])


def _follow(part: Mapping[str, Any], schema: Mapping[str, Any]) -> None:
    """Raise ValueError if the references form a loop."""
    seen: set[str] = set()
    while isinstance(target := part.get("$ref"), str) and target.startswith("#"):
        if target in seen:
            raise ValueError(f"$ref {target} leads in a circle")
        seen.add(target)
        found = _at(schema, target)
        if not isinstance(found, Mapping):
            raise ValueError(f"$ref {target} leads nowhere")  # noqa: TRY004
        part = found


def _at(schema: Mapping[str, Any], pointer: str) -> Any:
    if "/" not in pointer and pointer != "#":  # an anchor: only the validator resolves these
        return {}
    return at_pointer(schema, pointer)
