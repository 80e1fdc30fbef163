from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.ray_head import SharedRay, ray_head


@pytest.fixture(scope="session")
def shared_ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedRay]:
    """A Ray that several tests share."""
    with ray_head(tmp_path_factory.mktemp("ray")) as head:
        yield head
