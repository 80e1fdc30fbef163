"""Job files: YAML in, a checked Job out; every mistake is reported with its line and its fix."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from pipeline.errors import UsageError, did_you_mean
from pipeline.job.file.lay_over import forget, lay_over, plain
from pipeline.job.file.text_keys import Ambiguous, as_written, is_text, members
from pipeline.job.file.wording import in_words
from pipeline.job.file.yaml_text import Location as _Location
from pipeline.job.file.yaml_text import Parsed, parse, read_text
from pipeline.job.job import Job


def load_job(
    source: str | Path | Mapping[str, Any],
    settings: Iterable[str] = (),
    *,
    over: Mapping[str, Any] | None = None,
) -> Job:
    """Read the job file at a path, or a mapping of the same form. ``settings``: lines
    ``key.path=value`` laid over it. ``over``: plain data laid over it (None removes a key).

    Raises UsageError naming the file, the line and the fix.
    """
    if isinstance(source, Mapping):
        return job_from(source, settings, over=over)
    path = Path(source)
    parsed = parse(read_text(path), str(path))
    if not isinstance(parsed.data, dict | None):
        raise UsageError(f"{path}: a job file is a list of `key: value` lines")
    return _job(parsed.data or {}, str(path), parsed, settings, over)


def job_from(
    content: Mapping[str, Any],
    settings: Iterable[str] = (),
    *,
    over: Mapping[str, Any] | None = None,
) -> Job:
    """A Job from a plain mapping (the Python API), with ``settings`` and ``over`` laid over it as
    in ``load_job``.

    Raises UsageError.
    """
    return _job(copy.deepcopy(dict(content)), "job", Parsed({}, {}, {}), settings, over)


def _job(
    content: dict[str, Any],
    name: str,
    parsed: Parsed,
    settings: Iterable[str],
    over: Mapping[str, Any] | None,
) -> Job:
    """The job in ``content``, which is changed. ``name``: of its file, for messages."""
    overridden = [_override(content, setting, parsed.written) for setting in settings]
    lay_over(content, plain(over or {}), (parsed.written, parsed.lines))
    try:
        return Job.model_validate(as_written(content, parsed.written))
    except ValidationError as e:
        problems = [_explain(error, name, parsed.lines, overridden) for error in _distinct(e)]
        raise UsageError(problems[0], *problems[1:]) from None
    except Ambiguous as e:
        problem = {"loc": e.location, "msg": str(e), "type": "ambiguous"}
        raise UsageError(_explain(problem, name, parsed.lines, overridden)) from None
    except RecursionError:
        raise UsageError(f"{name}: nested too deeply", "write it flatter") from None


def line_of(path: Path, key: str) -> str:
    """``path, line N`` for a dotted key, or for the nearest key around it that the file has;
    ``path`` alone if there is none. For errors found later."""
    try:
        lines = parse(read_text(path), str(path)).lines
    except UsageError:
        return str(path)
    dotted = {".".join(str(step) for step in place): line for place, line in lines.items()}
    around = [d for d in dotted if d and f"{key}.".startswith(f"{d}.")]
    return f"{path}, line {dotted[max(around, key=len)]}" if around else str(path)


def _override(content: dict[str, Any], setting: str, written: dict[_Location, str]) -> str:
    """Lay one ``key.path=value`` over the job file's content, and over its ``written`` texts.
    Returns the key path."""
    key_path, equals, text = setting.partition("=")
    keys = key_path.split(".")
    if not equals or not all(keys):
        raise UsageError(f"--set {setting}: write --set key.path=value")
    try:
        text.encode()
        parsed = parse(text, key_path)
        value, found = parsed.data, parsed.written
    except UnicodeEncodeError:
        raise UsageError(f"--set {key_path}: its value is not UTF-8") from None
    except UsageError:
        value, found = text, {}
    if is_text(tuple(keys), text, value):
        value, found = text, {}
    target = content
    for key in keys[:-1]:
        inner = target.get(key)
        if not isinstance(inner, dict):
            inner = target[key] = {}
        target = inner
    target[keys[-1]] = value
    forget((written,), tuple(keys))
    written.update({(*keys, *place): word for place, word in found.items()})
    return key_path


def _distinct(error: ValidationError) -> list[Any]:
    """One problem per place: pydantic reports each member of a union that does not match."""
    seen: dict[_Location, Any] = {}
    for problem in error.errors(include_url=False):
        location = problem["loc"]
        # the last part of an unknown key's place is the user's own text
        own = 1 if problem["type"] == "extra_forbidden" else 0
        inner = location[: len(location) - own]
        place = tuple(p for p in inner if not _names_a_type(p)) + location[len(location) - own :]
        tags = {p for p in inner if isinstance(p, str) and p.startswith("[")}
        seen.setdefault(place, {**problem, "loc": place, "tags": tags})
    return list(seen.values())


def _names_a_type(part: str | int) -> bool:
    """pydantic puts the name or tag of the tried union member into the location."""
    return isinstance(part, str) and (
        part[:1].isupper() or any(c in part for c in "[(-") or part in ("str", "int")
    )


def _explain(
    problem: Mapping[str, Any], name: str, lines: Mapping[_Location, int], overridden: list[str]
) -> str:
    location: _Location = problem["loc"]
    dotted = ".".join(str(part) for part in location)
    if any(f"{dotted}.".startswith(f"{k}.") or k.startswith(f"{dotted}.") for k in overridden):
        where = f"--set {dotted}"
    else:
        line = next(
            (lines[location[:n]] for n in range(len(location), 0, -1) if location[:n] in lines),
            None,
        )
        where = f"{name}, line {line}" if line else name
    if problem["type"] == "extra_forbidden":
        known = _keys_at(location[:-1], column="[column]" in problem["tags"])
        near = did_you_mean(str(location[-1]), known, "{!r}")
        hints = near or [f"known here: {', '.join(known)}"]
        return f"{where}: unknown key {dotted!r}; {hints[0]}"
    if problem["type"] == "missing":
        return f"{where}: {dotted!r} is missing"
    return f"{where}: {dotted + ': ' if dotted else ''}{in_words(problem)}"


def _keys_at(location: _Location, *, column: bool) -> list[str]:
    """The keys that the model at ``location`` of a job file knows (``column``: the member of the
    union that names a column, which is the last)."""
    model: type[BaseModel] = Job
    named = False  # the next part is a name that the user chose
    for part in location:
        if isinstance(part, int) or named:
            named = False
            continue
        annotation = model.model_fields[part].annotation
        named = any(get_origin(kind) is dict for kind in members([annotation]))
        models = [t for t in _flatten(annotation) if issubclass(t, BaseModel)]
        if not models:
            break
        model = models[-1] if column else models[0]
    return list(model.model_fields)


def _flatten(annotation: Any) -> list[type]:
    arguments = get_args(annotation)
    if not arguments:
        return [annotation] if isinstance(annotation, type) else []
    return [t for argument in arguments for t in _flatten(argument)]
