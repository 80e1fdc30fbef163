"""An engine without a model: it keeps a KV budget and time, and answers from a hash.

For rehearsing a job (`--set engine.kind=simulated`) and for tests of everything but vLLM. Its
answers have the asked shape and depend on the prompt alone, so runs repeat exactly; at a
temperature above 0 on the seed, too, and without one on nothing.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pipeline.admission.demand import block_keys
from pipeline.budget.kv_layout import KvLayout
from pipeline.engine.protocol import EngineFacts, EngineStats
from pipeline.engine.simulated.regex_sample import sample_match
from pipeline.engine.simulated.rehearsal import Rehearsal, RehearsedFault
from pipeline.engine.simulated.schema_sample import NoSample, sampler_of
from pipeline.errors import RowError, RowErrorType
from pipeline.job.engine import SimulatedEngineSettings as Settings
from pipeline.job.sampling import Sampling
from pipeline.rows.request import Completion, Request, Scores
from pipeline.simulate.vllm_model.kv_cache import Sequence
from pipeline.simulate.vllm_model.scheduler import EngineModel

_ENDLESS = 1 << 40  # tokens
_ZIPF, _LOG_ZETA = 1.5, math.log(2.6123753)  # zeta(1.5): texts come to a perplexity near 25
_COMMON = "a the of to and in is it that was for on as with his they at be this from have or"
_WORDS = tuple(_COMMON.split())


@dataclass(slots=True)
class _RunningRequest:
    request: Request
    output_tokens: int
    draw: str
    fault: RehearsedFault | None = None


class SimulatedEngine:
    """Time passes and blocks are held as in vLLM (see ``EngineModel``), nothing is computed."""

    def __init__(
        self,
        settings: Settings,
        layout: KvLayout,
        *,
        max_model_len: int,
        max_num_seqs: int = 256,
        decode: Callable[[list[int]], str] | None = None,
    ) -> None:
        """``decode``: token ids to text, for faults that depend on it."""
        time.sleep(settings.load_seconds)
        self._rehearsal = Rehearsal(settings.faults, decode)
        self._rehearsal.load(max_num_seqs)
        self._settings = settings
        self._layout = layout
        self._requests: dict[int, _RunningRequest] = {}
        self._new_model = partial(
            EngineModel,
            layout,
            settings.num_blocks,
            max_num_seqs=max_num_seqs,
            max_num_batched_tokens=layout.chunk,
            max_model_len=max_model_len,
        )
        self._model = self._new_model()
        self.stats = EngineStats()
        self.facts = EngineFacts(
            kind="simulated",
            version="1",
            device="none",
            max_model_len=max_model_len,
            max_num_seqs=max_num_seqs,
            max_num_batched_tokens=layout.chunk,
            block_size=layout.block_size,
            num_blocks=settings.num_blocks,
            kv_bytes=settings.num_blocks * layout.block_bytes,
        )

    def add(self, request: Request) -> None:
        prompt = len(request.prompt_ids)
        draw = _draw(request.sampling)
        wanted = max(
            min(request.max_new_tokens, self._output_tokens(request, draw)),
            request.sampling.min_tokens,
            1,
        )
        if prompt >= self.facts.max_model_len:
            message = f"prompt has {prompt} tokens, context {self.facts.max_model_len}"
            raise RowError(RowErrorType.PROMPT_TOO_LONG, message)
        needed = self._model.peak(prompt + wanted)
        if needed > self._settings.num_blocks:
            message = f"needs {needed} KV blocks, there are {self._settings.num_blocks}"
            raise RowError(RowErrorType.PROMPT_TOO_LONG, message)
        fault = self._rehearsal.fault_of(request.prompt_ids)
        if fault is RehearsedFault.ENDLESS:
            wanted = _ENDLESS
        self._requests[request.id] = _RunningRequest(request, wanted, draw, fault)
        keys = block_keys(request.prompt_ids, self._layout.block_size)
        reads = request.score_from is None
        self._model.add(Sequence(request.id, prompt, keys, reads))

    def _output_tokens(self, request: Request, draw: str) -> int:
        if request.logprob_ids or request.score_from is not None:
            return 1
        if request.structure or request.sampling.ignore_eos:
            return request.max_new_tokens
        middle = self._settings.output_tokens
        return 1 + _hash(request.prompt_ids, f"length{draw}") % (2 * middle - 1)

    def step(self) -> list[Completion]:
        if self._settings.step_seconds:
            time.sleep(self._settings.step_seconds)
        done = self._model.step()
        self._rehearsal.step(len(self._model.running))
        if self._rehearsal.expects_faults:
            for sequence, _ in done.scheduled:
                self._rehearsal.strike(self._requests[sequence.id].fault)
        ended: list[Completion] = []
        for sequence in done.sampled:
            one = self._requests[sequence.id]
            if sequence.generated >= one.output_tokens:
                self._model.finish(sequence.id)
                del self._requests[sequence.id]
                ended.append(_complete(one, self._layout.geometry.vocabulary))
        stats, model = self.stats, self._model
        stats.steps += 1
        stats.sampled = [sequence.id for sequence in done.sampled]
        stats.running, stats.waiting = len(model.running), len(model.waiting)
        stats.kv_use = model.used / model.pool
        stats.preemptions = model.preemptions
        stats.recomputed_tokens = model.recomputed_tokens
        return ended

    def abort(self, request_ids: Iterable[int]) -> None:
        for request_id in request_ids:
            if self._requests.pop(request_id, None) is not None:
                self._model.abort(request_id)

    def reset(self) -> None:
        self._requests.clear()
        self._model = self._new_model()
        self.stats.clear()

    def close(self) -> None:
        self._requests.clear()


def _draw(sampling: Sampling) -> str:
    """What an answer depends on beside its prompt."""
    if sampling.temperature == 0:
        return ""
    return f" {secrets.randbits(64) if sampling.seed is None else sampling.seed}"


def _complete(one: _RunningRequest, vocabulary: int) -> Completion:
    request = one.request
    if one.fault is RehearsedFault.REFUSE:
        message = "the simulated engine ended the request by itself, as it was asked to"
        error = RowError(RowErrorType.ENGINE_FAILURE, message, attempts=1)
        return Completion(request.id, error=error)
    if request.score_from is not None:
        scored = _scores(request, request.score_from, vocabulary)
        return Completion(request.id, "", 1, "length", scores=scored)
    if request.logprob_ids:
        scores = {
            t: -(1 + _hash(request.prompt_ids, str(t)) % 1000) / 200 for t in request.logprob_ids
        }
        return Completion(request.id, "", 1, "length", scores)
    dice = random.Random(_hash(request.prompt_ids, f"text{one.draw}"))
    reason = "stop"
    if request.structure and request.structure.json_schema:
        try:
            value = sampler_of(request.structure.json_schema, _WORDS).sample(dice)
        except NoSample as e:
            message = f"the simulated engine finds no answer that the schema allows ({e})"
            failed = RowError(RowErrorType.SCHEMA_NOT_MET, message, attempts=1)
            return Completion(request.id, error=failed)
        text = json.dumps(value)
    elif request.structure and request.structure.regex:
        text = sample_match(request.structure.regex, dice)
    else:
        text = "".join(f" {dice.choice(_WORDS)}" for _ in range(one.output_tokens))
        reason = "length" if one.output_tokens >= request.max_new_tokens else "stop"
    return Completion(request.id, text, one.output_tokens, reason)


def _scores(request: Request, start: int, vocabulary: int) -> Scores:
    """Every token at a rank drawn from Zipf's law: rank r has the probability r^-s / zeta(s).

    The likeliest tokens are those around it, in the order of their ids.
    """
    ids = np.array(request.prompt_ids[start:], np.int32)
    dice = np.random.default_rng(_hash(request.prompt_ids, "scores"))
    ranks = np.minimum(dice.zipf(_ZIPF, len(ids)), vocabulary)
    top = np.arange(1, min(request.top_k, vocabulary) + 1)
    top_ids = (ids[:, None] + (top[None, :] - ranks[:, None])) % vocabulary
    return Scores(
        token_ids=ids,
        logprobs=_zipf_logprobs(ranks),
        top_ids=top_ids.astype(np.int32),
        top_logprobs=np.broadcast_to(_zipf_logprobs(top), top_ids.shape),
    )


def _zipf_logprobs(ranks: NDArray[np.int64]) -> NDArray[np.float32]:
    return (-_ZIPF * np.log(ranks) - _LOG_ZETA).astype(np.float32)


def _hash(ids: Iterable[int], salt: str) -> int:
    digest = hashlib.blake2b(repr(list(ids)).encode(), digest_size=8, key=salt.encode()[:64])
    return int.from_bytes(digest.digest())
