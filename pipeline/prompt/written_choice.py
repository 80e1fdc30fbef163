"""A choice as written by an engine that reports no log-probabilities."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Container

from pipeline.errors import RowError, RowErrorType
from pipeline.output.columns.results import RowResult
from pipeline.prompt.answer import Answer, OneRequest
from pipeline.prompt.choice_answer import ChoiceQuestion, tree_within
from pipeline.prompt.join import Prompt
from pipeline.rows.request import Completion, Request, Structure

_MORE_TOKENS = 8  # more than the longest choice: quotes, spaces, an end token


def written_choice(
    question: ChoiceQuestion,
    prompt: Prompt,
    next_id: Callable[[], int],
    room: int,
    held: Container[str],
) -> Answer:
    """The model writes its answer, restricted to the choices where the engine can do that. Its
    confidence is unknown: ``confidence`` stays null instead of an invented number.

    ``room``: tokens of the context that are left; ``held``: see ``EngineFacts``. Raises
    RowError.
    """
    choices = question.asked.choices
    most = min(room, tree_within(question, prompt, room).longest + _MORE_TOKENS)
    sampling = prompt.sampling.model_copy(update={"max_tokens": most, "min_tokens": 0})
    quoted = "regex" not in held and "json" in held
    structure = None
    if "regex" in held:
        words = "|".join(re.escape(choice) for choice in choices)
        structure = Structure(regex=f" ?({words})")
    elif quoted:
        structure = Structure(json_schema=json.dumps({"enum": list(choices)}))

    def read(completion: Completion) -> RowResult:
        tokens = completion.completion_tokens
        label = chosen(completion.text, choices, quoted=quoted)
        if label is None:
            said = f"the answer {completion.text.strip()[:60]!r} is not one of the choices"
            error = RowError(RowErrorType.SCHEMA_NOT_MET, said, attempts=1)
            return RowResult(error=error, completion_tokens=tokens)
        return RowResult(
            completion=label, label=label, finish_reason="stop", completion_tokens=tokens
        )

    return OneRequest(Request(next_id(), prompt.ids, sampling, structure), read)


def chosen(text: str, choices: tuple[str, ...], *, quoted: bool = False) -> str | None:
    """The choice that a written answer names: the whole text, or else its beginning up to the end
    of a word, the longest first. None if it names none."""
    if quoted:
        try:
            found = json.loads(text)
            text = found if isinstance(found, str) else text
        except ValueError:
            pass
    text = text.strip()
    for choice in sorted(choices, key=len, reverse=True):
        rest = text[len(choice) :]
        if text.startswith(choice) and not (rest and choice[-1].isalnum() and rest[0].isalnum()):
            return choice
    return None
