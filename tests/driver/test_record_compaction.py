"""The driver compacts commit records, while a run goes on."""

from __future__ import annotations

import threading
from unittest import mock

from pipeline.driver.background import record_compaction as record_compaction
from pipeline.output.commit.packed_records import MOST
from pipeline.storage.local import LocalStorage

_PATIENCE_SECONDS = 20.0


class _Packer:
    """Has some more packs to make, then none."""

    def __init__(self, *found: int) -> None:
        self.found = list(found)

    def pack(self) -> int:
        return self.found.pop(0) if self.found else 0


def test_as_many_packs_are_made_at_once_as_there_are_records_for(tmp_path) -> None:
    """Else a rack that commits fast would leave a later run ever more records to ask for."""
    packer = _Packer(MOST, MOST, MOST, 300)
    minute_over, looked_again = threading.Event(), threading.Event()

    def wait(seconds: float) -> bool:
        if minute_over.is_set():
            looked_again.set()
            return True
        minute_over.set()
        return False

    with mock.patch.object(record_compaction, "RecordPacker", return_value=packer):
        made = record_compaction.RecordCompactor(LocalStorage(tmp_path))
    with mock.patch.object(made._closed, "wait", wait), made:
        assert looked_again.wait(_PATIENCE_SECONDS)
    assert packer.found == []


def test_the_end_of_a_run_waits_for_one_pack_at_most(tmp_path) -> None:
    packer = _Packer(MOST, MOST, MOST)
    with (
        mock.patch.object(record_compaction, "RecordPacker", return_value=packer),
        record_compaction.RecordCompactor(LocalStorage(tmp_path)),
    ):
        pass
    assert packer.found == [MOST, MOST]
