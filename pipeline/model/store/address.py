"""How models on a hub are named: ``hf://OWNER/NAME[@REVISION][:FILE]``."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from pipeline.errors import UsageError

SCHEME = "hf://"
_NAME = r"[\w.-]+"
_ADDRESS = re.compile(
    rf"hf://(?P<repository>{_NAME}/{_NAME})(@(?P<revision>[^:@]+))?(:(?P<file>[^:@]+))?"
)
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class HubAddress:
    """A repository, or one ``file`` in it; ``revision``: a commit, branch or tag, "" for any."""

    repository: str
    file: str = ""
    revision: str = ""

    @classmethod
    def parse(cls, text: str) -> HubAddress:
        """Raises UsageError if ``text`` is no such address."""
        match = _ADDRESS.fullmatch(text)
        if match is None or any(part in ("", ".", "..") for part in _parts(match["file"])):
            raise UsageError(
                f"model: {text} is not an address on a hub",
                _mend(text),
            )
        return cls(match["repository"], match["file"] or "", match["revision"] or "")

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        return f"{SCHEME}{self.repository}{revision}" + (f":{self.file}" if self.file else "")

    @property
    def is_pinned(self) -> bool:
        """Whether it names one commit, whose content can never change."""
        return _COMMIT.fullmatch(self.revision) is not None

    @property
    def name(self) -> str:
        """A short name for the model: that of the file or of the repository."""
        last = (self.file or self.repository).rsplit("/", 1)[-1]
        return last.removesuffix(".gguf")

    def at(self, revision: str) -> HubAddress:
        return replace(self, revision=revision)

    def covers(self, other: HubAddress) -> bool:
        """Whether ``other`` is what this address asks for. Without a revision any matches, and
        without a file so does any file that was chosen in the repository."""
        return (
            self.repository == other.repository
            and self.file in ("", other.file)
            and self.revision in ("", other.revision)
        )


def _parts(file: str | None) -> list[str]:
    return file.split("/") if file else []


def _mend(text: str) -> str:
    slashes = re.fullmatch(rf"hf://({_NAME}/{_NAME})/(.+\.gguf)", text)
    if slashes:
        return f"did you mean {SCHEME}{slashes[1]}:{slashes[2]}?"
    return "write hf://OWNER/NAME, hf://OWNER/NAME:FILE.gguf or hf://OWNER/NAME@REVISION:FILE.gguf"
