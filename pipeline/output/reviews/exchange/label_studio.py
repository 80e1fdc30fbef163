"""Reviews as Label Studio's tasks: a list, as it exports and imports JSON.

    {"data": {FIELD: TEXT, "rackmill": {"file", "row", …}},
     "predictions": [{"model_version", "score", "result": [RESULT]}],
     "annotations": [{"result": [RESULT], "was_cancelled", "reviewer"}]}
    RESULT: {"from_name": QUESTION, "to_name": FIELD, "type": "choices", "value": {"choices": […]}}

A cancelled annotation (skipped there) is "unsure". The annotator's name comes from ``reviewer``,
otherwise from ``completed_by``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.errors import UsageError, some_of
from pipeline.output.reviews.exchange.shapes import (
    MODEL,
    ExportedRow,
    ImportedAnswer,
    reviewer_called,
)

_OURS = "rackmill"


def written(out: ExportedRow, question: str) -> dict[str, Any]:
    field = next(iter(out.shown.texts), "text")

    def result(choice: str) -> list[dict[str, Any]]:
        about = {"from_name": question, "to_name": field, "type": "choices"}
        return [{**about, "value": {"choices": [choice]}}]

    predictions = [
        {
            "model_version": MODEL,
            "score": out.shown.confidence,
            "result": result(out.shown.answer),
        }
    ] if out.shown.answer is not None else []  # fmt: skip
    annotations = [
        {
            "result": [] if answer.value is None else result(answer.value),
            "was_cancelled": answer.value is None,
            "reviewer": reviewer,
        }
        for reviewer, answer in out.answers.items()
    ]
    data = {**out.shown.texts, _OURS: out.facts}
    return {"data": data, "predictions": predictions, "annotations": annotations}


def is_task(record: Mapping[str, Any]) -> bool:
    return isinstance(record.get("data"), Mapping)


def read(task: Mapping[str, Any], question: str, where: str) -> Iterator[ImportedAnswer]:
    """Raises UsageError for a task that does not identify its row."""
    about = task["data"].get(_OURS)
    about = about if isinstance(about, Mapping) else {}
    file, row = about.get("file"), about.get("row")
    if not isinstance(file, str) or type(row) is not int:
        raise UsageError(f"{where}: its data.{_OURS} does not say of which file and row it is")
    for annotation in task.get("annotations") or ():
        if not isinstance(annotation, Mapping):
            continue
        by = annotation.get("reviewer") or annotation.get("completed_by")
        by = (by.get("email") or by.get("id")) if isinstance(by, Mapping) else by
        reviewer = reviewer_called(by)
        if annotation.get("was_cancelled"):
            yield ImportedAnswer(file, row, None, reviewer, where)
            continue
        for value in _choices(annotation.get("result"), question, where):
            yield ImportedAnswer(file, row, value, reviewer, where)


def _choices(results: Any, question: str, where: str) -> Iterator[str]:
    for result in results if isinstance(results, list) else ():
        if not isinstance(result, Mapping) or result.get("type") != "choices":
            continue
        value = result.get("value")
        chosen = value.get("choices") if isinstance(value, Mapping) else None
        if result.get("from_name") != question or not isinstance(chosen, list) or not chosen:
            continue
        if len(chosen) > 1:
            raise UsageError(
                f"{where}: an annotation chooses {some_of([str(one) for one in chosen], 5)}",
                f"{question} has one right answer: leave one of them",
            )
        yield str(chosen[0])
