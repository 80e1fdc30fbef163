"""Why an engine died, out of what it wrote."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.engine.failure.stderr_tail import last_error_in

LOG = """\
(EngineCore pid=77) INFO 11-23 [core.py:105] Initializing a V1 LLM engine
(EngineCore pid=77) ERROR 11-23 [core.py:1110] EngineCore failed to start.
(EngineCore pid=77) ERROR 11-23 [core.py:1110] Traceback (most recent call last):
(EngineCore pid=77) ERROR 11-23 [core.py:1110]   File "core.py", line 1083, in run_engine_core
(EngineCore pid=77) ERROR 11-23 [core.py:1110] torch.OutOfMemoryError: CUDA out of memory. Tried …
Traceback (most recent call last):
  File "utils.py", line 1431, in wait_for_engine_startup
RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}
"""


def test_the_reason_is_the_last_error_that_says_something() -> None:
    assert last_error_in(LOG) == "torch.OutOfMemoryError: CUDA out of memory. Tried …"


@pytest.mark.parametrize("log", ["", "INFO all is well\n", "an Error without a colon\n"])
def test_a_log_without_errors_gives_no_reason(log: str) -> None:
    assert last_error_in(log) is None


_PROGRAM = """
import subprocess, sys
from pipeline.engine.failure.stderr_tail import StderrTail
print("ValueError: an older one", flush=True)
words = StderrTail()
subprocess.run([sys.executable, "-c", "raise ValueError('of the child')"])
open(sys.argv[1], "w").write(words.reason or "")
"""


def test_what_children_write_counts_and_what_was_there_before_does_not(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        subprocess.run(
            [sys.executable, "-c", _PROGRAM, str(tmp_path / "reason")],
            stdout=log,
            stderr=log,
            check=True,
        )

    assert (tmp_path / "reason").read_text() == "ValueError: of the child"
