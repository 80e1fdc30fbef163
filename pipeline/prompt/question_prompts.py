"""A prompt for each question of a row: the row's text first, so that it is computed once, and then
what is asked.

After a prompt a question stands on a line of its own. Its tokens are read by themselves, so that
those of the row's text are the same for all questions, whatever the tokenizer would merge. In a
chat it ends the user's last message, and the template writes what comes behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pipeline.job.answer.questions import Question, asked_of, example_answers
from pipeline.model.tokenizer import Tokenizer
from pipeline.prompt.join import Prompt, continuation, joined_ids, open_ended, reply
from pipeline.rows.workload import common_prefix

_ANY_WORD = "word"
_LINE, _PARAGRAPH = "\n", "\n\n"


class QuestionPrompts:
    """The questions of one job, as they stand in its prompts."""

    def __init__(
        self, questions: Mapping[str, Question], tokenizer: Tokenizer, mark: Callable[[str], str]
    ) -> None:
        """``mark``: marks the control tokens in what the job's author writes."""
        self._questions = questions
        self._texts = {one.name: mark(open_ended(one.text or "")) for one in asked_of(questions)}
        before = tokenizer.encode_plain(_ANY_WORD)
        self._endings: list[tuple[list[int], str]] = []
        for text in self._texts.values():
            line = _LINE + text
            last = tokenizer.parts(line)[-1]
            ids = joined_ids(tokenizer, _ANY_WORD, before, line, reply)
            self._endings.append((ids, last if isinstance(last, str) else ""))

    def of_row(self, prompt: Prompt) -> Prompt:
        """``prompt``, that of a row's text, with one for each question after it."""
        asked = (replace(prompt, ids=prompt.ids + ids, tail=end) for ids, end in self._endings)
        return replace(prompt, asked=tuple(asked))

    def in_chat(self, messages: Sequence[Mapping[str, Any]]) -> Iterator[list[dict[str, Any]]]:
        """A row's messages with each of the questions."""
        *before, last = map(dict, messages)
        if last["role"] != "user":
            before.append(last)
            last = {"role": "user", "content": ""}
        for text in self._texts.values():
            content = last["content"].rstrip()
            yield [*before, {**last, "content": f"{content}{_PARAGRAPH if content else ''}{text}"}]

    def of_example(self, text: str, answer: Any) -> list[str]:
        """A few-shot example, ``text`` as its prompt is written, once for each question that it
        answers."""
        asked = {n: f"{ended(text)}{_LINE}{self._texts[n]}" for n in self._texts}
        answers = example_answers(answer, self._questions)
        return [asked[name] + continuation(asked[name], told) for name, told in answers.items()]


def ended(text: str) -> str:
    """A row's text as questions stand after it: on the next line, whatever it ends in."""
    return text.rstrip()


def together(prompts: Sequence[Prompt]) -> Prompt:
    """One row's prompts of all questions, as the prompt of the row: what they begin with."""
    ids = [one.ids for one in prompts]
    same = min(ids)[: common_prefix(min(ids), max(ids))]
    return replace(prompts[0], ids=same, asked=tuple(prompts))
