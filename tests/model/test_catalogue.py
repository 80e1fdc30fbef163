"""The catalogue: what its names mean, and that what it says agrees with itself."""

from __future__ import annotations

import re

import pytest

from pipeline import UsageError
from pipeline.budget.weights import weight_bytes
from pipeline.model.catalogue import CATALOGUE, MODELS, PRECISIONS, CatalogueModel, find
from pipeline.model.store.address import HubAddress
from tests.support.samples import GEMMA_27B, GEMMA_270M

every_model = pytest.mark.parametrize("model", MODELS.values(), ids=list(MODELS))


def test_every_size_comes_in_every_precision() -> None:
    assert [m.title for m in MODELS.values()] == ["270M", "1B", "4B", "12B", "27B"]
    assert len(CATALOGUE) == len(MODELS) * (len(PRECISIONS) + 1)


def test_a_size_alone_means_int4() -> None:
    assert find("gemma-3-27b").precision == "int4"
    assert find("gemma-3-27b") == find("gemma-3-27b-int4")
    assert find("gemma-3-27b-bf16").precision == "bf16"


@pytest.mark.parametrize("size", ["1b", "4b", "12b", "27b"])
def test_int4_comes_from_google_itself(size: str) -> None:
    source = find(f"gemma-3-{size}").source

    assert source.by == "google"
    assert source.address == (
        f"hf://google/gemma-3-{size}-it-qat-q4_0-gguf:gemma-3-{size}-it-q4_0.gguf"
    )


def test_the_embedded_model_needs_no_hub() -> None:
    for precision in PRECISIONS:
        assert find(f"gemma-3-270m-{precision}").source.package


@every_model
def test_addresses_can_be_given_to_add(model: CatalogueModel) -> None:
    addresses = [s.address for s in model.sources if not s.package]

    assert len(addresses) == len(set(addresses))
    for address in addresses:
        assert str(HubAddress.parse(address)) == address


@every_model
def test_shapes_are_those_of_the_papers(model: CatalogueModel) -> None:
    geometry = model.geometry

    assert geometry.n_global == geometry.layers // 6
    assert (model.vision, geometry.context) in ((False, 32_768), (True, 131_072))
    known = {"gemma-3-270m": GEMMA_270M, "gemma-3-27b": GEMMA_27B}
    assert geometry == known.get(model.name, geometry)


@every_model
def test_published_int4_files_are_as_large_as_what_they_hold(model: CatalogueModel) -> None:
    """Q4_0 with half-precision embeddings: the very bytes that vLLM keeps."""
    source = model.sources[0]
    if source.by == "google":
        real = weight_bytes(model.geometry, "int4").text_bytes
        assert source.download_bytes == pytest.approx(real, rel=0.05)


@every_model
def test_announced_sizes_shrink_with_the_precision(model: CatalogueModel) -> None:
    announced = [model.announced_gb[p] for p in PRECISIONS if p in model.announced_gb]

    assert announced == sorted(announced, reverse=True)


@pytest.mark.parametrize(
    ("word", "near"),
    [
        ("gemma-3-27", "gemma-3-27b"),
        ("gemma3-4b", "gemma-3-4b"),
        ("gemma-3-12b-fp16", "gemma-3-12b-bf16"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(word: str, near: str) -> None:
    with pytest.raises(UsageError, match=re.escape(f"did you mean {near}?")):
        find(word)


def test_the_nearest_may_be_a_name_known_elsewhere() -> None:
    with pytest.raises(UsageError, match=re.escape("did you mean my-own-tune?")):
        find("my-own-tun", ["my-own-tune"])
