"""GGUF → a checkpoint folder that vLLM loads: compressed-tensors int4 or int8, or plain bf16.

Tensors go one after the other, each in blocks of rows, from the source to their place in a shard:
memory does not depend on the size of the file.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.errors import UsageError
from pipeline.humanize import size
from pipeline.model.convert.gguf_file import GgufFile
from pipeline.model.convert.layerwise import LayerwiseRounding, calibration_texts
from pipeline.model.convert.plan import (
    PlannedTensor,
    Precision,
    TensorMethod,
    into_shards,
    plan_conversion,
)
from pipeline.model.convert.repack import GROUP_SIZE, carries
from pipeline.model.convert.report import ConversionReport, RoundingLoss, losses_by_type
from pipeline.model.convert.safetensors_writer import SafetensorsWriter
from pipeline.model.convert.tokenizer_files import write_tokenizer
from pipeline.model.convert.transfer import transfer
from pipeline.model.folder import (
    CONVERSION,
    ROUNDED,
    describe_files,
    now,
    read_provenance,
    sha256_of,
    write_provenance,
)
from pipeline.model.store.staging import Staging, locked
from pipeline.model.store.steps import after

_log = logging.getLogger(__name__)
_SPARE_BYTES = 64 << 20  # for tokenizer, configs and the file system

Progress = Callable[[int, int], None]


def convert(
    source: Path,
    target: Path,
    *,
    precision: Precision = "int4",
    group_size: int = 32,
    keep_bf16: bool = False,
    calibration: Sequence[str] | None = None,
    source_facts: Mapping[str, str] | None = None,
    progress: Progress = lambda done, total: None,
) -> ConversionReport:
    """Write the text model of ``source`` (a .gguf file) into the new folder ``target``.

    Linear layers become integers of ``precision`` with one scale for ``group_size`` weights;
    embeddings and norms become bfloat16. Codes of Q4_0 (int4 and int8), Q5_0 and Q8_0 (int8) are
    kept when ``group_size`` is 32. Other types are rounded again or, with ``keep_bf16``, stay
    bfloat16. Rounding to int4 uses GPTQ on the texts of ``calibration``. None: a small set of our
    own, if the model is so small that this takes minutes. No texts: the least squared error of the
    weights.

    ``source_facts`` (repository, revision, ...; with "source_sha256" the file is not hashed) go
    into ``rackmill.json``. ``progress`` gets (bytes of the source done, bytes in all).

    The folder appears whole or not at all; after a kill the next call continues after the last
    finished shard. If ``target`` already holds the same conversion, its report is returned.
    Raises UsageError: the file cannot be converted, the disk is too small, ``target`` is taken.
    """
    started = time.monotonic()
    gguf = GgufFile(source)
    config = gguf.config()
    planned = plan_conversion(gguf.tensors(), precision, group_size, keep_bf16)
    texts = calibration_texts(planned, calibration)
    key = _key(gguf, [precision, group_size, keep_bf16, texts])
    target.parent.mkdir(parents=True, exist_ok=True)
    with locked(target) as folder:
        if _is_taken(target, key):
            return _stored_report(target)
        staging = Staging(folder, key)
        with _cleared_if_it_fails(staging):
            _check_space(folder, planned)
            _log.info("converts %s to %s, into %s", source, precision, target)
            known = dict(source_facts or {})
            source_sha256 = known.get("source_sha256") or _in_background(lambda: sha256_of(source))
            config |= _quantization(planned)
            write_tokenizer(gguf, folder)
            rounder = LayerwiseRounding(planned, config, folder, texts) if texts else None
            records = _write_shards(staging, planned, rounder, progress)
            if len(records) > 1:
                _write_json(folder / "model.safetensors.index.json", _index(planned))
            _write_json(folder / "config.json", config)
            tokens = ("bos_token_id", "eos_token_id", "pad_token_id")
            _write_json(folder / "generation_config.json", {key: config[key] for key in tokens})
            report = ConversionReport(
                folder=target,
                tensor_types=losses_by_type(
                    loss for record in records.values() for loss in record["tensors"]
                ),
                seconds=round(time.monotonic() - started, 1),
                bytes_in=source.stat().st_size,
                bytes_out=sum((folder / name).stat().st_size for name in records),
            )
            words = f"int{planned[0].bits} group {planned[0].group_size}"
            facts = {
                "source": source.name,
                "licence": gguf.family.licence,
                **known,
                "conversion_key": key,
                "conversion": CONVERSION,
                "source_sha256": source_sha256
                if isinstance(source_sha256, str)
                else source_sha256(),
                "quantization": words if "quantization_config" in config else "bf16",
                **{k: v for k, v in report.as_json().items() if k != "folder"},
            }
            hashes = {name: record["sha256"] for name, record in records.items()}
            write_provenance(folder, facts | describe_files(folder, hashes) | {"added": now()})
            staging.publish(target)
            return report


@contextmanager
def _cleared_if_it_fails(staging: Staging) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        if e.errno != errno.ENOSPC:
            raise
        staging.clear()
        raise UsageError(
            f"{staging.path.parent}: the disk became full", "free space there and try again"
        ) from None
    except Exception:  # not on an interrupt: the next call can continue then
        staging.clear()
        raise


def _write_shards(
    staging: Staging,
    planned: Sequence[PlannedTensor],
    rounder: LayerwiseRounding | None,
    progress: Progress,
) -> dict[str, dict[str, Any]]:
    """Those that are not there yet. Returns the record of each, by its name."""
    total, done = sum(p.tensor.n_bytes for p in planned), 0
    records: dict[str, dict[str, Any]] = {}
    for name, members in into_shards(planned):
        # the calibration texts must pass every layer again, so all shards are made again
        record = None if rounder else staging.finished(name)
        if record is None:
            path = staging.path / name
            record = _write_shard(path, members, rounder, after(done, total, progress))
            staging.finish(name, record)
        done += sum(p.tensor.n_bytes for p in members)
        progress(done, total)
        records[name] = record
    return records


def _write_shard(
    path: Path,
    members: Sequence[PlannedTensor],
    rounder: LayerwiseRounding | None,
    progress: Callable[[int], None],
) -> dict[str, Any]:
    """Returns the shard's record: its size, SHA-256 and the rounding losses of its tensors."""
    losses: list[dict[str, Any]] = []
    done = 0
    with SafetensorsWriter(path, [slot for p in members for slot in p.slots]) as writer:
        for planned in members:
            total = RoundingLoss()
            for rows in transfer(planned, rounder.codes(planned) if rounder else None):
                for name, values in rows.slots.items():
                    writer.write(name, values)
                total.add(rows.loss)
                done += rows.n_bytes
                progress(done)
            losses.append(
                {
                    "storage_type": planned.tensor.storage_type,
                    "kind": planned.tensor.module_kind,
                    "what": _words(planned, calibrated=rounder is not None),
                    "loss": asdict(total),
                }
            )
        digest = writer.close()
    return {"bytes": path.stat().st_size, "sha256": digest, "tensors": losses}


def _words(planned: PlannedTensor, *, calibrated: bool) -> str:
    if planned.how is TensorMethod.ROUND:
        method = "GPTQ" if calibrated else "least squared error"
        lost = carries(planned.tensor.span.kind, planned.bits, GROUP_SIZE)
        why = f" (codes are kept in groups of {GROUP_SIZE} only)" if lost else ""
        return f"{ROUNDED} to int{planned.bits}, {method}{why}"
    return str(planned.how)


def _key(gguf: GgufFile, settings: list[Any]) -> str:
    stat = gguf.path.stat()
    parts = json.dumps([CONVERSION, gguf.digest, stat.st_mtime_ns, *settings])
    return hashlib.sha256(parts.encode()).hexdigest()


def _is_taken(target: Path, key: str) -> bool:
    """Whether ``target`` holds this conversion already. Raises UsageError if it holds another."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return False
    if target.is_dir() and read_provenance(target).get("conversion_key") == key:
        return True
    raise UsageError(f"{target} exists and holds something else", "name a new folder, or remove it")


def _stored_report(target: Path) -> ConversionReport:
    known = read_provenance(target)
    names = ("tensor_types", "seconds", "bytes_in", "bytes_out")
    return ConversionReport(folder=target, **{name: known[name] for name in names})


def _check_space(folder: Path, planned: Sequence[PlannedTensor]) -> None:
    there = sum(f.stat().st_size for f in folder.glob("*.safetensors"))
    needed = sum(p.n_bytes for p in planned) + _SPARE_BYTES - there
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UsageError(
            f"{folder.parent}: the converted model needs {size(needed)} more and {size(free)} "
            "are free",
            "free space there, or convert to another disk",
        )


def _index(planned: Sequence[PlannedTensor]) -> dict[str, Any]:
    """``model.safetensors.index.json``: which file holds which tensor."""
    return {
        "metadata": {"total_size": sum(p.n_bytes for p in planned)},
        "weight_map": {
            slot.name: name
            for name, members in into_shards(planned)
            for p in members
            for slot in p.slots
        },
    }


def _quantization(planned: Sequence[PlannedTensor]) -> dict[str, Any]:
    """The additions to the config: nothing if no tensor is quantized."""
    linear = [p for p in planned if p.tensor.is_linear]
    if all(p.how is TensorMethod.BF16 for p in linear):
        return {}
    weights = {
        "num_bits": linear[0].bits,
        "type": "int",
        "symmetric": True,
        "strategy": "group",
        "group_size": linear[0].group_size,
        "dynamic": False,
    }
    group = {
        "targets": ["Linear"],
        "weights": weights,
        "input_activations": None,
        "output_activations": None,
    }
    return {
        "quantization_config": {
            "quant_method": "compressed-tensors",
            "format": "pack-quantized",
            "quantization_status": "compressed",
            "config_groups": {"group_0": group},
            "ignore": ["lm_head", *(p.module for p in linear if p.how is TensorMethod.BF16)],
        }
    }


def _in_background(work: Callable[[], str]) -> Callable[[], str]:
    """Start ``work`` in a thread, for another core. Returns a function that gives the result."""
    future: Future[str] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as e:
            future.set_exception(e)

    # a daemon: a failed conversion does not wait until the rest of the file is read
    threading.Thread(target=run, daemon=True).start()
    return future.result


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
