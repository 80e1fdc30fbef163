"""What a conversion costs in quality: models score the same texts, and are compared."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.data.shards import discover
from pipeline.data.storage import open_storage
from pipeline.errors import UsageError, did_you_mean
from pipeline.fleet.run import RunOptions, Watcher, run
from pipeline.model.store import ModelFolder, check_reference, resolve
from pipeline.model.tokenizer import Tokenizer
from pipeline.report.picture import draw_quality
from pipeline.report.quality import Quality, RowSums, assess, compare_rows
from pipeline.report.summary import Summary
from pipeline.schedule.request import Scores
from pipeline.spec.job import Input, Job
from pipeline.spec.load import job_from

DEFAULT_TOP_K = 2048
DEFAULT_OUTPUT = "runs/quality"
RESULT, PICTURE = "quality.json", "quality.png"
_ROWS_AT_ONCE = 32
_COLUMNS = ["token_ids", "token_logprobs", "top_token_ids", "top_logprobs"]


@dataclass(frozen=True)
class Compared:
    """One candidate: its reference as the job file would name it, and what came out."""

    model: str
    quality: Quality


@dataclass(frozen=True)
class Comparison:
    """All that `rackmill quality` says. ``rows``: compared; ``failed``: left out, because one
    of the models could not score them (too long, null, empty)."""

    reference: str
    data: str
    column: str
    top_k: int
    rows: int
    failed: int
    tokens: int
    candidates: tuple[Compared, ...]
    outputs: dict[str, str]  # model -> its score job's output
    result: str
    picture: str
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """Plain data; each statistic as {value, low, high}. A number that is none is null."""
        content = asdict(self)
        content["candidates"] = [
            {"model": c["model"], **c["quality"]} for c in content["candidates"]
        ]
        plain: dict[str, Any] = _finite(content)
        return plain


def compare(
    reference: str,
    candidates: Sequence[str],
    data: str,
    *,
    column: str = "text",
    output: str = DEFAULT_OUTPUT,
    top_k: int = DEFAULT_TOP_K,
    settings: Sequence[str] = (),
    options: RunOptions | None = None,
    watch: Callable[[], AbstractContextManager[Watcher]] = lambda: nullcontext(Watcher()),
    note: Callable[[str], None] = lambda line: None,
) -> Comparison:
    """Score ``column`` of ``data`` with every model and compare each candidate with ``reference``.

    Each model's scores are a dataset in a folder of ``output``: a second call goes on from them.
    ``settings``: ``key.path=value`` lines laid over the score jobs. ``watch`` gives a watcher for
    each of the runs, ``note`` gets a line before other steps. Raises UsageError, JobFailed.
    """
    models = (reference, *candidates)
    folders = _folders(models, output)
    for model in models:
        check_reference(model)
    _check_column(data, column)
    _check_vocabularies(reference, candidates, note)
    jobs = {m: _job(m, data, column, folders[m], top_k, settings) for m in models}
    summaries: dict[str, Summary] = {}
    for model, job in jobs.items():
        with watch() as watcher:
            summaries[model] = run(job, options, watcher)
    note("comparing")
    compared: list[Compared] = []
    for candidate in candidates:
        rows = RowSums.joined(list(_read(folders[reference], folders[candidate])))
        compared.append(Compared(candidate, assess(rows)))
    comparison = Comparison(
        reference=reference,
        data=data,
        column=column,
        top_k=top_k,
        rows=compared[0].quality.rows,
        failed=max(s.failed for s in summaries.values()),
        tokens=compared[0].quality.tokens,
        candidates=tuple(compared),
        outputs={m: s.output for m, s in summaries.items()},
        result=open_storage(output).address(RESULT),
        picture=open_storage(output).address(PICTURE),
        seconds=round(sum(s.seconds for s in summaries.values()), 1),
    )
    _write(comparison, output)
    return comparison


def _write(comparison: Comparison, output: str) -> None:
    storage = open_storage(output)
    text = json.dumps(comparison.as_json(), indent=1, ensure_ascii=False)
    storage.replace(RESULT, text.encode())
    drawn = [(c.model, c.quality) for c in comparison.candidates]
    source = f"{comparison.column} of {comparison.data}"
    storage.replace(PICTURE, draw_quality(comparison.reference, drawn, source))


def _job(
    model: str, data: str, column: str, folder: str, top_k: int, settings: Sequence[str]
) -> Job:
    name = folder.rsplit("/", 1)[-1]
    content = {
        "name": f"quality-{name}"[:100],
        "model": model,
        "input": {"path": data},
        "prompt": {"column": column},
        "score": {"top_k": top_k},
        "output": {"path": folder, "keep": []},
    }
    return job_from(content, settings)


def _folders(models: Sequence[str], output: str) -> dict[str, str]:
    """An output folder for each model, named after it. Raises UsageError for one named twice."""
    folders: dict[str, str] = {}
    for model in models:
        if model in folders:
            raise UsageError(f"{model} is named twice", "compare different models")
        last = model.rstrip("/").replace(":", "/").rsplit("/", 1)[-1].removesuffix(".gguf")
        name = "".join(c if c.isalnum() or c in "._-" else "-" for c in last).lstrip("._-")
        folder = f"{output.rstrip('/')}/{name or 'model'}"
        while folder in folders.values():
            folder += "-2"
        folders[model] = folder
    return folders


def _check_column(data: str, column: str) -> None:
    names = discover(Input(path=data)).schema.names
    if column in names or column.partition(".")[0] in names:
        return
    near = did_you_mean(column, names)
    raise UsageError(
        f"--column {column}: {data} has no such column",
        f"columns: {', '.join(names)}",
        *([f"did you mean {near}?"] if near else []),
    )


def _check_vocabularies(
    reference: str, candidates: Sequence[str], note: Callable[[str], None]
) -> None:
    """Probabilities of tokens compare only where the tokens are the same. Raises UsageError."""
    first = resolve(reference, note)
    known: dict[str, int] | None = None
    for candidate in candidates:
        other = resolve(candidate, note)
        if _tokenizer_file(first) == _tokenizer_file(other):
            continue
        known = known or Tokenizer(first.path).ids
        ids = Tokenizer(other.path).ids
        if ids == known:
            continue
        differing = [t for t in known.keys() | ids.keys() if known.get(t) != ids.get(t)]
        raise UsageError(
            f"{candidate} and {reference} have different tokenizers: {len(differing)} tokens "
            f"differ, {min(differing)!r} for one",
            "their probabilities cannot be compared token by token; compare models of one family",
        )


def _tokenizer_file(model: ModelFolder) -> bytes:
    return (model.path / "tokenizer.json").read_bytes()


def _read(reference: str, candidate: str) -> Iterator[RowSums]:
    """The row sums of both outputs, part by part; rows that failed in either are left out."""
    first, second = open_storage(reference), open_storage(candidate)
    names = sorted(path for path, _ in first.files("") if path.endswith(".parquet"))
    found = False
    for name in names:
        parts = [
            pq.ParquetFile(io.BytesIO(storage.read(name) or b"")).iter_batches(
                batch_size=_ROWS_AT_ONCE, columns=_COLUMNS
            )
            for storage in (first, second)
        ]
        for one, two in zip(*parts, strict=True):
            both = pc.and_(one["token_ids"].is_valid(), two["token_ids"].is_valid())
            one, two = one.filter(both), two.filter(both)
            if not one.num_rows:
                continue
            lengths = pc.list_value_length(one["token_ids"]).to_numpy()
            try:
                yield compare_rows(_scores(one), _scores(two), lengths)
            except ValueError:
                raise UsageError(
                    f"{reference} and {candidate} scored different tokens of the same rows",
                    "their tokenizers split texts differently: they cannot be compared",
                ) from None
            found = True
    if not found:
        raise UsageError(
            f"there is nothing to compare: no row has scores in both {reference} and {candidate}",
            f"look at the column `error` there: {_first_error(reference)}",
        )


def _first_error(folder: str) -> str:
    storage = open_storage(folder)
    for path, _ in storage.files(""):
        if path.endswith(".parquet"):
            table = pq.read_table(io.BytesIO(storage.read(path) or b""), columns=["error"])
            for error in table["error"].to_pylist():
                if error:
                    return str(error["message"])
    return "the data has no rows"


def _scores(batch: pa.RecordBatch) -> Scores:
    token_ids, logprobs, top_ids, top_logprobs = (batch[name].flatten() for name in _COLUMNS)
    width = top_ids.type.list_size
    return Scores(
        token_ids.to_numpy(),
        logprobs.to_numpy(),
        top_ids.flatten().to_numpy().reshape(-1, width),
        top_logprobs.flatten().to_numpy().reshape(-1, width),
    )


def _finite(value: Any) -> Any:
    """JSON knows no infinity."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    return [_finite(v) for v in value] if isinstance(value, list | tuple) else value
