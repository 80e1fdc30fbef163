"""The seed of one row: what ``sampling.seed`` and the row's place in the input make of it. Pure."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence

from pipeline.input.schema.partitions import fixed_part

Place = tuple[str, int]  # the name of a file among the input's, and the row's number in it


def row_seed(seed: int, place: Place) -> int:
    """The first 63 bits of BLAKE2b over ``seed``, the row's number and its file's name.

    Neither cards, order and restarts, nor other rows count, so a row is drawn alike wherever and
    whenever it is computed, and no two rows are tied to each other. 63 bits: vLLM takes -1 for
    no seed. A CPU's generator uses 32 of them: of a million rows a hundred pairs share theirs.
    """
    name, row = place
    text = f"{seed}\n{row}\n{name}".encode(errors="surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest()) >> 1


def answer_seed(seed: int, number: int) -> int:
    """The seed of a row's answer ``number`` (from 0), where the row's is ``seed``. The first answer
    has the row's own, so that more answers leave those alone that there are."""
    if number == 0:
        return seed
    text = f"{seed}\n{number}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest()) >> 1


def name_of_file(path: str, patterns: Sequence[str]) -> str:
    """A file's name for its rows' seeds: which of ``input.path``'s entries (from 0) finds it, and
    its path below what that entry names without wildcards. So it stays when all data moves."""
    path = _plain(path)
    for number, pattern in enumerate(patterns):
        fixed = "/".join(fixed_part(_plain(pattern)))
        if path == fixed:
            return f"{number}/{path.rpartition('/')[2]}"
        if path.startswith(f"{fixed}/"):
            return f"{number}/{path.removeprefix(f'{fixed}/')}"
    return path


def _plain(path: str) -> str:
    path = path.removeprefix("file://")
    return path if "://" in path else os.path.abspath(path)  # links are not followed
