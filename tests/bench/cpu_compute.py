"""int4 layers on a CPU, computed from their codes or unpacked to bf16.

    python tests/bench/cpu_compute.py [tweets] [kernels] [--rounds N] [--rows N]

- tweets: the demo's job. `rackmill run` with ``engine.cpu_compute`` auto and int4, and vLLM's own
  `LLM.generate` on the same int4 folder with the same arguments, threads and libraries, each in a
  fresh process, in turn. Rates are over the seconds from the first step to the last completion.
- kernels: the linear layers of the 270M and 4B, batches of 1 to 1,024 tokens, two threads: vLLM's
  int4 kernel against what it multiplies bf16 with. Processors without AMX, and without any bf16,
  are simulated: vLLM is told that there is no AMX, and oneDNN is held to ``ONEDNN_MAX_CPU_ISA``.

Writes tests/bench/results/cpu_compute.json.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # `pipeline`, from any folder

from against_generate import OURS, alike, compare
from peers.measure import in_turn, print_table, run_json, save
from peers.workplace import labelled_tweets

TARGET = 1.7
SHAPES = {  # (in, out) of a layer's four: qkv, attention's output, gate and up, down
    "270M": ((640, 1536), (1024, 640), (640, 4096), (2048, 640)),
    "4B": ((2560, 4096), (2048, 2560), (2560, 20480), (10240, 2560)),
}
BATCHES = (1, 4, 16, 64, 256, 1024)  # tokens
PROCESSORS = {  # name -> what oneDNN may use; None: all that there is, with AMX
    "as it is": None,
    "AVX-512 BF16, simulated": "AVX512_CORE_BF16",
    "AVX-512 without bf16, simulated": "AVX512_CORE_VNNI",
}


def tweets(folder: Path, rows: int, rounds: int) -> dict[str, Any]:
    work = labelled_tweets(folder, rows, duplicates=0.0)

    def ours(compute: str) -> dict[str, Any]:
        work.job["engine"] = {"cpu_compute": compute}
        return work.rackmill()

    systems = {
        OURS: partial(ours, "auto"),
        "LLM.generate, same folder and arguments": partial(
            work.peer, "generate.py", alike(), engine=work.arguments
        ),
        "  rackmill run, cpu_compute: int4": partial(ours, "int4"),
    }
    return compare(f"{rows} tweets", work, in_turn(systems, rounds), target=TARGET)


def kernels() -> dict[str, Any]:
    """ms for the four layers together, by processor, model and batch: int4, bf16."""
    found = {}
    for name, isa in PROCESSORS.items():
        variables = alike() | ({"ONEDNN_MAX_CPU_ISA": isa} if isa else {})
        found[name] = run_json([sys.executable, __file__, "--time-kernels"], variables)["times"]
    rows = [
        [name, model, batch, int4, bf16, int4 / bf16]
        for name, times in found.items()
        for model, batch, int4, bf16 in times
    ]
    head = ["processor", "model", "tokens", "int4 ms", "bf16 ms", "bf16 ×"]
    print_table("the four linear layers of a block", head, rows)
    return {"columns": head, "rows": [[*row[:5], round(row[5], 2)] for row in rows]}


def time_kernels() -> None:
    import torch

    if os.environ.get("ONEDNN_MAX_CPU_ISA"):
        torch.cpu._is_amx_tile_supported = lambda: False
    from vllm import _custom_ops as ops
    from vllm.model_executor.layers.quantization.utils.quant_utils import (
        pack_quantized_values_into_int32,
    )
    from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm
    from vllm.platforms import current_platform
    from vllm.scalar_type import scalar_types

    current_platform.import_kernels()
    hint = "amx" if torch.cpu._is_amx_tile_supported() else "vec"

    def layer(size: tuple[int, int]) -> tuple[Callable[..., Any], Callable[..., Any]]:
        inputs, outputs = size
        codes = torch.randint(0, 16, size, dtype=torch.int32)
        scales = (torch.rand(inputs // 32, outputs) / 64).bfloat16()
        packed = pack_quantized_values_into_int32(codes, scalar_types.uint4b8, 1)
        packed = packed.view(inputs, -1, 2).permute(1, 0, 2).reshape(-1, inputs * 2).contiguous()
        plain = torch.nn.Module()
        weight = ((codes - 8).bfloat16() * scales.repeat_interleave(32, 0)).t().contiguous()
        plain.weight, plain.bias = torch.nn.Parameter(weight, requires_grad=False), None
        dispatch_cpu_unquantized_gemm(plain, remove_weight=True)
        return (
            lambda x: ops.cpu_gemm_wna16(x, packed, scales, None, None, None, 8, hint),
            lambda x: plain.cpu_linear(x, plain.weight, None),
        )

    times = []
    for model, sizes in SHAPES.items():
        layers = [layer(size) for size in sizes]
        for batch in BATCHES:
            total = [0.0, 0.0]
            for size, ways in zip(sizes, layers, strict=True):
                x = torch.randn(batch, size[0]).bfloat16()
                for way, run in enumerate(ways):
                    total[way] += _milliseconds(partial(run, x))
            times.append([model, batch, *(round(t, 3) for t in total)])
    print("\n" + json.dumps({"times": times}))


def _milliseconds(run: Callable[[], Any], seconds: float = 0.2) -> float:
    run()
    started, runs = time.perf_counter(), 0
    while (spent := time.perf_counter() - started) < seconds:
        run()
        runs += 1
    return 1000 * spent / runs


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("parts", nargs="*", default=["tweets", "kernels"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--time-kernels", action="store_true", help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.time_kernels:
        time_kernels()
        return
    if "tweets" in a.parts:
        with tempfile.TemporaryDirectory() as scratch:
            save("cpu_compute", {"tweets": tweets(Path(scratch), a.rows, a.rounds)})
    if "kernels" in a.parts:
        save("cpu_compute", {"kernels": kernels()})


if __name__ == "__main__":
    main()
