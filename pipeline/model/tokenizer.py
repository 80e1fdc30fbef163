"""Text and messages to token ids, with the checkpoint's own ``tokenizer.json`` and without
transformers (importing it takes longer than planning a job should)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from jinja2.ext import loopcontrols
from tokenizers import AddedToken
from tokenizers import Tokenizer as FastTokenizer

from pipeline.errors import RowError, RowErrorType, UsageError
from pipeline.job.template.marked_text import restored, unmarked
from pipeline.job.template.sandbox import BoundedEnvironment, bounded
from pipeline.model.control_tokens import ControlTokens, Parts, is_control
from pipeline.model.json_file import read_json, read_text

_MOST_BYTES = 512 << 20  # Gemma's has 33 MB
_MOST_CHARACTERS = 2_000_000  # tokenized at once, in all threads together


class Tokenizer:
    """Token ids with ``<bos>`` exactly once; chat messages through the model's own template.

    The name of a control token is one only where it is marked (see ``model.control_tokens``).
    """

    def __init__(self, folder: Path) -> None:
        self._fast, control = _load(folder)
        path = folder / "tokenizer_config.json"
        config = read_json(path) if path.exists() else {}
        self.bos = _special(config.get("bos_token"))
        bos_id = self._fast.token_to_id(self.bos) if self.bos else None
        if bos_id is not None:
            control = {**control, self.bos: bos_id}
        self._control = ControlTokens(control, self.bos)
        self._specials = {
            "bos_token": self.mark(self.bos),
            "eos_token": self.mark(_special(config.get("eos_token"))),
        }
        self.head = [] if bos_id is None else [bos_id]  # what every prompt begins with
        template = chat_template(folder)
        self._chat = self._compiled(template, f"in {folder}") if template else None

    def _compiled(self, template: str, where: str) -> Callable[..., str]:
        environment = BoundedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols], mark=self.mark
        )
        environment.globals["raise_exception"] = _raise
        try:
            return bounded(environment.from_string(template).render)
        except Exception as e:  # Python compiles it in the end, and may raise anything
            raise UsageError(f"model: the chat template {where} is broken: {e}") from None

    def with_chat_template(self, template: str) -> Tokenizer:
        """The same with another template for messages. Raises UsageError for a broken one."""
        other = copy(self)
        other._chat = self._compiled(template, "that the job names")
        return other

    @property
    def has_chat_template(self) -> bool:
        return self._chat is not None

    def chat_text(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """The prompt text for ``messages``, up to the start of the answer. Raises RowError."""
        return unmarked(self.marked_chat(messages))

    def marked_chat(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """As ``chat_text``, with marks on the control tokens that the template writes.

        Raises RowError (InvalidRow) when the template refuses them (e.g. roles out of order).
        """
        if self._chat is None:
            raise RowError(RowErrorType.INVALID_ROW, "the model has no chat template")
        try:
            return self._chat(messages=list(messages), add_generation_prompt=True, **self._specials)
        except Exception as e:  # an expression in the template may raise anything on this row
            raise RowError(
                RowErrorType.INVALID_ROW, unmarked(f"chat template: {restored(str(e))}")
            ) from None

    def mark(self, text: str) -> str:
        """``text`` with its control tokens marked; only for text from a trusted author."""
        return self._control.mark(text)

    def control_token_in(self, text: str) -> str | None:
        """The first name of a control token in ``text``, where it is plain text."""
        return self._control.first_in(text)

    def parts(self, marked: str) -> Parts:
        """A marked text, split into pieces of text and the ids of its control tokens."""
        return self._control.parts(marked)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, with ``<bos>`` in front exactly once, written or not. All control
        tokens in the texts count, so they must come from a trusted author."""
        return self.encode_parts([self.parts(self.mark(text)) for text in texts])

    def encode_parts(self, batch: Sequence[Parts]) -> list[list[int]]:
        """As ``encode_batch``, for texts that ``parts`` has split."""
        return [[*self.head, *ids] for ids in self._encoded(batch)]

    def _encoded(self, batch: Sequence[Parts]) -> Iterator[list[int]]:
        """As if each were tokenized in one piece: nothing merges across a control token."""
        # text between a chat's control tokens is the same in most rows
        texts = dict.fromkeys(part for parts in batch for part in parts if isinstance(part, str))
        known: dict[str, list[int]] = {}
        for some in _portions(list(texts)):
            encoded = self._fast.encode_batch_fast(some, add_special_tokens=False)
            known |= {text: one.ids for text, one in zip(some, encoded, strict=True)}
        for parts in batch:
            ids: list[int] = []
            for part in parts:
                ids += known[part] if isinstance(part, str) else [part]
            yield ids

    @property
    def ids(self) -> dict[str, int]:
        """Every token's id."""
        return dict(self._fast.get_vocab())

    @property
    def vocabulary(self) -> int:
        """How many token ids there are."""
        return int(self._fast.get_vocab_size())

    def encode_plain(self, text: str | Parts) -> list[int]:
        """Token ids of a piece of text, with nothing put before it. Control tokens come only from
        ids among its parts: a text alone has none, whatever it contains."""
        [ids] = self._encoded([[text] if isinstance(text, str) else text])
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of an answer, without control tokens."""
        text: str = self._fast.decode(list(ids))
        return text

    def decode_marked(self, ids: Sequence[int]) -> str:
        """The text of a prompt, with the names of control tokens: <start_of_turn>."""
        text: str = self._fast.decode(list(ids), skip_special_tokens=False)
        return text


def _control_ids(fast: FastTokenizer) -> dict[str, int]:
    """The control tokens of ``fast``, which treats them as text from now on."""
    added = fast.get_added_tokens_decoder()
    found = {
        token.content: number
        for number, token in added.items()
        if is_control(token.content, special=token.special)
    }
    fast.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in found])
    fast.encode_special_tokens = True
    return found


def _load(folder: Path) -> tuple[FastTokenizer, dict[str, int]]:
    """The tokenizer of ``tokenizer.json``, without padding or truncation, and its control tokens.
    Raises UsageError."""
    path = folder / "tokenizer.json"
    try:
        if not path.is_file() or path.stat().st_size > _MOST_BYTES:
            raise ValueError("it is not a file, or too large")
        return _parsed(path, path.stat().st_mtime_ns)
    except (
        BaseException
    ) as e:  # the Rust library raises bare Exception; its panics are not even Exceptions
        if isinstance(e, KeyboardInterrupt | SystemExit):
            raise
        raise UsageError(f"model: the tokenizer in {folder} cannot be read: {e}") from None


@lru_cache(maxsize=1)
def _parsed(path: Path, _changed: int) -> tuple[FastTokenizer, dict[str, int]]:
    """Cached, since Gemma's takes a second to parse: all that is set on it is the same for every
    caller."""
    fast = FastTokenizer.from_file(str(path))
    # some files ask to pad or truncate all texts to a length, for training
    fast.no_padding()
    fast.no_truncation()
    return fast, _control_ids(fast)


def chat_template(folder: Path) -> str | None:
    """The chat template of a checkpoint; None for a base model. Raises UsageError."""
    path = folder / "chat_template.jinja"
    if path.is_file():
        return read_text(path)
    config = folder / "tokenizer_config.json"
    if not config.exists():
        return None
    found = read_json(config).get("chat_template")
    if isinstance(found, list):  # several named templates
        named = [t for t in found if isinstance(t, dict) and t.get("name") == "default"]
        found = named[0].get("template") if named else None
    return None if found is None else str(found)


def _portions(texts: Sequence[str]) -> Iterator[list[str]]:
    """The texts in order, in groups that limit the library's memory: it needs a hundred bytes for
    every token."""
    portion: list[str] = []
    size = 0
    for text in texts:
        if portion and size + len(text) > _MOST_CHARACTERS:
            yield portion
            portion, size = [], 0
        portion.append(text)
        size += len(text)
    if portion:
        yield portion


def _special(token: Any) -> str:
    return str(token["content"]) if isinstance(token, dict) else str(token or "")


def _raise(message: str) -> str:
    raise TemplateError(message)
