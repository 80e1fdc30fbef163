"""How fast and in how much memory a Q4_0 file of 27B's shape is converted, on one core.

    python tests/bench/convert.py [--size gemma-3-27b] [--layers N] [--folder DIR]
        [--hash-source]

Writes a GGUF file of that shape with random codes (17 GB for 27B, fewer layers where the disk is
short of twice that) and a small tokenizer, converts it in a process of its own with one thread
bound to one core, and prints input MB/s and the peak resident memory. The file's SHA-256 is taken
as known, as it is to the store, which compares it when a file arrives; `--hash-source` has it
computed as for a local file, which reads the file a second time. Writes
tests/bench/results/convert.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType as Kind
from gguf import GGUFWriter, RopeScalingType

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT))

from pipeline.model.catalogue import MODELS  # noqa: E402
from pipeline.model.geometry import Geometry  # noqa: E402
from tests.model.tiny_gguf import Shape, vocabulary  # noqa: E402

TARGET_MB_PER_SECOND, LIMIT_BYTES = 150, 2_000_000_000
Q4_0_BYTES, GROUP = 18, 32


def write_source(path: Path, geometry: Geometry, layers: int) -> None:
    """Random codes, scales around 0.001; embeddings F16, norms F32, as Google's QAT files."""
    dice = np.random.default_rng(0)
    shape = Shape(
        geometry.hidden,
        geometry.ffn,
        geometry.query_heads,
        geometry.kv_heads,
        geometry.head_dim,
        geometry.vocabulary,
    )
    pool = dice.integers(0, 256, (1 << 20, Q4_0_BYTES), dtype=np.uint8)
    scales = dice.uniform(0.0005, 0.0015, len(pool)).astype(np.float16)
    pool[:, :2] = scales.view(np.uint8).reshape(-1, 2)
    halves = dice.normal(0, 0.02, 1 << 22).astype(np.float16)
    writer = GGUFWriter(path, "gemma3", use_temp_file=False)
    writer.add_block_count(layers)
    writer.add_context_length(geometry.context)
    writer.add_embedding_length(geometry.hidden)
    writer.add_feed_forward_length(geometry.ffn)
    writer.add_head_count(geometry.query_heads)
    writer.add_head_count_kv(geometry.kv_heads)
    writer.add_key_length(geometry.head_dim)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_sliding_window(geometry.sliding_window)
    writer.add_rope_freq_base(1e6)
    writer.add_rope_scaling_type(RopeScalingType.LINEAR)
    writer.add_rope_scaling_factor(8.0)
    for name, number in {"bos": 2, "eos": 1, "pad": 0, "unk": 3}.items():
        getattr(writer, f"add_{name}_token_id")(number)
    writer.add_tokenizer_model("llama")
    pieces = vocabulary(64)
    writer.add_token_list([p for p, _ in pieces])
    writer.add_token_types([t for _, t in pieces])
    writer.add_token_scores([-float(i) for i in range(len(pieces))])
    tensors: list[tuple[str, tuple[int, ...], Kind]] = [
        ("token_embd.weight", (geometry.vocabulary, geometry.hidden), Kind.F16),
        ("output_norm.weight", (geometry.hidden,), Kind.F32),
    ]
    for layer in range(layers):
        for module, size in shape.modules.items():
            kind = Kind.F32 if module.endswith("norm") else Kind.Q4_0
            tensors.append((f"blk.{layer}.{module}.weight", size, kind))
    for name, size, kind in tensors:
        elements = int(np.prod(size))
        n_bytes = (
            elements // GROUP * Q4_0_BYTES if kind == Kind.Q4_0 else elements * kind_bytes(kind)
        )
        dtype = {Kind.F16: np.float16, Kind.F32: np.float32, Kind.Q4_0: np.uint8}[kind]
        shown = (*size[:-1], size[-1] // GROUP * Q4_0_BYTES) if kind == Kind.Q4_0 else size
        writer.add_tensor_info(name, shown, np.dtype(dtype), n_bytes, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    [out] = writer.fout
    writer.write_padding(out, out.tell())
    for _, size, kind in tensors:
        left = int(np.prod(size))
        if kind == Kind.Q4_0:
            left //= GROUP
            while left:
                start = int(dice.integers(0, len(pool) // 2))
                part = pool[start : start + left]
                out.write(part.tobytes())
                left -= len(part)
        else:
            some = halves if kind == Kind.F16 else halves.astype(np.float32) + 1
            while left:
                part = some[:left]
                out.write(part.tobytes())
                left -= len(part)
        writer.write_padding(out, out.tell())
    writer.close()


def kind_bytes(kind: Kind) -> int:
    return 2 if kind == Kind.F16 else 4


def convert_here(source: Path, target: Path, facts: dict[str, str]) -> None:
    """In the child: one thread; prints what it measured."""
    import torch

    torch.set_num_threads(1)
    from pipeline.model.convert.convert import convert

    started = time.monotonic()
    report = convert(source, target, source_facts=facts)
    seconds = time.monotonic() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(
        json.dumps(
            {
                "seconds": seconds,
                "cpu_seconds": used.ru_utime + used.ru_stime,
                "peak_bytes": peak,
                "report": report.as_json(),
            }
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--size", default="gemma-3-27b", choices=sorted(MODELS))
    parser.add_argument("--layers", type=int)
    parser.add_argument("--folder", type=Path, help="where there is room; a temporary one if not")
    parser.add_argument("--hash-source", action="store_true")
    parser.add_argument("--child", nargs=2, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        known = {} if arguments.hash_source else {"source_sha256": "0" * 64}
        convert_here(*arguments.child, known)
        return
    geometry = MODELS[arguments.size].geometry
    with tempfile.TemporaryDirectory(dir=arguments.folder) as scratch:
        flags = ["--hash-source"] if arguments.hash_source else []
        result = measure(Path(scratch), geometry, arguments.layers or geometry.layers, flags)
    result = {"shape": arguments.size, "source_hashed": arguments.hash_source, **result}
    (HERE / "results/convert.json").write_text(json.dumps(result, indent=1) + "\n")


def measure(folder: Path, geometry: Geometry, layers: int, flags: list[str]) -> dict[str, Any]:
    embedding = geometry.vocabulary * geometry.hidden * 2
    layer = sum(
        int(np.prod(size)) // GROUP * Q4_0_BYTES
        for size in replace(
            Shape(),
            hidden=geometry.hidden,
            ffn=geometry.ffn,
            heads=geometry.query_heads,
            kv_heads=geometry.kv_heads,
            head_dim=geometry.head_dim,
        ).modules.values()
    )
    room = shutil.disk_usage(folder).free // 2 - embedding - (4 << 30)
    fitting = max(6, min(layers, int(room // layer)))
    if fitting < layers:
        print(f"the disk has room for {fitting} of {layers} layers only")
    source, target = folder / "model.gguf", folder / "out"
    started = time.monotonic()
    write_source(source, geometry, fitting)
    print(f"wrote {source.stat().st_size / 1e9:.1f} GB in {time.monotonic() - started:.0f} s")
    command = [sys.executable, __file__, *flags, "--child", str(source), str(target)]
    if shutil.which("taskset"):
        command = ["taskset", "-c", str(max(os.sched_getaffinity(0))), *command]
    load, _, _ = os.getloadavg()
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    run = subprocess.run(command, env=os.environ | threads, capture_output=True, text=True)
    if run.returncode:
        raise SystemExit(run.stderr)
    measured = json.loads(run.stdout.splitlines()[-1])
    size = source.stat().st_size
    rate, of_cpu = size / measured["seconds"] / 1e6, size / measured["cpu_seconds"] / 1e6
    beyond = measured["peak_bytes"]
    print(f"converted at {rate:.0f} MB/s of input ({of_cpu:.0f} MB per second of processor time)")
    print(f"  peak {beyond / 1e6:.0f} MB; largest tensor {embedding / 1e6:.0f} MB")
    print(f"  target: {TARGET_MB_PER_SECOND} MB/s, under {LIMIT_BYTES / 1e6:.0f} MB + that tensor")
    shards = len(list(target.glob("*.safetensors")))
    return {
        "layers": fitting,
        "bytes_in": size,
        "bytes_out": measured["report"]["bytes_out"],
        "shards": shards,
        "seconds": round(measured["seconds"], 1),
        "cpu_seconds": round(measured["cpu_seconds"], 1),
        "mb_per_second": round(rate),
        "mb_per_cpu_second": round(of_cpu),
        "peak_bytes": measured["peak_bytes"],
        "processor": platform.machine(),
        "threads": 1,
        "load_before": round(load, 1),  # other work on the machine: it takes time from this
        "tensor_types": measured["report"]["tensor_types"],
    }


if __name__ == "__main__":
    main()
