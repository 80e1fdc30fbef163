"""The known families, one line each, and which family a model belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import UsageError
from pipeline.model.families.base import Family
from pipeline.model.families.gemma3.family import Gemma3
from pipeline.model.geometry import Geometry
from pipeline.model.json_file import read_json
from pipeline.registry import Registry

_MOST = 1 << 32  # limit of any number: larger ones are corrupt
_MOST_LAYERS = 1000
FAMILIES: Registry[Family] = Registry(Gemma3())


def family_of(config: Mapping[str, Any], where: object) -> Family:
    """The family of the model that a ``config.json`` describes. Raises UsageError for others."""
    for family in FAMILIES:
        if family.has(config):
            return family
    found = config.get("model_type", "nothing")
    titles = " or ".join(family.title for family in FAMILIES)
    raise UsageError(f"model: {where} holds a {found} model; rackmill runs {titles}")


def family_of_gguf(architecture: str, where: object) -> Family:
    """The family of a GGUF file's architecture. Raises UsageError for others."""
    known_family = FAMILIES.find(architecture)
    if known_family is not None:
        return known_family
    known = " or ".join(family.name for family in FAMILIES)
    models = " or ".join(f"{family.title} {family.sizes}" for family in FAMILIES)
    raise UsageError(
        f"{where} holds a {architecture or 'nameless'} model; only {known} is supported",
        f"give a GGUF file of {models} (`rackmill model list`)",
    )


def chat_template_of(name_or_text: str | None) -> str | None:
    """The Jinja template for a job's ``chat_template``: a family's, or the given text itself."""
    family = FAMILIES.find(name_or_text or "")
    return name_or_text if family is None else family.chat_template


def read_geometry(folder: Path) -> Geometry:
    """The geometry of the checkpoint in ``folder``. Raises UsageError for an unknown family."""
    path = folder / "config.json"
    config = read_json(path)
    family = family_of(config, folder)
    try:
        geometry = family.geometry(config)
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as e:
        raise UsageError(f"model: {path} lacks {e}") from None
    for name, size in vars(geometry).items():
        least = 0 if name in ("n_global", "n_sliding") else 1
        if not least <= size <= _MOST or not 0 < geometry.layers <= _MOST_LAYERS:
            raise UsageError(f"model: {path} describes an impossible model: {name} is {size}")
    return geometry
