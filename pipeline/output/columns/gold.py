"""Right answers in a column: their names among the choices, and whether they can match.

Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any

import pyarrow as pa

from pipeline.errors import some_of
from pipeline.job.answer.label import Graded
from pipeline.job.template.field_text import as_text

_FEATURES = b"huggingface"
_PLAIN = re.compile(r"[\w…]+([ .+/-]+[\w…]+)*")  # YAML reads these as plain text
_WORDS = {"null", "true", "false", "yes", "no", "on", "off"}  # YAML reads these as other types


def names_of(asked: Graded, schema: pa.Schema) -> Mapping[str, str]:
    """Value of the gold column -> choice: class names that Hugging Face's datasets keep in the
    metadata; names in the job take precedence."""
    names: dict[str, str] = {}
    with suppress(ValueError, KeyError, TypeError, AttributeError):  # not in their format
        features = json.loads((schema.metadata or {})[_FEATURES])["info"]["features"]
        classes = features[asked.gold_column]["names"]
        names = {str(number): str(name) for number, name in enumerate(classes)}
    return {**asked.known_values, **names, **asked.gold_values}


def truth(value: Any, names: Mapping[str, str]) -> str:
    """The right answer for ``value``."""
    text = str(value)
    return names.get(text) or names.get(as_text(value), text)


def mismatch(asked: Graded, key: str, seen: Collection[str]) -> tuple[str, str] | None:
    """What is wrong with a gold column, given values (from ``truth``) that were ``seen`` in it, and
    the fix; None if some of them are choices."""
    choices = asked.options
    if not choices or not seen or set(seen) & set(choices):
        return None
    values = sorted(seen)
    folded = {choice.strip().casefold(): choice for choice in choices}
    pairs = {value: folded.get(value.strip().casefold()) for value in values}
    if None in pairs.values() and len(values) <= len(choices):  # a guess, for the user to check
        pairs = dict(zip(values, choices, strict=False))
    given = values_given(pairs)
    column = asked.gold_column
    return (
        f"the gold column {column!r} has {some_of(values)}: none of the choices, so no label would "
        "ever agree with it",
        f"say which is which: {_nested(key, f'{{column: {column}, values: {given}}}')}",
    )


def values_given(pairs: Mapping[str, str | None]) -> str:
    """The choices for these values (None: not known), in the form of a job file."""
    given = (f"{_in_yaml(value)}: {_in_yaml(choice or '…')}" for value, choice in pairs.items())
    return f"{{{', '.join(given)}}}"


def _in_yaml(text: str) -> str:
    plain = _PLAIN.fullmatch(text) and text.lower() not in _WORDS
    return text if plain else json.dumps(text, ensure_ascii=False)


def _nested(key: str, value: str) -> str:
    """``value`` at a dotted key, as one line of YAML."""
    *around, last = key.split(".")
    start = "".join(f"{one}: {{" for one in around)
    return f"{start}{last}: {value}{'}' * len(around)}"
