"""A store of models in which Gemma's tokenizer knows a tenth of its words, under their own ids.

Every process of a run reads a tokenizer, which for Gemma's 262,144 tokens takes a second and more:
a third of what a run of a simulated engine takes. What is asked of such a run does not depend on
which words are one token.
"""

from __future__ import annotations

import json
from pathlib import Path

from pipeline.model.folder import ModelFolder

_MERGES = 30_000  # the first: of frequent words and their parts


def write_store(home: Path, model: ModelFolder) -> None:
    """``home``, a folder for ``RACKMILL_HOME``: as the store that has ``model``, whose tokenizer is
    a smaller one; all else is the same files."""
    real = model.path.parent
    (home / "models").mkdir(parents=True)
    for path in (*real.parent.iterdir(), *real.iterdir()):
        if path not in (real, model.path):
            (home / path.relative_to(real.parent)).symlink_to(path)
    folder = home / "models" / model.path.name
    folder.mkdir()
    for path in model.path.iterdir():
        if path.name != "tokenizer.json":
            (folder / path.name).symlink_to(path)
    content = json.loads((model.path / "tokenizer.json").read_text(encoding="utf-8"))
    _shorten(content["model"], {token["content"] for token in content["added_tokens"]})
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")


def _shorten(model: dict[str, object], added: set[str]) -> None:
    """The vocabulary and the merges of a BPE ``model``, in place. Characters that are left without
    a token are bytes."""
    vocabulary, merges = model["vocab"], model["merges"]
    assert isinstance(vocabulary, dict)
    assert isinstance(merges, list)
    kept = merges[:_MERGES]
    known = added | {"".join(pair) for pair in kept} | {part for pair in kept for part in pair}
    model["merges"] = kept
    model["vocab"] = {
        token: number
        for token, number in vocabulary.items()
        if token in known or len(token) == 1 or token.startswith("<0x")
    }
