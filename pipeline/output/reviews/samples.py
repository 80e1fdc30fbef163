"""The samples that were drawn, stored beside their output.

    OUTPUT/_rackmill/reviews/sample-QUESTION-1.json, -2.json, …    the highest counts

A larger sample, or one after the output has changed, is a new file. Each file appears whole and is
created only once: if two processes draw at the same time, the second takes the first one's sample.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.errors import UsageError
from pipeline.output.commit.records import REVIEWS
from pipeline.output.folder import as_json
from pipeline.output.reviews.draw import draw
from pipeline.output.reviews.question import ReviewQuestion
from pipeline.output.reviews.sample import DrawnRow, ReviewSample
from pipeline.output.rows.stored_rows import StoredRows
from pipeline.storage.base import Storage

DEFAULT_ROWS = 100


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    question: str
    seed: int
    population: int = Field(ge=1)
    next_priority: float = Field(ge=0)
    input: str
    rows: list[DrawnRow] = Field(min_length=1)


def read_sample(storage: Storage, question: str) -> tuple[ReviewSample, str] | None:
    """The newest sample, and the input that it was drawn from; None before there is one.

    Raises UsageError for a damaged sample, StorageFailed.
    """
    number = _newest(storage, question)
    if not number:
        return None
    path = _path(question, number)
    try:
        found = _Stored.model_validate(json.loads(storage.read(path) or b""))
    except (ValueError, RecursionError) as e:
        why = e.errors()[0]["msg"] if isinstance(e, ValidationError) else e
        raise UsageError(
            f"{storage.address(path)} is damaged: {why}", "remove it: the rows are drawn anew"
        ) from None
    sample = ReviewSample(found.seed, found.rows, found.population, found.next_priority)
    return sample, found.input


def sample_for(
    storage: Storage, stored: StoredRows, question: ReviewQuestion, wanted: int | None
) -> ReviewSample:
    """The sample to continue with. It is made larger if it has fewer than ``wanted`` rows (None: as
    it is, or ``DEFAULT_ROWS``). If the output has other rows now, it is drawn again with the same
    seed: then most rows are the same, and their answers stay.

    Raises UsageError, StorageFailed, CommitFailed.
    """
    number = _newest(storage, question.name) + 1
    before = read_sample(storage, question.name)
    here = stored.input_fingerprint
    if before is not None:
        sample, of = before
        asked = max(len(sample.rows), wanted or 0)
        enough = len(sample.rows) >= min(asked, sample.population)
        if enough and of == here:
            return sample
        seed = sample.seed
    else:
        asked, seed = wanted or DEFAULT_ROWS, secrets.randbits(64)
    drawn = draw(stored, question, asked, seed)
    if storage.create(_path(question.name, number), _encoded(drawn, question, here)):
        return drawn
    return sample_for(storage, stored, question, wanted)


def _encoded(sample: ReviewSample, question: ReviewQuestion, here: str) -> bytes:
    asked = {one.drawn.place: one for one in sample.asked()}
    return as_json(
        {
            "question": question.name,
            "seed": sample.seed,
            "population": sample.population,
            "next_priority": sample.next_priority,
            "input": here,
            "rows": [
                {
                    "shard": row.shard,
                    "row": row.row,
                    "part": row.part,
                    "inclusion_probability": asked[row.place].probability,
                    **asdict(row),
                }
                for row in sample.rows
            ],
        }
    )


def _path(question: str, number: int) -> str:
    return f"{REVIEWS}/sample-{quote(question, safe='')}-{number}.json"


def _newest(storage: Storage, question: str) -> int:
    """The number of the newest sample; 0 if there is none."""
    start = _path(question, 0).removesuffix("0.json")
    names = (path.removeprefix(start) for path in storage.names(REVIEWS) if path.startswith(start))
    numbers = (name.removesuffix(".json") for name in names if name.endswith(".json"))
    return max((int(n) for n in numbers if n.isascii() and n.isdecimal()), default=0)
