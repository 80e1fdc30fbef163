"""What a conversion costs in quality: models score the same texts, and are compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_jsonable_python

from pipeline.driver.plan.plan import check_input, make_plan
from pipeline.driver.progress.watcher import Watcher
from pipeline.driver.run import RunOptions, run
from pipeline.engine.machine.host import available_memory
from pipeline.errors import UsageError, did_you_mean
from pipeline.humanize import size
from pipeline.input.shards import discover
from pipeline.job.file.load import job_from
from pipeline.job.job import Input, Job
from pipeline.model.folder import ModelFolder
from pipeline.model.store.resolve import check_reference, resolve
from pipeline.model.tokenizer import Tokenizer
from pipeline.output.columns.scores import first_error, paired_scores
from pipeline.output.folder import as_json
from pipeline.report.comparison.picture import draw_quality
from pipeline.report.comparison.quality import CandidateQuality, RowSums, assess, compare_rows
from pipeline.report.summary import Summary
from pipeline.storage.base import open_storage

DEFAULT_TOP_K = 2048
DEFAULT_OUTPUT = "runs/quality"
RESULT, PICTURE = "quality.json", "quality.png"
_BYTES_PER_TOKEN = 8  # and alternative: an id and a log-probability


@dataclass(frozen=True)
class CandidateResult:
    """One candidate: its reference as the job file would name it, and what came out."""

    model: str
    quality: CandidateQuality


@dataclass(frozen=True)
class QualityReport:
    """All that `rackmill quality` says. ``rows``: compared; ``failed``: left out, because one
    of the models could not score them (too long, null, empty)."""

    reference: str
    data: str
    column: str
    top_k: int
    rows: int
    failed: int
    tokens: int
    candidates: tuple[CandidateResult, ...]
    outputs: dict[str, str]  # model -> its score job's output
    result: str
    picture: str
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """Plain data; each statistic as {value, low, high}. A number that is none is null."""
        content: dict[str, Any] = to_jsonable_python(self, inf_nan_mode="null")
        content["candidates"] = [
            {"model": c["model"], **c["quality"]} for c in content["candidates"]
        ]
        return content


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
) -> QualityReport:
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
    note(_check_size(jobs[reference], options, output))
    summaries: dict[str, Summary] = {}
    for model, job in jobs.items():
        with watch() as watcher:
            summaries[model] = run(job, options, watcher)
    note("comparing")
    compared = [CandidateResult(c, _assessed(folders[reference], folders[c])) for c in candidates]
    comparison = QualityReport(
        reference=reference,
        data=data,
        column=column,
        top_k=top_k,
        rows=compared[0].quality.rows,
        failed=summaries[reference].rows - compared[0].quality.rows,
        tokens=compared[0].quality.tokens,
        candidates=tuple(compared),
        outputs={m: s.output for m, s in summaries.items()},
        result=open_storage(output).address(RESULT),
        picture=open_storage(output).address(PICTURE),
        seconds=round(sum(s.seconds for s in summaries.values()), 1),
    )
    _write(comparison, output)
    return comparison


def _assessed(reference: str, candidate: str) -> CandidateQuality:
    parts: list[RowSums] = []
    for one, two, lengths in paired_scores(reference, candidate):
        try:
            parts.append(compare_rows(one, two, lengths))
        except ValueError:
            raise UsageError(
                f"{reference} and {candidate} scored different tokens of the same rows",
                "their tokenizers split texts differently: they cannot be compared",
            ) from None
    if not parts:
        raise UsageError(
            f"there is nothing to compare: no row has scores in both {reference} and {candidate}",
            f"the first row's error there: {first_error(reference) or 'there are no rows'}",
        )
    return assess(RowSums.joined(parts))


def _check_size(job: Job, options: RunOptions | None, output: str) -> str:
    """How much a model's scores take. Raises UsageError when they cannot be held in memory: a
    worker holds a unit's rows until they are whole, and once more while it writes them."""
    assert job.score is not None
    top_k = job.score.top_k or 0
    plan = make_plan(check_input(job, options.rows if options else None), fresh=True)
    per_row = plan.sample.shape.mean * _BYTES_PER_TOKEN
    held = 3 * per_row * max(unit.rows for unit in plan.units)
    room = available_memory()
    if held * top_k > room:
        raise UsageError(
            f"--top-k {top_k}: the scores of texts of {plan.sample.shape.mean:,.0f} tokens take "
            f"{size(held * top_k)} in memory, and {size(room)} are free",
            f"give --top-k {max(2, int(room / held / 2))} or less, or cut the texts",
        )
    return f"each model's scores take up to {size(per_row * plan.input.rows * top_k)} in {output}"


def _write(comparison: QualityReport, output: str) -> None:
    storage = open_storage(output)
    storage.replace(RESULT, as_json(comparison.as_json()))
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
    raise UsageError(
        f"--column {column}: {data} has no such column",
        f"columns: {', '.join(names)}",
        *did_you_mean(column, names),
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
