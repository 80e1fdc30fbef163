"""Models as text and as JSON."""

from __future__ import annotations

from typing import Any

from pipeline.budget.weights import weight_bytes
from pipeline.cli.terminal.console import OUT
from pipeline.model.catalogue import MODELS, PRECISIONS, CatalogueEntry, find
from pipeline.model.folder import ModelFolder
from pipeline.model.store.index import store_root, stored_models
from pipeline.model.store.resolve import in_store
from pipeline.model.store.steps import gigabytes

_OUTDATED = "rounded by an earlier version"


def catalogue_as_json() -> dict[str, Any]:
    """Every name of the catalogue and every model in the store. Sizes in bytes, or in GB if the
    key says so (10**9 bytes)."""
    entries = [
        find(f"{model.name}-{precision}")
        for model in MODELS.values()
        for precision in reversed(PRECISIONS)
        if model.source(precision) is not None
    ]
    return {
        "store": str(store_root()),
        "models": [entry_as_json(entry) for entry in entries],
        "stored": [folder_as_json(folder) for folder in stored_models()],
    }


def entry_as_json(entry: CatalogueEntry) -> dict[str, Any]:
    """``weights_bytes``: what vLLM holds, text only; ``vision_bytes``: additional, with images."""
    model = entry.model
    weights = weight_bytes(model.geometry, entry.precision, vision=model.vision_parameters)
    short = entry.precision == "int4"
    folder = in_store(entry.name)
    return {
        "name": model.name if short else entry.name,
        "model": model.name,
        "precision": entry.precision,
        "path": str(folder.path) if folder else None,
        "source": entry.source.address,
        "by": entry.source.by,
        "licence": model.licence,
        "chat": model.chat,
        "vision": model.vision,
        "context": model.geometry.context,
        "download_bytes": entry.source.download_bytes,
        "announced_gb": model.announced_gb.get(entry.precision),
        "weights_bytes": weights.text_bytes,
        "vision_bytes": weights.vision_bytes,
        "sources": [
            {
                "address": s.address,
                "precision": s.precision,
                "by": s.by,
                "download_bytes": s.download_bytes,
            }
            for s in model.sources
        ],
    }


def folder_as_json(folder: ModelFolder) -> dict[str, Any]:
    """A folder's own information; empty strings where it has none. ``outdated``: an earlier version
    rounded it in another way than this one would."""
    facts = folder.provenance
    geometry = folder.geometry
    content = {
        "name": folder.name,
        "path": str(folder.path),
        "quantization": folder.quantization,
        "bytes": folder.weights_bytes,
        "outdated": folder.is_outdated,
        "source": str(facts.get("source", "")),
        "revision": folder.revision,
        "added": str(facts.get("added", "")),
        "licence": folder.licence,
        "hash": folder.hash,
        "layers": geometry.layers,
        "context": geometry.context,
        "addresses": sorted(facts.get("addresses") or {}),
    }
    if "tensor_types" in facts:
        content["tensor_types"] = facts["tensor_types"]
    return content


def print_catalogue(content: dict[str, Any]) -> None:
    def line(*columns: str) -> None:
        widths = (20, 10, 12, 10, 0)
        text = " ".join(f"{c:<{w}}" for c, w in zip(columns, widths, strict=True))
        OUT.print(text.rstrip())

    line("model", "memory", "announced", "download", "from")
    for entry in content["models"]:
        announced = entry["announced_gb"]
        line(
            entry["name"] + ("  *" if entry["path"] else ""),
            gigabytes(entry["weights_bytes"]),
            f"{announced:g} GB" if announced else "–",
            gigabytes(entry["download_bytes"]) if entry["download_bytes"] else "–",
            entry["source"],
        )
    OUT.print(
        "memory: weights as vLLM holds them, text only. announced: by Google, for the same.\n"
        "more sources of a model: rackmill model info NAME"
    )
    OUT.print(f"\n* in the store, {content['store']}")
    for folder in content["stored"]:
        origin = f", from {folder['source']}" if folder["source"] else ""
        age = f", {_OUTDATED}" if folder["outdated"] else ""
        words = f"{folder['quantization']}{age}, {gigabytes(folder['bytes'])}{origin}"
        OUT.print(f"{folder['name']:<38} {words}")
    if not content["stored"]:
        OUT.print("nothing yet: rackmill model add NAME")


def print_folder(content: dict[str, Any]) -> None:
    def line(name: str, text: str) -> None:
        if text:
            OUT.print(f"  {name:<9} {text}")

    age = f", {_OUTDATED}" if content["outdated"] else ""
    words = f"{content['quantization']}{age}, {gigabytes(content['bytes'])}"
    OUT.print(f"{content['name']} · {words}")
    line("source", content["source"])
    line("revision", content["revision"])
    line("added", content["added"])
    line("licence", content["licence"])
    line("context", f"{content['context']} tokens, {content['layers']} layers")
    line("hash", content["hash"])
    print_tensor_types(content.get("tensor_types") or [])
    OUT.print(f"→ {content['path']}")


def print_entry(content: dict[str, Any]) -> None:
    """A model that is not in the store."""
    if "weights_bytes" in content:
        vision = content["vision_bytes"]
        more = f", {gigabytes(vision)} more with images" if vision else ""
        memory = f"{gigabytes(content['weights_bytes'])} of memory{more}"
        OUT.print(f"{content['name']} · {content['precision']}, {memory}")
        OUT.print(f"  licence   {content['licence']}")
        for source in content["sources"]:
            size = source["download_bytes"]
            OUT.print(
                f"  {source['precision']:<9} {source['address']}"
                + (f", {gigabytes(size)}" if size else "")
            )
    OUT.print(f"not in the store: rackmill model add {content['name']}")


def print_conversion(report: dict[str, Any]) -> None:
    """What a conversion kept exactly and what it lost."""
    print_tensor_types(report.get("tensor_types") or [])
    OUT.print(f"→ {report['folder']}")


def print_tensor_types(rows: list[dict[str, Any]]) -> None:
    """``relative_error``: root mean square, relative to that of the weights."""
    if not rows:
        return
    OUT.print(f"  {'tensors':<26} {'error':<9} {'largest':<9} what happened")
    for row in rows:
        which = f"{row['tensors']} {row['storage_type']} {row['kind']}"
        share, largest = row["relative_error"], row["max_error"]
        OUT.print(
            f"  {which:<26} {f'{100 * share:.2g} %' if share else '0':<9} "
            f"{f'{largest:.2g}' if largest else '0':<9} {row['what']}"
        )
