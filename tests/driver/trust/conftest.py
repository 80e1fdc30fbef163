"""A finished run with right answers, and the same without any."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.trusted import trusted


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with 120 right answers that has come to its end."""
    folder = tmp_path_factory.mktemp("trusted")
    trusted(folder)
    return folder


@pytest.fixture(scope="session")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same without any: labels and probabilities are the model's own."""
    folder = tmp_path_factory.mktemp("raw")
    trusted(folder, gold=None)
    return folder
