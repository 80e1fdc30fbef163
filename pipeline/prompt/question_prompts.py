"""A prompt for each question of a row: first the row's text, so that it is computed once, and then
the question.

After a prompt a question has its own line. Its tokens are encoded separately, so the tokens of the
row's text are the same for all questions, whatever the tokenizer would merge. In a chat it ends the
user's last message, and the template writes the rest.
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
    """The questions of one job, as they are written in its prompts."""

    def __init__(
        self, questions: Mapping[str, Question], tokenizer: Tokenizer, mark: Callable[[str], str]
    ) -> None:
        """``mark``: marks the control tokens in the text of the job's author."""
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
        """``prompt``, of a row's text, with one prompt for each question."""
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
        """A few-shot example, once for each question that it answers. ``text``: written as its
        prompt is."""
        asked = {n: f"{ended(text)}{_LINE}{self._texts[n]}" for n in self._texts}
        answers = example_answers(answer, self._questions)
        return [asked[name] + continuation(asked[name], told) for name, told in answers.items()]


def ended(text: str) -> str:
    """A row's text without trailing blanks: questions follow on the next line."""
    return text.rstrip()


def together(prompts: Sequence[Prompt]) -> Prompt:
    """One row's prompts for all questions, as the row's prompt: their common beginning."""
    ids = [one.ids for one in prompts]
    same = min(ids)[: common_prefix(min(ids), max(ids))]
    return replace(prompts[0], ids=same, asked=tuple(prompts))
