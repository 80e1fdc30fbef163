"""Where a model is made before it is published."""

from __future__ import annotations

from pathlib import Path

from pipeline.model.store.staging import STATE_FILE, Staging


def test_what_a_kill_left_of_the_state_is_not_published(tmp_path: Path) -> None:
    """It is written beside its name first, and renamed."""
    path, target = tmp_path / "partial", tmp_path / "model"
    path.mkdir()
    staging = Staging(path, "key")
    (path / "model.safetensors").write_bytes(b"weights")
    staging.finish("model.safetensors", {"bytes": 7, "sha256": ""})
    (path / f".{STATE_FILE}.0123456789ab").write_bytes(b"{")

    Staging(path, "key").publish(target)

    assert [file.name for file in target.iterdir()] == ["model.safetensors"]
