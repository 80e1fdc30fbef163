"""Whether an engine works at all, before a row is blamed for breaking it."""

from __future__ import annotations

from pipeline.engine.failure.oom_errors import as_failure
from pipeline.engine.protocol import Engine
from pipeline.errors import EngineFailed
from pipeline.job.sampling import Sampling
from pipeline.model.tokenizer import Tokenizer
from pipeline.rows.request import Request

_PROMPT = "One, two,"
_ID = 1 << 62  # no row's request has this id
_MOST_STEPS = 1000


def check_warm_engine(engine: Engine, tokenizer: Tokenizer) -> None:
    """Let the engine write one token. Raises EngineFailed if it cannot: then the engine or its card
    is to blame, and no row."""
    [ids] = tokenizer.encode_batch([_PROMPT])
    try:
        engine.add(Request(_ID, ids, Sampling(temperature=0.0, max_tokens=1)))
        for _ in range(_MOST_STEPS):
            if engine.step():
                return
    except Exception as e:
        raise as_failure(e, "the engine fails before any row") from e
    raise EngineFailed(f"the engine wrote nothing in {_MOST_STEPS} steps, before any row")
