"""Text keys of a job file exactly as they were written: YAML reads 1.10, 012, 10:30 and yes as
something else, but a user who writes them without quotes under a text key means the text.
"""

from __future__ import annotations

import datetime
import types
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from pipeline.job.file.yaml_text import Location
from pipeline.job.job import Job, Text

Written = Mapping[Location, str]

_TRUTHS = ("true", "false")
_ANY_TEXT = "examples"  # everything below is text, whatever the key


class Ambiguous(ValueError):
    """YAML read something else than what is written, and either could be meant."""

    def __init__(self, location: Location, written: str, read: object) -> None:
        said = str(read).lower() if isinstance(read, bool) else str(read)
        instead = f" (or {said})" if isinstance(read, bool | int | float) else ""
        super().__init__(f'YAML reads {written} as {said}: quote it, "{written}"{instead}')
        self.location = location


def as_written(content: dict[str, Any], written: Written) -> dict[str, Any]:
    """The job file's ``content``, with the texts of ``written`` (the source text of scalars that
    YAML did not read as text) in the places that want text. Raises Ambiguous."""
    return _Walk(written).section(content, (Job,), ()) if written else content


def is_text(keys: Location, text: str, value: object) -> bool:
    """Whether ``text``, given for a key of the job file, is meant literally: the key takes text and
    not what YAML reads (``value``): for a prompt, "Say: {text}" is no mapping."""
    models: tuple[Any, ...] = (Job,)
    kinds: tuple[Any, ...] = ()
    for key in keys:
        fields = [m.model_fields[str(key)] for m in models if str(key) in m.model_fields]
        kinds = members([field.annotation for field in fields])
        models = tuple(k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel))
    if str not in kinds and Text not in kinds:
        return False
    if isinstance(value, dict):
        known = {name for model in models for name in model.model_fields}
        return not known & set(value) and not any(get_origin(k) is dict for k in kinds)
    if isinstance(value, list):
        return not any(get_origin(k) in (list, tuple) for k in kinds)
    return value is None and text.strip().lower() not in ("", "null", "~")


class _Walk:
    def __init__(self, written: Written) -> None:
        self._written = written

    def section(
        self, value: dict[str, Any], models: tuple[type[BaseModel], ...], at: Location
    ) -> dict[str, Any]:
        made = {}
        for key, inner in value.items():
            here = (*at, key)
            kinds = [m.model_fields[key].annotation for m in models if key in m.model_fields]
            if here == ("label", "json_schema"):
                self._check(inner, here)
                made[key] = inner
            elif here == (_ANY_TEXT,):
                made[key] = self._all_text(inner, here)
            else:
                made[key] = self.value(inner, members(kinds), here)
        return made

    def value(self, value: Any, kinds: tuple[Any, ...], at: Location) -> Any:
        if isinstance(value, dict):
            models = tuple(k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel))
            of = [get_args(k)[1] for k in kinds if get_origin(k) is dict]
            if not models and of:
                inner = members(of)
                return {k: self.value(v, inner, (*at, k)) for k, v in value.items()}
            return self.section(value, models, at) if models else value
        if isinstance(value, list):
            of = [get_args(k)[0] for k in kinds if get_origin(k) in (list, tuple)]
            return [self.value(v, members(of), (*at, n)) for n, v in enumerate(value)]
        text = self._written.get(at)
        if text is None:
            return value
        if _wants_text(value, kinds):
            return text
        if not isinstance(value, bool) and isinstance(value, int) and not _is_decimal(text):
            raise Ambiguous(at, text, value)
        return value

    def _all_text(self, value: Any, at: Location) -> Any:
        if isinstance(value, dict):
            return {k: self._all_text(v, (*at, k)) for k, v in value.items()}
        if isinstance(value, list):
            return [self._all_text(v, (*at, n)) for n, v in enumerate(value)]
        return self._written.get(at, value)

    def _check(self, value: Any, at: Location) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                self._check(inner, (*at, key))
        elif isinstance(value, list):
            for number, inner in enumerate(value):
                self._check(inner, (*at, number))
        elif (text := self._written.get(at)) is not None and not _is_json(text, value):
            raise Ambiguous(at, text, value)


def members(kinds: Any) -> tuple[Any, ...]:
    """The members of unions and of Annotated types."""
    found: list[Any] = []
    for kind in kinds:
        if get_origin(kind) is Annotated:
            found += members(get_args(kind)[:1])
        elif get_origin(kind) in (Union, types.UnionType):
            found += members(get_args(kind))
        else:
            found.append(kind)
    return tuple(found)


def _wants_text(value: Any, kinds: tuple[Any, ...]) -> bool:
    """Whether only text is wanted, and not a type that YAML may have read correctly."""
    if value is None:
        return False
    words = [word for kind in kinds if get_origin(kind) is Literal for word in get_args(kind)]
    text = str in kinds or Text in kinds or bool(words)
    return text and type(value) not in kinds and value not in words


def _is_json(text: str, value: Any) -> bool:
    """Whether JSON reads the same value: not for 012, 1_000, 10:30 and yes."""
    if isinstance(value, bool):
        return text.lower() in _TRUTHS
    if value is None:
        return text == "null"
    return not isinstance(value, datetime.date) and _is_decimal(text) and "_" not in text


def _is_decimal(text: str) -> bool:
    """Whether a number is decimal: YAML reads 012 as ten, and 10:30 as 630."""
    digits = text.lstrip("+-")
    return not (digits.startswith("0") and digits[1:2].isalnum()) and ":" not in digits
