"""What tests of chaos share."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.chaos.harness import Outcome
from tests.chaos.many import Places
from tests.support.summary import OUTCOME


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Callable[[Outcome], None]:
    """Has a story shown at the end."""
    return lambda outcome: record_property(OUTCOME, outcome.encode())


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    places = Places(tmp_path_factory.mktemp("chaos"))
    yield places
    places.close()
