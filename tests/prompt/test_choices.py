"""Choices: probabilities of whole answers, against brute force."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.model.tokenizer import Tokenizer
from pipeline.prompt.choices import ChoiceSearch, ChoiceTokens, ChoiceTree, Path
from pipeline.prompt.join import continuation, reply
from tests.support.samples import quick

TOKENS = range(4)
ANSWERS = st.lists(
    st.lists(st.sampled_from(TOKENS), min_size=1, max_size=4).map(tuple),
    min_size=2,
    max_size=6,
    unique=True,
)
# a model: the odds of the next token, depending on those before it
ODDS = st.lists(st.integers(1, 50), min_size=31, max_size=31)
STEEP = st.lists(st.sampled_from([1, 10**3, 10**6]), min_size=31, max_size=31)


class Model:
    def __init__(self, odds: list[int]) -> None:
        self._odds = odds

    def log_probability(self, node: Path, token: int) -> float:
        # the fifth share is that of tokens which no answer uses
        odds = [self._odds[hash((node, t)) % len(self._odds)] for t in range(len(TOKENS) + 1)]
        return math.log(odds[token] / sum(odds))


def search(answers: list[Path], model: Model, last_first: bool = False) -> ChoiceSearch:
    made = ChoiceSearch(ChoiceTree(answers))
    open_nodes: list[Path] = []
    while True:
        open_nodes += made.next_nodes()
        assert made.pending == bool(open_nodes)
        if not open_nodes:
            return made
        node = open_nodes.pop(-1 if last_first else 0)
        asked = made.branches_of(node)
        made.observe(node, {token: model.log_probability(node, token) for token in asked})


def brute_force(answers: list[Path], model: Model) -> list[float]:
    """The share of each answer among the texts that begin with one; the longest one counts."""

    def begins_with(prefix: Path) -> float:
        steps = (model.log_probability(prefix[:i], prefix[i]) for i in range(len(prefix)))
        return math.exp(sum(steps))

    weights = []
    for answer in answers:
        longer = [a for a in answers if len(a) > len(answer) and a[: len(answer)] == answer]
        onward = {a[: len(answer) + 1] for a in longer}
        weights.append(begins_with(answer) - sum(begins_with(path) for path in onward))
    return [weight / sum(weights) for weight in weights]


@quick
@given(ANSWERS, ODDS)
def test_probabilities_agree_with_brute_force(answers: list[Path], odds: list[int]) -> None:
    model = Model(odds)

    found = search(answers, model).probabilities()

    assert found == pytest.approx(brute_force(answers, model), abs=1e-3)


@quick
@given(ANSWERS, STEEP, st.booleans())
def test_probabilities_sum_to_one(answers: list[Path], odds: list[int], last_first: bool) -> None:
    found = search(answers, Model(odds), last_first).probabilities()

    assert sum(found) == pytest.approx(1)
    assert all(0 <= p <= 1 for p in found)


@quick
@given(ANSWERS, STEEP)
def test_what_pruning_leaves_out_weighs_next_to_nothing(
    answers: list[Path], odds: list[int]
) -> None:
    model = Model(odds)

    found = search(answers, model).probabilities()

    assert found == pytest.approx(brute_force(answers, model), abs=5e-3)


def test_a_branch_without_hope_is_not_asked_about() -> None:
    made = ChoiceSearch(ChoiceTree([(0, 1), (0, 2), (3, 1), (3, 2)]))
    assert made.next_nodes() == [()]
    made.observe((), {0: math.log(0.9), 3: math.log(1e-6)})

    assert made.next_nodes() == [(0,)]
    made.observe((0,), {1: math.log(0.5), 2: math.log(0.5)})
    assert made.next_nodes() == []
    assert not made.pending
    assert sum(made.probabilities()[2:]) == pytest.approx(0, abs=1e-4)


def test_a_branch_that_hope_returns_to_is_asked_about_after_all() -> None:
    """The best branch may lead to ends that are worse still."""
    made = ChoiceSearch(ChoiceTree([(0, 1), (0, 2), (3, 1), (3, 2)]))
    made.next_nodes()
    made.observe((), {0: 0.0, 3: math.log(1e-5)})
    assert made.next_nodes() == [(0,)]
    made.observe((0,), {1: math.log(1e-6), 2: math.log(1e-6)})

    assert made.next_nodes() == [(3,)]


def test_no_node_is_asked_about_twice() -> None:
    made = ChoiceSearch(ChoiceTree([(0,), (1,)]))

    assert made.next_nodes() == [()]
    assert made.next_nodes() == []
    assert made.pending


def test_a_first_token_that_all_answers_share_is_not_asked_about() -> None:
    tree = ChoiceTree([(7, 8, 1), (7, 8, 2)])

    assert tree.start == (7, 8)
    assert ChoiceSearch(tree).next_nodes() == [(7, 8)]


def test_an_answer_that_the_other_begins_with_counts_with_what_does_not_go_on() -> None:
    made = ChoiceSearch(ChoiceTree([(7,), (7, 8)]))
    assert made.next_nodes() == [(7,)]
    made.observe((7,), {8: math.log(0.25)})

    assert made.probabilities() == pytest.approx([0.75, 0.25])


def test_answers_that_are_all_impossible_are_equally_so() -> None:
    made = ChoiceSearch(ChoiceTree([(0,), (1,)]))
    made.next_nodes()
    made.observe((), {0: -math.inf, 1: -math.inf})

    assert made.probabilities() == [0.5, 0.5]


def test_two_answers_of_the_same_tokens_are_refused() -> None:
    with pytest.raises(ValueError, match="same tokens"):
        ChoiceTree([(1, 2), (1, 2)])


class TestTokens:
    """Which tokens an answer is, where it joins a prompt."""

    def pieces(self, tree: ChoiceTree, tokenizer: Tokenizer) -> list[list[str]]:
        return [[tokenizer.decode([t]) for t in s] for s in tree.sequences]

    def test_an_answer_continues_the_prompt_with_a_space(self, tokenizer: Tokenizer) -> None:
        tree = ChoiceTokens(["yes", "no"], tokenizer, continuation).tree_for("Q: x\nA:")

        assert self.pieces(tree, tokenizer) == [[" yes"], [" no"]]

    def test_labels_may_share_their_first_token(self, tokenizer: Tokenizer) -> None:
        tree = ChoiceTokens(["negative", "negutral"], tokenizer, continuation).tree_for("A:")

        assert self.pieces(tree, tokenizer) == [[" neg", "ative"], [" neg", "utral"]]
        assert len(tree.start) == 1

    def test_a_label_may_begin_another(self, tokenizer: Tokenizer) -> None:
        tree = ChoiceTokens(["no", "nothing"], tokenizer, continuation).tree_for("A:")

        assert self.pieces(tree, tokenizer) == [[" no"], [" no", "thing"]]
        assert len(tree.branches[tree.start]) == 1  # and the answer may end there

    def test_after_a_line_break_an_answer_has_no_space(self, tokenizer: Tokenizer) -> None:
        tree = ChoiceTokens(["yes", "no"], tokenizer, continuation).tree_for("Q: x\n")

        assert self.pieces(tree, tokenizer) == [["y", "e", "s"], ["n", "o"]]

    def test_a_chat_reply_has_no_space(self, tokenizer: Tokenizer) -> None:
        tree = ChoiceTokens(["yes", "no"], tokenizer, reply).tree_for("[model]")

        assert self.pieces(tree, tokenizer) == [["y", "e", "s"], ["n", "o"]]

    def test_a_token_that_would_grow_over_the_prompts_end_is_not_used(
        self, tokenizer: Tokenizer
    ) -> None:
        """`= ` is one token, but the prompt's `=` stands: the answer is read by itself."""
        assert len(tokenizer.encode_plain("= ")) == 1

        tree = ChoiceTokens(["yes", "no"], tokenizer, continuation).tree_for("A=")
        assert self.pieces(tree, tokenizer) == [[" yes"], [" no"]]

    @pytest.mark.parametrize("tail", ["", "A:", "x" * 200 + "A:", "Q\n" * 100 + "A:"])
    def test_a_prompt_and_its_answers_tokens_read_as_their_text(
        self, tokenizer: Tokenizer, tail: str
    ) -> None:
        tree = ChoiceTokens(["positive", "negative"], tokenizer, continuation).tree_for(tail)

        for answer, sequence in zip(["positive", "negative"], tree.sequences, strict=True):
            ids = [*tokenizer.encode_plain(tail), *sequence]
            assert tokenizer.decode(ids) == tail + continuation(tail, answer)

    def test_equal_endings_have_one_tree(self, tokenizer: Tokenizer) -> None:
        tokens = ChoiceTokens(["yes", "no"], tokenizer, continuation)

        assert tokens.tree_for("Q: one\nA:") is tokens.tree_for("Q: two\nA:")

    def test_choices_that_differ_in_nothing_a_token_shows_are_refused(
        self, tokenizer: Tokenizer
    ) -> None:
        with pytest.raises(ValueError, match="same tokens"):
            ChoiceTokens(["é", "è"], tokenizer, continuation).tree_for("A:")


def test_orders_of_observation_do_not_matter() -> None:
    answers = list(itertools.product((0, 1), (2, 3)))
    model = Model(list(range(1, 32)))

    one, two = (search(answers, model, last_first).probabilities() for last_first in (True, False))
    assert one == pytest.approx(two)
