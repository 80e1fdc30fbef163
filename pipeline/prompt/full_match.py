"""Checking texts against regular expressions in time that grows only with the text.

Python's own engine backtracks: ``(a+)+b`` on forty a's takes years, and all other threads wait
meanwhile. RE2 (through pyarrow) does not, but does not know all of Python's syntax, nor repeats of
more than 1,000.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from jsonschema import Draft202012Validator, ValidationError
from jsonschema.validators import extend
from referencing import Registry


class Pattern:
    """A regular expression that RE2 may or may not support."""

    def __init__(self, pattern: str, *, whole: bool) -> None:
        """``whole``: it must match all of a text, not a part of it."""
        self._pattern = rf"\A(?:{pattern})\z" if whole else pattern
        self._known = True
        self._known = self.matches("") is not None

    def matches(self, text: str) -> bool | None:
        """None: RE2 does not support the expression."""
        if not self._known:
            return None
        try:
            found = pc.match_substring_regex(pa.array([text], pa.string()), pattern=self._pattern)
        except (pa.ArrowInvalid, UnicodeEncodeError):
            return None
        return bool(found[0].as_py())


_part = cache(partial(Pattern, whole=False))


def _pattern(
    _validator: Any, pattern: str, instance: Any, _schema: Any
) -> Iterator[ValidationError]:
    if isinstance(instance, str) and _part(pattern).matches(instance) is False:
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


_Validator: Any = extend(  # type: ignore[no-untyped-call]
    Draft202012Validator, {"pattern": _pattern}
)


def schema_validator(schema: Any) -> Any:
    """A validator for answers that neither fetches references nor backtracks without limit."""
    return _Validator(schema, registry=Registry())
