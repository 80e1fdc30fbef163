"""A real llama.cpp that needs no building: as ``llama-server``, by the package ``xllamacpp``.

Its wheel holds llama.cpp's server as a library, with all of its HTTP interface. ``program`` writes
a ``llama-server`` that takes the arguments that rackmill gives to one, and no others.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

PACKAGE = "xllamacpp"


def program(folder: Path) -> Path:
    """An executable in ``folder``."""
    path = folder / "llama-server"
    path.write_text(f'#!/bin/sh\nexec {sys.executable} {Path(__file__).resolve()} "$@"\n')
    path.chmod(0o755)
    return path


def main() -> None:
    import xllamacpp

    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--list-devices", action="store_true")
    parser.add_argument("--host", default="127.0.0.1")
    for name in ("--port", "--parallel", "--ctx-size", "--kv-unified-per-slot", "--cache-ram"):
        parser.add_argument(name, type=int, default=0)
    for name in ("--kv-unified", "--swa-full", "--no-webui"):
        parser.add_argument(name, action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--model")
    given = parser.parse_args()
    if given.list_devices:
        print("Available devices:")  # this build computes on the processor
        return
    params = xllamacpp.CommonParams()
    params.hostnames, params.port = [given.host], given.port
    params.api_keys = [os.environ["LLAMA_API_KEY"]]
    params.n_parallel, params.n_ctx = given.parallel, given.ctx_size
    params.kv_unified, params.kv_unified_per_slot = given.kv_unified, given.kv_unified_per_slot
    params.swa_full, params.cache_ram_mib = given.swa_full, given.cache_ram
    params.ui = not given.no_webui
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = given.threads
    params.model.path = given.model
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    main()
