"""Answers that end at recorded lengths which no scheduler was told.

A vLLM plugin (its entry point group ``vllm.general_plugins``), used alike under every system:
they all ask for the same ``max_tokens`` for every row, and inside the engine each request gets
the recorded length of its prompt in place of it. vLLM's own scheduler does not look at
``max_tokens`` to admit or preempt, so nothing but the end of the answers changes.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

VARIABLE = "BENCH_OUTPUT_LENGTHS"
_MODULE = "bench_hidden_lengths"


def install(folder: Path, rows: Iterable[tuple[Sequence[int], int]]) -> dict[str, str]:
    """Write the plugin and the lengths of ``rows`` (prompt's token ids, answer's tokens) into
    ``folder``. Returns the variables that the engine's process needs from its start."""
    package = folder / "plugin"
    info = package / f"{_MODULE}-1.dist-info"
    info.mkdir(parents=True)
    shutil.copyfile(__file__, package / f"{_MODULE}.py")
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {_MODULE}\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        f"[vllm.general_plugins]\nhidden_lengths = {_MODULE}:apply\n"
    )
    lengths = {_key(ids): length for ids, length in rows}
    file = folder / "lengths.json"
    file.write_text(json.dumps(lengths))
    search = [str(package), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"PYTHONPATH": os.pathsep.join(search), VARIABLE: str(file)}


def apply() -> None:
    """Called by vLLM in each of its processes."""
    path = os.environ.get(VARIABLE)
    if not path:
        return
    lengths: dict[str, int] = json.loads(Path(path).read_text())

    from vllm.v1.engine.input_processor import InputProcessor

    untouched = InputProcessor.process_inputs
    if getattr(untouched, "knows_lengths", False):
        return

    def process_inputs(self: Any, *arguments: Any, **named: Any) -> Any:
        request = untouched(self, *arguments, **named)
        if request.sampling_params is not None:  # a copy of the caller's, this request's own
            request.sampling_params.max_tokens = lengths[_key(request.prompt_token_ids)]
        return request

    process_inputs.knows_lengths = True  # type: ignore[attr-defined]
    InputProcessor.process_inputs = process_inputs


def _key(ids: Sequence[int]) -> str:
    return blake2b(struct.pack(f"<{len(ids)}I", *ids), digest_size=16).hexdigest()
