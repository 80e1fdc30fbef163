"""Scores of given tokens from vLLM's internals, as arrays; used only by ``engine`` beside it.

vLLM turns a prompt's log-probabilities into one Python object for every position and candidate:
with a thousand candidates that costs a hundred times the model's own work. Its tensors are whole
until the very last step, and here they stay so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.rows.request import Scores

_ROWS_AT_ONCE = 32  # positions: their probabilities over the vocabulary fit a CPU's cache


@dataclass(frozen=True, slots=True)
class _PromptTensors:
    """vLLM's tensors of one prompt of n tokens: entry i is of token i + 1. Shapes (n-1, 1+k):
    in column 0 the token itself, then the k likeliest."""

    token_ids: NDArray[np.int32]
    logprobs: NDArray[np.float32]


def prepare(*, cpu: bool) -> None:
    """Make vLLM hand over a scored prompt's tensors as they are; call it before an engine is built.
    ``cpu``: the model runs in this process.

    On a CPU, probabilities are also gathered a few positions at a time, where vLLM makes three
    passes over a whole chunk's, one of them for ranks that no one asked for.
    """
    from vllm.v1.engine.logprobs import LogprobsProcessor

    def keep(self: Any, tensors: Any) -> None:
        token_ids, logprobs, *_ = tensors
        # ids are int32 on a CPU, int64 from the model runner on GPUs
        ids = token_ids.numpy().astype(np.int32, copy=False)
        self.prompt_logprobs = _PromptTensors(ids, logprobs.numpy())

    if not hasattr(LogprobsProcessor, "_update_prompt_logprobs"):
        raise RuntimeError("this vLLM collects prompt log-probabilities in another way")
    LogprobsProcessor._update_prompt_logprobs = keep
    if cpu:
        from vllm.v1.outputs import LogprobsTensors
        from vllm.v1.sample.sampler import Sampler

        Sampler.compute_logprobs = staticmethod(lambda logits: logits)
        Sampler.gather_logprobs = staticmethod(lambda *given: LogprobsTensors(*_gather(*given)))


def _gather(logits: Any, num_logprobs: int, token_ids: Any) -> tuple[Any, Any, Any]:
    """Log-probabilities of ``token_ids`` (n) and of the likeliest ``num_logprobs`` at each
    position, from ``logits`` (n, vocabulary): a few positions at a time, in float32.

    Returns ids (n, 1 + num_logprobs), the token itself first; their log-probabilities; and in
    place of the tokens' ranks, zeros (n).
    """
    import torch

    count = len(token_ids)
    ids = torch.empty(count, num_logprobs + 1, dtype=torch.int32)
    logprobs = torch.empty(count, num_logprobs + 1, dtype=torch.float32)
    for start in range(0, count, _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        rows = logits[part].float()
        own = token_ids[part].unsqueeze(-1)
        top = rows.topk(num_logprobs) if num_logprobs else None
        ids[part, :1], logprobs[part, :1] = own.int(), rows.gather(-1, own)
        if top is not None:
            ids[part, 1:], logprobs[part, 1:] = top.indices.int(), top.values
        highest = rows.amax(-1, keepdim=True)
        total = rows.sub_(highest).exp_().sum(-1, keepdim=True, dtype=torch.float64).log_()
        logprobs[part] -= (highest + total).float()
    return ids, logprobs, torch.zeros(count, dtype=torch.int64)


def scores_of(tensors: _PromptTensors, score_from: int) -> Scores:
    """The scores of a prompt's tokens from position ``score_from`` on, copied out."""
    token_ids = tensors.token_ids[score_from - 1 :].copy()
    logprobs = tensors.logprobs[score_from - 1 :].copy()
    return Scores(token_ids[:, 0], logprobs[:, 0], token_ids[:, 1:], logprobs[:, 1:])
