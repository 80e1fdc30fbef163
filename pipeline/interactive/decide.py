"""One text, several questions, at once: answers in the shape of OpenAI's decisions."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.driver.plan.plan import InputPlan, check_input
from pipeline.driver.trial.client import WarmEngine
from pipeline.driver.trial.trial import answer_now
from pipeline.errors import JobFailed, UsageError
from pipeline.job.answer.questions import YES, AskedQuestion
from pipeline.job.file.load import job_from
from pipeline.job.job import Job
from pipeline.model.stand_in import resolve_for_planning
from pipeline.output.columns.question_columns import expectation
from pipeline.output.columns.results import RowResult
from pipeline.prompt.builder import tokenizer_of
from pipeline.worker.answer_rows import RowPlace

_TEXT, _MESSAGES = "text", "messages"
_OPTIONS = {"choice": ("choices", "value"), "score": ("levels", "label")}

Said = str | Sequence[Mapping[str, str]]


def decide(
    model: str,
    text: Said,
    questions: Mapping[str, Mapping[str, Any]] | Sequence[Mapping[str, Any]],
    *,
    warm: WarmEngine | None = None,
    progress: bool = True,
    **settings: Any,
) -> dict[str, Any]:
    """Answer questions about one text now. As with `rackmill try`, the engine stays loaded for ten
    minutes.

    ``text``: a text, or messages ``{role, content}``; a model with a chat template gets a text as
    the user's message. ``questions``: as a job file has them, or a list as OpenAI's decisions do:
    ``{type: "choice", name, instructions, choices: [{value, description}]}``, ``{type:
    "predicate", name, instructions}``, ``{type: "score", name, instructions, levels: [{label,
    description}]}``. ``settings``: other keys of a job file (``instructions``, ``examples``,
    ``engine``).

    Returns ``{"answers": [...], "usage": {...}}``, an answer for each question: ``{type, name}``
    with a ``probability`` (of yes), or a ``choice``, its ``confidence`` and ``probabilities``, or a
    ``score`` (the mean level by the probabilities; the lowest level is 0) and the same two.

    Raises UsageError, EngineFailed; JobFailed if the text is an error row.
    """
    named, names = _questions(questions)
    job = _job(model, text, named, settings)
    row = {_TEXT: text} if isinstance(text, str) else {_MESSAGES: [dict(one) for one in text]}

    def say(line: str) -> None:
        if progress:
            print(line, file=sys.stderr)

    with tempfile.TemporaryDirectory() as folder:

        def inputs() -> InputPlan:
            path = Path(folder) / "row.jsonl"
            path.write_text(json.dumps(row) + "\n", encoding="utf-8")
            found = job.input.model_copy(update={"path": str(path)})
            return check_input(job.model_copy(update={"input": found}))

        [result], _, _ = answer_now(job, [row], [RowPlace("text", 0)], inputs, say, warm)
    if result.error is not None:
        raise JobFailed(f"{result.error.type.value}: {result.error.message}")
    answers = [
        _answer(asked, answer, name)
        for asked, answer, name in zip(job.asked, result.answers, names, strict=True)
    ]
    read, written = result.prompt_tokens, result.completion_tokens
    usage = {"input_tokens": read, "output_tokens": written, "total_tokens": read + written}
    return {"answers": answers, "usage": usage}


def _job(model: str, text: Said, questions: Mapping[str, Any], settings: Mapping[str, Any]) -> Job:
    content: dict[str, Any] = {
        "name": "decide",
        "model": model,
        "input": {"path": "text.jsonl"},
        "output": {"path": "decided"},
        "questions": questions,
        **settings,
    }
    if not isinstance(text, str):
        return job_from({**content, "messages": {"column": _MESSAGES}})
    job = job_from({"prompt": f"{{{_TEXT}}}", **content})
    if "prompt" in settings or not tokenizer_of(job, resolve_for_planning(model)).has_chat_template:
        return job
    user = {"role": "user", "content": f"{{{_TEXT}}}"}
    return job_from({**content, "messages": [user]})


def _questions(
    questions: Mapping[str, Mapping[str, Any]] | Sequence[Mapping[str, Any]],
) -> tuple[dict[str, Any], list[str | None]]:
    """The questions as in a job file, and their names: in OpenAI's format any name is allowed."""
    if isinstance(questions, Mapping):
        return {name: dict(one) for name, one in questions.items()}, list(questions)
    made = {f"q{number}": _own(number, one) for number, one in enumerate(questions)}
    return made, [one.get("name") for one in questions]


def _own(number: int, question: Mapping[str, Any]) -> dict[str, Any]:
    """A question of OpenAI's decisions as one of ours. Raises UsageError."""
    kind, text = question.get("type"), question.get("instructions")
    if not isinstance(text, str):
        raise UsageError(f"question {number + 1} has no text: instructions")
    if kind == "predicate":
        return {"predicate": text}
    if kind not in _OPTIONS:
        raise UsageError(
            f"question {number + 1} is of type {kind!r}", "give choice, predicate or score"
        )
    key, word = _OPTIONS[kind]
    options = question.get(key)
    if not isinstance(options, Sequence) or not all(
        isinstance(one, Mapping) and isinstance(one.get(word), str) for one in options
    ):
        raise UsageError(f"question {number + 1}: {key} is a list of {{{word}: TEXT}}")
    told = [f"{o[word]}: {o['description']}" for o in options if o.get("description")]
    ask = "\n".join([text, *told])
    return {"ask": ask, "choices" if kind == "choice" else "score": [o[word] for o in options]}


def _answer(asked: AskedQuestion, answer: RowResult, name: str | None) -> dict[str, Any]:
    about: dict[str, Any] = {"type": asked.kind, "name": name}
    chances = list(zip(asked.choices, answer.probabilities, strict=True))
    if asked.kind == "predicate":
        return about | {"probability": dict(chances)[YES]}
    if asked.kind == "choice":
        about["choice"] = answer.label
        each = [{"value": value, "probability": p} for value, p in chances]
    else:
        about["score"] = expectation(answer.probabilities)
        each = [
            {"value": level, "label": label, "probability": p}
            for level, (label, p) in enumerate(chances)
        ]
    return about | {"confidence": answer.confidence, "probabilities": each}
