"""Which files of a repository make up a model. Pure decisions."""

from __future__ import annotations

import difflib

from pipeline.errors import UsageError
from pipeline.model.store.address import HubAddress
from pipeline.model.store.hub import HubFile, Repository

_CHECKPOINT_SUFFIXES = (".safetensors", ".json", ".jinja")
_SHOWN = 6


def choose_files(repository: Repository, address: HubAddress) -> list[HubFile]:
    """The .gguf file that ``address`` names, else the files of a checkpoint, else the only .gguf.

    Raises UsageError: no such file, no file that is a model, or several to choose from.
    """
    if address.file:
        return [_named(repository, address)]
    checkpoint = [
        f for f in repository.files if "/" not in f.name and f.name.endswith(_CHECKPOINT_SUFFIXES)
    ]
    if any(f.name.endswith(".safetensors") for f in checkpoint):
        return checkpoint
    models = _gguf_names(repository)
    if len(models) == 1:
        return [f for f in repository.files if f.name == models[0]]
    if models:
        raise UsageError(
            f"model: {address} holds {len(models)} GGUF files: choose one",
            *(str(HubAddress(repository.name, n, address.revision)) for n in models[:_SHOWN]),
            *([f"… and {len(models) - _SHOWN} more"] if len(models) > _SHOWN else []),
        )
    raise UsageError(
        f"model: {address} holds neither .safetensors nor .gguf files",
        "other formats are not loaded: they can hold programs",
    )


def _named(repository: Repository, address: HubAddress) -> HubFile:
    found = next((f for f in repository.files if f.name == address.file), None)
    if found is None:
        near = difflib.get_close_matches(address.file, _gguf_names(repository), _SHOWN, cutoff=0.3)
        raise UsageError(
            f"model: hf://{repository.name} has no file {address.file!r}",
            *(["it has:"] if near else ["it has no .gguf files at all"]),
            *(str(HubAddress(repository.name, name, address.revision)) for name in near),
        )
    if not found.name.endswith(".gguf"):
        raise UsageError(
            f"model: {address} is no .gguf file",
            f"for a checkpoint of .safetensors name the repository alone: hf://{repository.name}",
        )
    return found


def _gguf_names(repository: Repository) -> list[str]:
    """Only models, not the vision towers beside them."""
    return [
        f.name
        for f in repository.files
        if f.name.endswith(".gguf") and "mmproj" not in f.name.rsplit("/", 1)[-1]
    ]
