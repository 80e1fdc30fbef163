"""Writes the tokenizer of a GGUF file as ``tokenizer.json`` and ``tokenizer_config.json``.

The file has the vocabulary of a SentencePiece BPE model: pieces with scores and types. Its rules,
and how Hugging Face's BPE expresses them:

- Two neighbours merge if together they are a piece; the piece with the highest score goes first.
  So every split of a piece into two pieces is a merge, ranked by the score of the piece.
- User-defined pieces (runs of spaces and newlines, HTML tags) are found before anything else, the
  longest first, and merge with nothing. They become added tokens, except runs of spaces, which the
  normalizer has already turned into "▁": these merge only from their parts, longest left part
  first, with the same result.
- Control pieces (``<bos>``, ``<start_of_turn>``) are special tokens, byte pieces only a fallback:
  no merge produces either of them.
- Texts get no space in front (``add_space_prefix`` is false in Gemma), but ``<bos>``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import UsageError
from pipeline.model.convert.gguf_file import GgufFile

# SentencePiece's types of pieces, with the numbers of gguf
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = range(1, 7)
_SPACE = "▁"
_LONGEST_PIECE = 1024  # characters; Gemma's longest has 48


def write_tokenizer(gguf: GgufFile, folder: Path) -> None:
    """Write into ``folder`` the tokenizer that ``gguf`` describes. Raises UsageError."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors

    fields = gguf.header.fields
    pieces, types, scores = _vocabulary(gguf)
    # llama.cpp's converter writes user-defined runs of "▁" as spaces
    pieces = [
        p.replace(" ", _SPACE) if t == _USER_DEFINED else p
        for p, t in zip(pieces, types, strict=True)
    ]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    special = {
        key: pieces[int(fields[f"tokenizer.ggml.{name}_token_id"])]
        for key, name in (("bos", "bos"), ("eos", "eos"), ("pad", "padding"), ("unk", "unknown"))
        if _is_id(fields.get(f"tokenizer.ggml.{name}_token_id"), pieces)
    }
    tokenizer = Tokenizer(
        models.BPE(
            vocab=vocabulary,
            merges=merges(pieces, types, scores),
            unk_token=special.get("unk"),
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    tokenizer.normalizer = normalizers.Replace(" ", _SPACE)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    typed = list(zip(pieces, types, strict=True))
    control = [p for p, kind in typed if kind in (_CONTROL, _UNKNOWN)]
    plain = [p for p, kind in typed if kind == _USER_DEFINED and not _is_spaces(p)]
    tokenizer.add_special_tokens([AddedToken(p, special=True, normalized=False) for p in control])
    tokenizer.add_tokens([AddedToken(p, special=False, normalized=False) for p in plain])
    bos = special["bos"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A",
        pair=f"{bos} $A {bos}:1 $B:1",
        special_tokens=[(bos, vocabulary[bos])],
    )
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    _write_config(gguf, folder, special)


def _write_config(gguf: GgufFile, folder: Path, special: dict[str, str]) -> None:
    config: dict[str, Any] = {f"{key}_token": piece for key, piece in special.items()}
    config |= {
        "add_bos_token": True,
        "add_eos_token": False,
        "backend": "tokenizers",
        "clean_up_tokenization_spaces": False,
        "model_max_length": gguf.config()["max_position_embeddings"],
        "tokenizer_class": gguf.family.tokenizer_class,
    }
    if gguf.chat_template:
        (folder / "chat_template.jinja").write_text(gguf.chat_template, encoding="utf-8")
    text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")


def _vocabulary(gguf: GgufFile) -> tuple[list[str], list[int], list[float]]:
    fields = gguf.header.fields
    kind = fields.get("tokenizer.ggml.model")
    pieces = fields.get("tokenizer.ggml.tokens")
    texts = isinstance(pieces, list) and all(isinstance(p, str) for p in pieces)
    if kind != "llama" or not texts or not pieces:
        raise UsageError(
            f"{gguf.path}: its tokenizer is {kind or 'missing'}, not Gemma's SentencePiece model",
            "take a GGUF file made by llama.cpp's own converter",
        )
    longest = max(map(len, pieces))
    if longest > _LONGEST_PIECE:
        raise UsageError(
            f"{gguf.path}: a token of {longest} characters is none", "download it again"
        )
    types = _numbers(gguf, "token_type")
    scores = _numbers(gguf, "scores")
    rows = gguf.config()["vocab_size"]
    if len(types) != len(pieces) or len(scores) != len(pieces) or len(pieces) > rows:
        raise UsageError(
            f"{gguf.path}: {len(pieces)} tokens, {len(types)} types, {len(scores)} scores and "
            f"{rows} embeddings do not fit together",
            "download it again",
        )
    bos = fields.get("tokenizer.ggml.bos_token_id")
    if len(set(pieces)) < len(pieces) or not _is_id(bos, pieces):
        raise UsageError(f"{gguf.path}: tokens that appear twice, or no <bos>", "download it again")
    return list(pieces), [int(t) for t in types], [float(s) for s in scores]


def _numbers(gguf: GgufFile, name: str) -> list[Any]:
    """A list of numbers from the metadata; empty for anything else."""
    found = gguf.header.fields.get(f"tokenizer.ggml.{name}")
    return list(found) if isinstance(found, np.ndarray) else []


def _is_id(number: Any, pieces: Sequence[str]) -> bool:
    return isinstance(number, int) and 0 <= number < len(pieces)


def merges(
    pieces: Sequence[str], types: Sequence[int], scores: Sequence[float]
) -> list[tuple[str, str]]:
    """Every split of a piece into two, the highest score first; for equal scores, the longest left
    part first (the order of transformers' converter)."""
    normal = {p: n for n, (p, t) in enumerate(zip(pieces, types, strict=True)) if t == _NORMAL}
    spaces = {
        p: n
        for n, (p, t) in enumerate(zip(pieces, types, strict=True))
        if p == _SPACE or (t == _USER_DEFINED and _is_spaces(p))
    }
    found: list[tuple[float, int, int, int, str, str]] = []
    for known, whole in ((normal, normal), (spaces, spaces)):
        for piece, number in whole.items():
            for cut in range(1, len(piece)):
                left, right = piece[:cut], piece[cut:]
                if left in known and right in known:
                    found.append((-scores[number], -cut, cut - len(piece), number, left, right))
    # SentencePiece finds user-defined pieces before it merges anything
    first = {n for p, n in spaces.items() if p != _SPACE}
    found.sort(key=lambda m: (m[3] not in first, *m[:4]))
    return [(left, right) for *_, left, right in found]


def _is_spaces(piece: str) -> bool:
    return not piece.strip(_SPACE)
