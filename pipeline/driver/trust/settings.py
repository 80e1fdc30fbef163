"""What is asked for of an output's labels on the command line, laid over its job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.driver.trust.parts import OutputPart
from pipeline.errors import UsageError, did_you_mean, some_of
from pipeline.input.shards import discover
from pipeline.job.answer.questions import AskedQuestion
from pipeline.job.file.load import job_from
from pipeline.job.job import Input, Job
from pipeline.output.runs.job_file import job_content


@dataclass(frozen=True)
class TrustOptions:
    """``gold``: columns of the output or files, of one of several questions as ``NAME=WHERE``;
    ``key``, ``value``: the columns of files. ``error``, ``confidence``: of the promise. What is
    None stays as the job has it."""

    gold: tuple[str, ...] = ()
    key: str | None = None
    value: str | None = None
    error: float | None = None
    confidence: float | None = None

    @property
    def named(self) -> bool:
        """Whether anything is asked for by name."""
        return bool(self.gold or self.key or self.value) or self.promised

    @property
    def promised(self) -> bool:
        """Whether a promise is asked for by name."""
        return self.error is not None or self.confidence is not None


def settled(job: Job, part: OutputPart, options: TrustOptions) -> Job:
    """``job``, whose output ``part`` is, with what ``options`` say. Raises UsageError."""
    content = job_content(job)
    files = 0
    for one in options.gold:
        asked, where = _question(job, one)
        section = content["label"] if asked.text is None else content["questions"][asked.name]
        section["gold"] = _gold(asked, part, where, options)
        files += "path" in section["gold"]
    if not files and (options.key is not None or options.value is not None):
        raise UsageError(
            "--key and --value name columns of a file of right answers, and none is named",
            "say which: --gold FILE",
        )
    if options.promised:
        accept = dict(content.get("trust", {}).get("accept") or {})
        given = {"error": options.error, "confidence": options.confidence}
        accept |= {name: value for name, value in given.items() if value is not None}
        content["trust"] = {**content.get("trust", {}), "accept": accept}
    return job_from(content)


def named_questions(job: Job, options: TrustOptions) -> set[str]:
    """Those whose right answers are asked for by name. Raises UsageError."""
    return {_question(job, one)[0].name for one in options.gold}


def settings_of(job: Job) -> dict[str, Any]:
    """Where ``job`` has its right answers, by question, and what it promises: see
    ``with_settings``."""
    content = job_content(job)
    sections = {"label": content.get("label") or {}, **(content.get("questions") or {})}
    gold = {name: one["gold"] for name, one in sections.items() if "gold" in one}
    return {"gold": gold, "trust": content.get("trust", {})}


def with_settings(job: Job, kept: Mapping[str, Any]) -> Job:
    """``job`` with the settings that ``settings_of`` returned. Raises UsageError."""
    if not kept:
        return job
    content = job_content(job)
    for asked in job.asked:
        section = content["label"] if asked.text is None else content["questions"][asked.name]
        gold = (kept.get("gold") or {}).get(asked.name)
        if gold is not None:
            section["gold"] = gold
    return job_from(content | ({"trust": kept["trust"]} if kept.get("trust") else {}))


def _question(job: Job, said: str) -> tuple[AskedQuestion, str]:
    """The question that ``said`` is about, and where its right answers are."""
    names = {asked.name: asked for asked in job.asked}
    name, equals, where = said.partition("=")
    if equals and name in names:
        return names[name], where
    if len(names) == 1:
        return job.asked[0], said
    raise UsageError(
        f"--gold {said}: which question is meant? There are {some_of(list(names))}",
        f"say it: --gold {next(iter(names), 'QUESTION')}={where if equals else said}",
    )


def _gold(
    asked: AskedQuestion, part: OutputPart, where: str, options: TrustOptions
) -> dict[str, Any]:
    values = {"values": dict(asked.graded.gold_values)} if asked.graded.gold_values else {}
    kept = [old for old, _ in part.manifest.kept]
    if where in kept:
        return {"column": where} | values
    if "://" not in where and not Path(where).exists():
        raise UsageError(
            f"--gold {where}: neither a column that the output kept nor a file",
            f"columns: {some_of(kept)}",
            *did_you_mean(where, kept),
        )
    path = where if "://" in where else str(Path(where).absolute())
    names = discover(Input(path=path, partitioning="none")).schema.names
    key = options.key or _only([n for n in names if n in kept], where, "--key", names)
    left = [name for name in names if name != key]
    value = options.value or _only(
        [n for n in left if n == asked.name] or left, where, "--value", names
    )
    return {"path": path, "key": key, "value": value} | values


def _only(fitting: list[str], where: str, option: str, names: list[str]) -> str:
    if len(fitting) == 1:
        return fitting[0]
    what = {
        "--key": "is in the output, too, and says which row is which",
        "--value": "holds the right answers",
    }[option]
    raise UsageError(
        f"--gold {where}: it is not clear which column {what}",
        f"say it: {option} COLUMN (there are {some_of(names)})",
    )
