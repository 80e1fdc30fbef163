"""Plain data laid over a job's: Python objects that were never text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from pipeline.errors import UsageError
from pipeline.job.file.yaml_text import Location

# replaced as a whole: their content is not keys of a job file, or is one of several
_WHOLE: tuple[Location, ...] = (
    ("prompt",),
    ("messages",),
    ("label", "json_schema"),
    ("label", "gold", "values"),
    ("input", "cast"),
    ("input", "skip_rows"),
)
# a job has one of these: the given one removes the others
_ONE_OF: Mapping[Location, tuple[str, ...]] = {
    (): ("prompt", "messages"),
    ("label",): ("choices", "json_schema", "regex"),
}


@runtime_checkable
class _Array(Protocol):
    """An array of numpy, pandas or torch, or a numpy scalar."""

    def tolist(self) -> Any: ...


def plain(value: object) -> Any:
    """``value`` as a parsed file would have it: texts for paths, lists for collections.

    Raises UsageError for a text that cannot be encoded, and for an object that contains itself.
    """
    try:
        return _plain(value)
    except RecursionError:
        raise UsageError("what is given is nested too deeply", "write it flatter") from None


def _plain(value: object) -> Any:
    if isinstance(value, Mapping):
        return {str(k) if isinstance(k, Path) else k: _plain(v) for k, v in value.items()}
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise UsageError(f"{value!a}: half of a surrogate pair is no character") from None
        return value
    if isinstance(value, AbstractSet):
        return [_plain(one) for one in sorted(value, key=repr)]  # the same in every process
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return _plain(value.tolist()) if isinstance(value, _Array) else value


def lay_over(
    content: dict[str, Any],
    over: Mapping[str, Any],
    beside: Sequence[dict[Location, Any]],
    at: Location = (),
) -> None:
    """Put ``over`` (a result of ``plain``) into ``content``, which lies ``at`` a place of the job,
    mappings into mappings; None removes a key. ``beside``: information about places; entries of
    changed places go."""
    alternatives = _ONE_OF.get(at, ())
    if any(over.get(key) is not None for key in alternatives):
        for key in alternatives:
            content.pop(key, None)
            forget(beside, (*at, key))
    for key, value in over.items():
        here = (*at, key)
        before = content.get(key)
        if isinstance(value, dict) and here not in _WHOLE:
            inner = before if isinstance(before, dict) else {}
            lay_over(inner, value, beside, here)
            emptied = all(one is None for one in inner.values())
            left = None if value and emptied else inner
            if left is not before:
                forget(beside, here)
        else:
            left = value
            forget(beside, here)
        if left is None:
            content.pop(key, None)
        else:
            content[key] = left


def forget(beside: Sequence[dict[Location, Any]], at: Location) -> None:
    """Remove information about ``at``, about everything below it, and about what contains it."""
    for known in beside:
        for place in list(known):
            if place[: len(at)] == at[: len(place)]:
                del known[place]
