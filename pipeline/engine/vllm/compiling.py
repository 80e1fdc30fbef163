"""Whether vLLM compiles while an engine is loaded, for the people who wait.

The core, a separate process on a GPU, reports nothing. But vLLM 0.32 keeps what it compiled
(``compilation/decorators.py``): it makes
``VLLM_CACHE_ROOT/torch_compile_cache/torch_aot_compile/HASH`` before it looks for ``rank_*/model``
there, and writes that file at the end of compiling only. Two engines that load on one machine at
the same time may be confused, which only means that the other one compiles.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

_LOOK_SECONDS = 1.0
_CLOCK_TICK = 0.05  # files are stamped by a coarser clock
SAYS = "compiling the model for this card and these settings: a minute or two, this once"


def compiled_code() -> Path:
    """Where vLLM keeps it."""
    root = os.environ.get("VLLM_CACHE_ROOT")
    if root is None:
        root = os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "vllm")
    return Path(root).expanduser() / "torch_compile_cache" / "torch_aot_compile"


class CompileWatch:
    """Watches while it is entered. ``say`` is called, once, when vLLM compiles. ``seconds``: how
    long that took, to a second; 0 if it did not."""

    def __init__(
        self,
        say: Callable[[str], None],
        folder: Path | None = None,
        look_seconds: float = _LOOK_SECONDS,
    ) -> None:
        self._say, self._look_seconds = say, look_seconds
        self._folder = folder or compiled_code()
        self._since = time.time() - _CLOCK_TICK
        self._began: float | None = None
        self._ended: float | None = None
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="compile-watch", daemon=True)

    @property
    def seconds(self) -> float:
        if self._began is None:
            return 0.0
        return max(0.0, (self._ended or time.time()) - self._began)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._left.set()
        self._thread.join()
        self._look()
        if self._began is not None and self._ended is None:
            self._ended = time.time()

    def _watch(self) -> None:
        while not self._left.wait(self._look_seconds):
            self._look()

    def _look(self) -> None:
        try:
            for folder in self._folder.iterdir():
                self._look_into(folder)
        except OSError:
            return  # nothing was ever compiled here, or it is being removed

    def _look_into(self, folder: Path) -> None:
        models = [path.stat().st_mtime for path in folder.glob("rank_*/model")]
        made = [t for t in models if t >= self._since]
        if made:
            self._begin(folder)
            self._ended = max(made)
        elif not models and self._touched(folder) >= self._since:
            self._begin(folder)

    def _begin(self, folder: Path) -> None:
        if self._began is None:
            self._began = max(self._since, min(time.time(), folder.stat().st_ctime))
            self._say(SAYS)

    @staticmethod
    def _touched(folder: Path) -> float:
        """When something was last written there."""
        inner = folder / "inductor_cache"
        return max(path.stat().st_mtime for path in (folder, inner) if path.exists())
