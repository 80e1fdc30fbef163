"""Scores out of engines: the simulated one's, and how vLLM's logits become some."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.budget.kv_layout import KvLayout
from pipeline.engine.simulated.engine import SimulatedEngine
from pipeline.engine.vllm.scores import _gather, _PromptTensors, scores_of
from pipeline.job.engine import SimulatedEngineSettings as Settings
from pipeline.job.sampling import Sampling
from pipeline.rows.request import Request, Scores
from tests.support.samples import GEMMA_270M


def simulated(prompt: list[int], score_from: int = 1, top_k: int = 0) -> Scores:
    engine = SimulatedEngine(Settings(), KvLayout(GEMMA_270M, 16, 2048), max_model_len=4096)
    engine.add(Request(1, prompt, Sampling(), score_from=score_from, top_k=top_k))
    [completion] = engine.step()
    assert completion.scores is not None
    return completion.scores


PROMPT = [2, *range(100, 1100)]


class TestSimulated:
    def test_every_token_from_the_asked_one_on_has_a_score(self) -> None:
        assert simulated([2, 5, 6, 7]).token_ids.tolist() == [5, 6, 7]
        assert simulated([2, 5, 6, 7], score_from=3).token_ids.tolist() == [7]

    def test_the_same_prompt_gets_the_same_scores(self) -> None:
        one, other = simulated(PROMPT, top_k=8), simulated(PROMPT, top_k=8)

        assert np.array_equal(one.logprobs, other.logprobs)
        assert np.array_equal(one.top_ids, other.top_ids)

    def test_texts_have_a_plausible_perplexity(self) -> None:
        assert 10 < np.exp(-simulated(PROMPT).logprobs.mean()) < 60

    def test_a_likely_token_stands_among_the_likeliest_with_its_own_probability(self) -> None:
        made = simulated(PROMPT, top_k=16)

        position = int(made.logprobs.argmax())
        [rank] = np.flatnonzero(made.top_ids[position] == made.token_ids[position])
        assert made.top_logprobs[position, rank] == made.logprobs[position]

    def test_the_likeliest_come_in_order_and_hold_less_than_everything(self) -> None:
        made = simulated(PROMPT, top_k=64)

        assert (np.diff(made.top_logprobs) <= 0).all()
        assert (np.exp(made.top_logprobs).sum(1) < 1).all()
        assert all(len(set(ids)) == 64 for ids in made.top_ids.tolist())


@pytest.mark.parametrize("k", [0, 1, 5])
def test_logits_become_the_log_probabilities_of_all_the_vocabulary(k: int) -> None:
    """More positions than are gathered at once, in the type that models run in.

    Processors' fast exponentials differ by up to some 1e-5 of a value of ten; a gather in
    16 bits would be off by 3e-2.
    """
    logits = (torch.randn(70, 300, generator=torch.Generator().manual_seed(0)) * 5).bfloat16()
    tokens = torch.arange(70)

    ids, logprobs, *_ = _gather(logits.clone(), k, tokens)

    exact = logits.double().log_softmax(-1)
    assert ids.dtype == torch.int32
    assert ids[:, 0].tolist() == tokens.tolist()
    torch.testing.assert_close(logprobs.double(), exact.gather(1, ids.long()), atol=1e-4, rtol=0)
    torch.testing.assert_close(logprobs[:, 1:].double(), exact.topk(k).values, atol=1e-4, rtol=0)


def test_entry_i_of_a_prompts_tensors_is_of_token_i_plus_one() -> None:
    ids = np.array([[5, 50], [6, 60], [7, 70]], np.int32)  # of the prompt 2 5 6 7
    tensors = _PromptTensors(ids, -ids.astype(np.float32))

    made = scores_of(tensors, 2)

    assert made.token_ids.tolist() == [6, 7]
    assert made.logprobs.tolist() == [-6, -7]
    assert made.top_ids.tolist() == [[60], [70]]
    assert made.top_logprobs.tolist() == [[-60], [-70]]
