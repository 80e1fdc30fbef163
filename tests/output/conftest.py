from __future__ import annotations

import pytest


@pytest.fixture(autouse=True, scope="module")
def _large(large_units: None) -> None:
    """A few hundred rows are a few units."""
