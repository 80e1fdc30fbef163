"""The seed of one row: what ``sampling.seed`` and the row's place in the input make of it. Pure."""

from __future__ import annotations

import hashlib

Place = tuple[str, int]  # a file's ``Shard.name``, and the row's number in it


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
