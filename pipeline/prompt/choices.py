"""The probability of each of a few answers, over whole answers, token by token.

The answers' token sequences form a tree. At a node, one request returns the probabilities of all
its branches; an answer's probability is the product along its path. Branches with a negligible
probability are not followed. The tokens of an answer depend on the prompt before it, so prompt and
answer are tokenized together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache

from pipeline.model.tokenizer import Tokenizer
from pipeline.prompt.join import Join, joined_ids, tail_of

Path = tuple[int, ...]
_HOPELESS = math.log(1e-4)  # relative to the best known path: nothing that is left out weighs more
_REMEMBERED = 4096  # endings of prompts


class ChoiceTree:
    """The answers' token sequences, and where they branch."""

    def __init__(self, sequences: Sequence[Path]) -> None:
        if len(set(sequences)) < len(sequences):
            raise ValueError("two answers have the same tokens")
        self.sequences = tuple(sequences)
        self._ends = set(sequences)
        branches: dict[Path, dict[int, None]] = {}
        for sequence in sequences:
            for depth, token in enumerate(sequence):
                branches.setdefault(sequence[:depth], {})[token] = None
        self.branches: Mapping[Path, Path] = {p: tuple(b) for p, b in branches.items()}

    @property
    def longest(self) -> int:
        """Tokens of the longest answer."""
        return max(len(sequence) for sequence in self.sequences)

    @property
    def start(self) -> Path:
        """The first node that decides something: tokens that all answers share tell nothing."""
        path: Path = ()
        while len(self.branches[path]) == 1 and path not in self._ends:
            path += self.branches[path]
        return path


class ChoiceSearch:
    """The walk down one prompt's tree: which nodes to ask about next, and the outcome."""

    def __init__(self, tree: ChoiceTree) -> None:
        self._tree = tree
        self._log_probability: dict[Path, float] = {tree.start: 0.0}
        self._expanded: set[Path] = set()
        self._asked: set[Path] = set()

    def next_nodes(self) -> list[Path]:
        """Nodes whose branches to request now; empty when nothing more is needed."""
        best = max(self._log_probability.values(), default=0.0)
        leaves = [p for p in self._log_probability if p not in self._expanded]
        best = max((self._log_probability[p] for p in leaves), default=best)
        nodes = [
            path
            for path in leaves
            if path in self._tree.branches
            and path not in self._asked
            and self._log_probability[path] >= best + _HOPELESS
        ]
        self._asked.update(nodes)
        return nodes

    def branches_of(self, node: Path) -> Path:
        """The tokens whose log-probabilities to request at ``node``."""
        return self._tree.branches[node]

    def observe(self, node: Path, log_probabilities: Mapping[int, float]) -> None:
        """Take in the result for one node."""
        self._expanded.add(node)
        for token in self._tree.branches[node]:
            self._log_probability[(*node, token)] = (
                self._log_probability[node] + log_probabilities[token]
            )

    @property
    def pending(self) -> bool:
        return bool(self._asked - self._expanded)

    def probabilities(self) -> list[float]:
        """One per answer, in order, summing to 1.

        An answer that is the beginning of others counts with the probability that does not continue
        to one of them; answers below an abandoned branch share its (negligible) weight.
        """
        weights = [self._weight(sequence) for sequence in self._tree.sequences]
        total = sum(weights)
        if not total > 0:
            return [1 / len(weights)] * len(weights)
        return [w / total for w in weights]

    def _weight(self, sequence: Path) -> float:
        depth = len(sequence)
        while sequence[:depth] not in self._log_probability:
            depth -= 1
        path = sequence[:depth]
        weight = math.exp(self._log_probability[path])
        if path != sequence or (path in self._tree.branches and path not in self._expanded):
            below = sum(1 for s in self._tree.sequences if s[:depth] == path)
            return weight / below
        if path in self._expanded:  # an end from which other answers continue
            onward = sum(
                math.exp(self._log_probability[(*path, t)]) for t in self._tree.branches[path]
            )
            return max(weight - onward, 0.0)
        return weight


class ChoiceTokens:
    """Finds the tree for a prompt's ending; equal endings (the usual case) are cached."""

    def __init__(self, choices: Sequence[str], tokenizer: Tokenizer, join: Join) -> None:
        self._choices = [tokenizer.mark(choice) for choice in choices]  # the author's own words
        self._tokenizer = tokenizer
        self._join = join
        self._tree_after = lru_cache(_REMEMBERED)(self._tree)

    def tree_for(self, prompt_text: str) -> ChoiceTree:
        """The tree of the choices as they continue ``prompt_text``. Raises ValueError."""
        return self._tree_after(tail_of(prompt_text))

    def _tree(self, tail: str) -> ChoiceTree:
        tokenizer, join = self._tokenizer, self._join
        bare = tokenizer.encode_plain(tail)
        ids = (joined_ids(tokenizer, tail, bare, choice, join) for choice in self._choices)
        return ChoiceTree([tuple(one) for one in ids])
