from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from pipeline.service.review.labels import LabelSession, open_material
from pipeline.storage.base import Storage
from tests.support.browser import open_browser as open_browser
from tests.support.served_review import Served, served


@pytest.fixture(autouse=True, scope="module")
def _large(large_units: None) -> None:
    """A few hundred rows are a few units."""


@pytest.fixture
def serve() -> Iterator[Callable[..., Served]]:
    """Serves the page of an output for a reviewer."""
    with ExitStack() as stack:

        def start(output: Storage, reviewer: str = "anna", rows: int = 20) -> Served:
            session = LabelSession(open_material(output.address(), None, rows), reviewer)
            return stack.enter_context(served(session))

        yield start
