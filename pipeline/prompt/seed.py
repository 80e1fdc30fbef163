"""The seed of one row, computed from ``sampling.seed`` and the row's place in the input. Pure."""

from __future__ import annotations

import hashlib

Place = tuple[str, int]  # a file's ``Shard.name``, and the row's number in it


def row_seed(seed: int, place: Place) -> int:
    """The first 63 bits of BLAKE2b over ``seed``, the row's number and its file's name.

    Cards, order, restarts and other rows have no effect, so a row is drawn alike wherever and
    whenever it is computed, and no two rows are correlated. 63 bits: vLLM reads -1 as no seed. A
    CPU's generator uses 32 of them: among a million rows, a hundred pairs share theirs.
    """
    name, row = place
    text = f"{seed}\n{row}\n{name}".encode(errors="surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest()) >> 1


def answer_seed(seed: int, number: int) -> int:
    """The seed of a row's answer ``number`` (from 0); ``seed`` is the row's. The first answer has
    the row's own seed, so asking for more answers does not change existing ones."""
    if number == 0:
        return seed
    text = f"{seed}\n{number}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest()) >> 1
