"""The answer to a question with choices: a walk down their token tree, and its result."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.errors import RowError, RowErrorType
from pipeline.job.answer.questions import AskedQuestion
from pipeline.output.columns.results import RowResult
from pipeline.prompt.choices import ChoiceSearch, ChoiceTokens, ChoiceTree, Path
from pipeline.prompt.join import Prompt
from pipeline.prompt.several_answers import majority
from pipeline.rows.request import MOST_LOGPROB_IDS, Completion, Request


@dataclass(frozen=True)
class ChoiceQuestion:
    """A question of a job with the tokens of its choices. ``votes``: so many are drawn, and the
    answer is the most frequent one."""

    asked: AskedQuestion
    tokens: ChoiceTokens
    votes: int | None = None


class ChoiceAnswer:
    """One of the choices: a walk down their token tree."""

    def __init__(
        self, question: ChoiceQuestion, prompt: Prompt, next_id: Callable[[], int], room: int
    ) -> None:
        """``room``: tokens of the context that are left. Raises RowError."""
        self._question = question
        self._prompt = prompt
        self._next_id = next_id
        self._tree = tree_within(question, prompt, room)
        self._search = ChoiceSearch(self._tree)
        self._nodes: dict[int, Path] = {}  # by request
        self._heard: dict[Path, dict[int, float]] = {}  # of nodes that need several requests
        self._requests = 0
        self.result: RowResult | None = None

    def start(self) -> list[Request]:
        return self._ask()

    def _ask(self) -> list[Request]:
        requests = []
        for node in self._search.next_nodes():
            branches = self._search.branches_of(node)
            for start in range(0, len(branches), MOST_LOGPROB_IDS):
                ids = branches[start : start + MOST_LOGPROB_IDS]
                request = Request(
                    self._next_id(),
                    [*self._prompt.ids, *node] if node else self._prompt.ids,
                    self._prompt.sampling,
                    logprob_ids=ids,
                )
                self._nodes[request.id] = node
                requests.append(request)
        self._requests += len(requests)
        return requests

    def receive(self, completion: Completion) -> list[Request]:
        node = self._nodes.pop(completion.request_id)
        if completion.error is not None:
            self.result = RowResult(error=completion.error, prompt_tokens=len(self._prompt.ids))
            return []
        heard = {**self._heard.pop(node, {}), **completion.logprobs}
        if node in self._nodes.values():  # other branches of it are still requested
            self._heard[node] = heard
            return []
        self._search.observe(node, heard)
        requests = self._ask()
        if not requests and not self._search.pending:
            self._conclude()
        return requests

    def _conclude(self) -> None:
        probabilities = self._search.probabilities()
        chosen = _draw(probabilities, self._prompt)
        confidence = probabilities[chosen]
        if self._question.votes is not None:
            drawn = _drawn(probabilities, self._prompt, self._question.votes)
            chosen, confidence = majority(drawn)
        label = self._question.asked.choices[chosen]
        self.result = RowResult(
            completion=label,
            label=label,
            confidence=confidence,
            probabilities=tuple(probabilities),
            finish_reason="stop",
            prompt_tokens=len(self._prompt.ids),
            completion_tokens=len(self._tree.sequences[chosen]),
            requests=self._requests,
        )


def tree_within(question: ChoiceQuestion, prompt: Prompt, room: int) -> ChoiceTree:
    """The tree of the choices' tokens after ``prompt``; each fits the room. Raises RowError."""
    try:
        tree = question.tokens.tree_for(prompt.tail)
    except ValueError as e:
        raise RowError(RowErrorType.INVALID_ROW, f"{question.asked.key}: {e}") from None
    if tree.longest > room:
        raise RowError(
            RowErrorType.PROMPT_TOO_LONG,
            f"prompt has {len(prompt.ids)} tokens and the longest choice {tree.longest}, "
            f"context {len(prompt.ids) + room}",
        )
    return tree


def _draw(probabilities: list[float], prompt: Prompt) -> int:
    """The most probable choice; at a temperature above 0, one drawn at that temperature."""
    if prompt.sampling.temperature == 0:
        return max(range(len(probabilities)), key=probabilities.__getitem__)
    return _drawn(probabilities, prompt, 1)[0]


def _drawn(probabilities: list[float], prompt: Prompt, number: int) -> list[int]:
    """``number`` choices, drawn at a temperature above 0.

    The draws depend only on the seed and the prompt; without a seed they are random.
    """
    temperature, seed = prompt.sampling.temperature, prompt.sampling.seed
    dice = random.SystemRandom() if seed is None else random.Random(f"{seed}:{prompt.ids}")
    best = max(probabilities)
    weights = [(p / best) ** (1 / temperature) for p in probabilities]
    return dice.choices(range(len(weights)), weights, k=number)
