"""Metadata of input files about their columns, which an output should keep. Pure.

pandas stores its index there, Hugging Face's datasets the names of classes.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any

_PANDAS, _FEATURES = b"pandas", b"huggingface"


def metadata_for(
    metadata: Mapping[bytes, bytes] | None, columns: Collection[str]
) -> dict[bytes, bytes] | None:
    """A schema's metadata, as far as it is valid for the ``columns`` that are kept."""
    kept = {
        key: value
        for key, value in (metadata or {}).items()
        if not key.startswith((b"rackmill.", b"ARROW:"))
    }
    for key, reduce in ((_PANDAS, _index_of), (_FEATURES, _features_of)):
        if key in kept:
            content = kept.pop(key)
            with suppress(ValueError, KeyError, TypeError, AttributeError):  # another format
                kept[key] = json.dumps(reduce(json.loads(content), columns)).encode()
    return kept or None


def _index_of(said: dict[str, Any], columns: Collection[str]) -> dict[str, Any]:
    """An index that is a column stays; one that only counts rows is not valid for parts."""
    index = [name for name in said["index_columns"] if isinstance(name, str) and name in columns]
    about = [c for c in said["columns"] if (c.get("field_name") or c.get("name")) in columns]
    return said | {"index_columns": index, "columns": about, "column_indexes": []}


def _features_of(said: dict[str, Any], columns: Collection[str]) -> dict[str, Any]:
    features = said["info"]["features"]
    kept = {name: of for name, of in features.items() if name in columns}
    return {"info": {"features": kept}}
