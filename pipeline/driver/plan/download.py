"""What fetching a model of the catalogue will take, said before it is done: no network."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from pipeline.budget.weights import weight_bytes
from pipeline.model.catalogue import CatalogueEntry
from pipeline.model.store import hub
from pipeline.model.store.hub_client import token
from pipeline.model.store.index import store_root

BYTES_PER_SECOND = 12.5e6  # 100 Mbit/s, which many homes have


@dataclass(frozen=True)
class Download:
    """Bytes and seconds. ``exact``: the size is the published one, not reckoned from the model's
    shape. ``seconds``: at ``BYTES_PER_SECOND``. ``needs_token``: the hub gives the files to
    accounts that accepted the licence. ``disk_bytes``: while it is fetched and converted."""

    source: str
    size: int
    exact: bool
    seconds: float
    licence: str
    needs_token: bool
    has_token: bool
    disk_bytes: int
    disk_free: int
    disk: str

    @property
    def fits_disk(self) -> bool:
        return self.disk_free >= self.disk_bytes

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"bytes_per_second": BYTES_PER_SECOND}


def download_of(entry: CatalogueEntry) -> Download:
    """Of a model that is not in the store and comes from a hub."""
    model, source = entry.model, entry.source
    vision = model.vision_parameters
    made = weight_bytes(model.geometry, entry.precision, vision=vision).total(vision=True)
    size = source.download_bytes or made
    place, free = hub.free_space(store_root())
    return Download(
        source=source.address,
        size=size,
        exact=bool(source.download_bytes),
        seconds=size / BYTES_PER_SECOND,
        licence=model.licence,
        needs_token=source.by == "google",
        has_token=bool(token()),
        disk_bytes=size * (2 if source.file else 1),  # a GGUF file and what it is converted to
        disk_free=free,
        disk=str(place),
    )
