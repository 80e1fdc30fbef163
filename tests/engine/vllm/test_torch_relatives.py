"""Engines load beside PyTorch's packages for pictures and sound that do not fit it."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from pipeline.engine.vllm.torch_relatives import without_unfit_relatives


@pytest.mark.parametrize("package", ["torchvision", "torchaudio", "torchcodec"])
@pytest.mark.parametrize(
    ("source", "there"),
    [("raise RuntimeError('operator torchvision::nms does not exist')", False), ("", True)],
)
def test_only_one_that_cannot_be_imported_is_taken_as_missing(
    package: str, source: str, there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, package, raising=False)
    monkeypatch.setitem(sys.modules, package, None)  # so that it is put back as it was
    del sys.modules[package]

    without_unfit_relatives()

    assert (find_spec(package) is not None) is there
