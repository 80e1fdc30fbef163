"""Text and messages to token ids: the checkpoint's own ``tokenizer.json``, without transformers
(whose import alone takes longer than planning a job should)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer as FastTokenizer

from pipeline.errors import RowError, RowErrorType, UsageError


class Tokenizer:
    """Token ids with ``<bos>`` exactly once; chat messages through the model's own template."""

    def __init__(self, folder: Path) -> None:
        try:
            self._fast = FastTokenizer.from_file(str(folder / "tokenizer.json"))
            path = folder / "tokenizer_config.json"
            config = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        except Exception as e:  # the Rust library raises bare Exception
            raise UsageError(f"model: the tokenizer in {folder} cannot be read: {e}") from None
        self.bos = _special(config.get("bos_token"))
        self._specials = {
            "bos_token": self.bos,
            "eos_token": _special(config.get("eos_token")),
        }
        bos_id = self._fast.token_to_id(self.bos) if self.bos else None
        self._head = [] if bos_id is None else [bos_id]
        template = chat_template(folder)
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
        )
        environment.globals["raise_exception"] = _raise
        try:
            self._chat = environment.from_string(template) if template else None
        except TemplateError as e:
            raise UsageError(f"model: the chat template in {folder} is broken: {e}") from None

    @property
    def has_chat_template(self) -> bool:
        return self._chat is not None

    def chat_text(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """The prompt text for ``messages``, up to where the answer begins.

        Raises RowError (InvalidRow) when the template refuses them (roles out of turn, say).
        """
        if self._chat is None:
            raise RowError(RowErrorType.INVALID_ROW, "the model has no chat template")
        try:
            return self._chat.render(
                messages=list(messages), add_generation_prompt=True, **self._specials
            )
        except (TemplateError, TypeError, ValueError) as e:
            raise RowError(RowErrorType.INVALID_ROW, f"chat template: {e}") from None

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, ``<bos>`` in front exactly once (templates may write it)."""
        bare = [text.removeprefix(self.bos) for text in texts] if self.bos else list(texts)
        encoded = self._fast.encode_batch_fast(bare, add_special_tokens=False)
        return [self._head + e.ids for e in encoded]

    @property
    def ids(self) -> dict[str, int]:
        """Every token's id."""
        return dict(self._fast.get_vocab())

    @property
    def vocabulary(self) -> int:
        """How many token ids there are."""
        return int(self._fast.get_vocab_size())

    def encode_plain(self, text: str) -> list[int]:
        """Token ids of a piece of text, nothing put before it."""
        ids: list[int] = self._fast.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        text: str = self._fast.decode(list(ids))
        return text


def chat_template(folder: Path) -> str | None:
    """The chat template of a checkpoint; None for a base model."""
    path = folder / "chat_template.jinja"
    if path.exists():
        return path.read_text(encoding="utf-8")
    config = folder / "tokenizer_config.json"
    if not config.exists():
        return None
    found = json.loads(config.read_text(encoding="utf-8")).get("chat_template")
    if isinstance(found, list):  # several named ones
        found = next((t["template"] for t in found if t.get("name") == "default"), None)
    return None if found is None else str(found)


def _special(token: Any) -> str:
    return str(token["content"]) if isinstance(token, dict) else str(token or "")


def _raise(message: str) -> str:
    raise TemplateError(message)
