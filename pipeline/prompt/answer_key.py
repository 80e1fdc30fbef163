"""A key of 16 bytes over everything that decides an answer: equal keys, equal answers.

A key is a BLAKE2b hash over the model's hash, the engine's kind, the shape of the answer, the
sampling parameters as far as they change the answer, and the exact token ids. The engine's setup
(batch limits, KV cache, cards) is not part of it, nor is it part of a job's fingerprint.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from functools import lru_cache
from typing import Any

from pipeline.job.fingerprint import digest
from pipeline.job.job import Job
from pipeline.job.sampling import Sampling
from pipeline.prompt.join import Prompt

KEY_BYTES = 16
_ONLY_WHEN_SAMPLED = {"seed", "top_p", "top_k", "min_p"}
_REMEMBERED = 1024  # canonical forms: rows may have their own sampling parameters


class AnswerKeys:
    """Makes the keys of one job's rows."""

    def __init__(self, job: Job, model_hash: str) -> None:
        label, engine = job.label, job.engine
        self._several = job.answers > 1 or (label is not None and label.votes is not None)
        self._choices = bool(job.asked)
        schema = label.json_schema if label else None
        # 64 hex digits over everything that the job's keys have in common
        self.family = digest(
            {
                "format": 3 if self._choices else 2,  # 3: with the probability of each choice
                "model": model_hash,
                "engine": engine.kind,
                "settings": engine.deciding,
                "chat": job.messages is not None,
                "choices": label.choices if label else None,
                "json_schema": json.dumps(schema) if schema else None,  # the order matters
                "regex": label.regex if label else None,
                "score_top_k": job.score.top_k or 0 if job.score else None,
                **({"questions": [one.choices for one in job.asked]} if job.questions else {}),
            }
        )
        self._start = hashlib.blake2b(bytes.fromhex(self.family), digest_size=KEY_BYTES)

    def key(self, prompt: Prompt, room: int) -> bytes | None:
        """The key of the answer to ``prompt``; None if the answer is drawn for this row alone.

        ``room``: tokens of the context that are left for the answer.
        """
        form = None if prompt.own_seed or self._several else self._form(prompt, room)
        if form is None:
            return None
        key = self._start.copy()
        key.update(form)
        for one in prompt.asked or (prompt,):
            if self._choices:  # their tokens depend on the text that they join
                tail = one.tail.encode(errors="surrogatepass")
                key.update(len(tail).to_bytes(4, "little") + tail)
            if prompt.asked:
                key.update(len(one.ids).to_bytes(4, "little"))
            key.update(array("I", one.ids).tobytes())
        return key.digest()

    def _form(self, prompt: Prompt, room: int) -> bytes | None:
        if prompt.score_from is not None:
            return b"score %d;" % prompt.score_from
        if self._choices:
            return _choice_form(prompt.sampling)
        return _text_form(prompt.sampling, min(prompt.sampling.max_tokens, room))


@lru_cache(_REMEMBERED)
def _text_form(sampling: Sampling, max_tokens: int) -> bytes | None:
    """The parameters that change a text: at temperature 0, seed, top_p, top_k and min_p do not."""
    if sampling.temperature > 0 and sampling.seed is None:
        return None
    parts: dict[str, Any] = sampling.model_dump(exclude_defaults=True)
    if sampling.temperature == 0:
        parts = {k: v for k, v in parts.items() if k not in _ONLY_WHEN_SAMPLED}
    if isinstance(sampling.stop, str):
        parts["stop"] = (sampling.stop,)
    return _encoded(parts | {"max_tokens": max_tokens})


@lru_cache(_REMEMBERED)
def _choice_form(sampling: Sampling) -> bytes | None:
    """A choice is drawn by seed and prompt only (see ``answers``)."""
    if sampling.temperature == 0:
        return _encoded({})
    if sampling.seed is None:
        return None
    return _encoded({"temperature": sampling.temperature, "seed": sampling.seed})


def _encoded(parts: dict[str, Any]) -> bytes:
    return json.dumps(parts, sort_keys=True).encode() + b";"
