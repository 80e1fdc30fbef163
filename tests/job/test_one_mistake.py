"""Job files with one mistake each, made from the job file's own schema: each is refused with the
file, the line, the key, and the nearest right form."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel

from pipeline import Job, UsageError, job_from, load_job
from tests.support.processes import Finished

_RIGHT: dict[str, Any] = {
    "name": "one-mistake",
    "model": "gemma-3-270m",
    "input": {"path": "rows.csv"},
    "prompt": "Text: {text}",
    "label": {"choices": ["a", "b"]},
    "sampling": {"temperature": 0.5},
    "engine": {"kind": "simulated"},
    "duplicates": {"answer_once": True},
    "resources": {"workers": 1},
    "faults": {"grace_seconds": 5},
    "output": {"path": "out"},
}
# a value that the key cannot have, by what it takes
_WRONG = {bool: "perhaps", int: "many", float: "much", str: [[1]], tuple: 7.5, dict: 7.5}


def sections(model: type[BaseModel], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield above
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from sections(inner, (*above, name))


def fields_in(place: tuple[str, ...]) -> dict[str, Any]:
    model: type[BaseModel] = Job
    for step in place:
        found = model.model_fields[step].annotation
        assert isinstance(found, type)
        model = found
    return {name: field.annotation for name, field in model.model_fields.items()}


def kinds(annotation: Any) -> set[type]:
    """The plain types that an annotation lets through."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return kinds(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return {kind for one in get_args(annotation) for kind in kinds(one)}
    if origin is Literal:
        return {type(value) for value in get_args(annotation)}
    found = origin or annotation
    return {found} if isinstance(found, type) else set()


PLACES = [place for place in sections(Job) if len(place) < 2]
MISSPELLED = [
    (place, name, f"{name[:-1]}{name[-1] * 2}") for place in PLACES for name in fields_in(place)
]
WRONG_TYPE = [
    (place, name, _WRONG[kind])
    for place in PLACES
    for name, annotation in fields_in(place).items()
    for kind in kinds(annotation) - {type(None)}
    if kind in _WRONG and len(kinds(annotation) - {type(None)}) == 1
]


def written(folder: Path, place: tuple[str, ...], key: str, value: Any) -> tuple[Path, int]:
    """A right job file but for ``key``; and the key's line."""
    content: dict[str, Any] = yaml.safe_load(yaml.safe_dump(_RIGHT))
    target = content
    for step in place:
        target = target.setdefault(step, {})
    target[key] = value
    text = yaml.safe_dump(content, sort_keys=False, default_flow_style=False)
    path = folder / "job.yaml"
    path.write_text(text)
    depth = "  " * len(place)
    lines = text.splitlines()
    begins = 0
    for level, step in enumerate(place):
        begins = next(
            n for n, line in enumerate(lines) if n >= begins and line == f"{'  ' * level}{step}:"
        )
    line = next(
        n for n, line in enumerate(lines, 1) if n > begins and line.startswith(f"{depth}{key}:")
    )
    return path, line


def refusal(path: Path) -> str:
    with pytest.raises(UsageError) as raised:
        load_job(path)
    return " ".join((raised.value.message, *raised.value.hints))


def test_the_job_without_a_mistake_is_taken() -> None:
    assert job_from(_RIGHT).name == "one-mistake"


def test_there_are_more_than_fifty_mistakes() -> None:
    assert len(MISSPELLED) + len(WRONG_TYPE) >= 50


@pytest.mark.parametrize(("place", "name", "wrong"), MISSPELLED, ids=str)
def test_a_misspelled_key_is_refused_with_its_line_and_the_right_one(
    tmp_path: Path, place: tuple[str, ...], name: str, wrong: str
) -> None:
    path, line = written(tmp_path, place, wrong, 1)

    said = refusal(path)

    assert f"{path}, line {line}" in said
    assert f"unknown key '{'.'.join((*place, wrong))}'; did you mean '{name}'?" in said


@pytest.mark.parametrize(("place", "name", "value"), WRONG_TYPE, ids=str)
def test_a_value_of_the_wrong_kind_is_refused_with_its_line_and_key(
    tmp_path: Path, place: tuple[str, ...], name: str, value: Any
) -> None:
    path, line = written(tmp_path, place, name, value)

    said = refusal(path)

    assert f"{path}, line {line}" in said
    assert ".".join((*place, name)) in said
    assert "validation error" not in said
    assert "Input should be" not in said


@pytest.mark.parametrize(("place", "name", "wrong"), MISSPELLED, ids=str)
def test_the_command_says_the_same_in_json(
    ask: Callable[..., Finished], tmp_path: Path, place: tuple[str, ...], name: str, wrong: str
) -> None:
    path, line = written(tmp_path, place, wrong, 1)

    result = ask("plan", str(path), "--json")

    assert result.code == 2
    said = " ".join((result.json["error"], *result.json["hints"]))
    assert f"{path}, line {line}" in said
    assert f"did you mean '{name}'?" in said
