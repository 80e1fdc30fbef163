"""Tokens that steer a model (`<bos>`, `<start_of_turn>`), and where a text may contain them.

A prompt has two sources: the job's author and the model's template write one part, rows the other.
In the author's part the name of a control token is that token; in a row it is ordinary text,
otherwise a row could end its turn and speak for the model. So the author's part is marked before
rows are inserted: the mark (``marks``) is put before each name that means a token.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from pipeline.job.template.marked_text import MARK

Parts = list[str | int]  # pieces of text, and the ids of the control tokens between them

# Control tokens that some files of Gemma's tokenizer list with text tokens (HTML tags, runs of
# spaces).
_ALSO = re.compile(r"<(start|end)_of_\w+>|<image_soft_token>|<mask>|<unused\d+>|\[multimodal\]")


def is_control(token: str, *, special: bool) -> bool:
    """Whether an added token of a vocabulary steers the model. ``special``: its file says so."""
    return special or _ALSO.fullmatch(token) is not None


class ControlTokens:
    """The control tokens of one vocabulary."""

    def __init__(self, ids: Mapping[str, int], bos: str) -> None:
        """``bos``: put before every prompt automatically; left out where the text has it."""
        self._ids = ids
        self._bos = ids.get(bos)
        # thousands of names differ only by a number: one pattern covers all of them
        kinds = {re.sub(r"\d+", r"\\d+", re.escape(token)) for token in ids}
        names = "|".join(sorted(kinds, key=lambda kind: (-len(kind), kind))) or r"(?!)"
        self._unmarked_name = re.compile(f"(?<!{MARK})(?:{names})")
        self._marked_name = re.compile(f"{MARK}({names})?")

    def mark(self, text: str) -> str:
        """``text`` with each name of a control token marked; some may be marked already."""
        return self._unmarked_name.sub(
            lambda found: (MARK if found[0] in self._ids else "") + found[0], text
        )

    def first_in(self, text: str) -> str | None:
        """The first name of a control token in a text without marks."""
        names = (found[0] for found in self._unmarked_name.finditer(text))
        return next((name for name in names if name in self._ids), None)

    def parts(self, marked: str) -> Parts:
        """A marked text, split. What is not marked is text, whatever it contains."""
        parts: Parts = []
        written, position = "", 0
        for found in self._marked_name.finditer(marked):
            written += marked[position : found.start()]
            position = found.end()
            token = self._ids.get(found[1] or "")
            if token is None:  # a template cut the name off
                written += found[1] or ""
            elif token != self._bos:
                parts += [written, token] if written else [token]
                written = ""
        written += marked[position:]
        return [*parts, written] if written else parts
