"""Reviews as Argilla's records: a list, as ``dataset.records.to_json`` writes it.

    {"id", "fields": {FIELD: TEXT}, "metadata": {"file", "row", …},
     "suggestions": {QUESTION: {"value", "score", "agent"}},
     "responses": {QUESTION: [{"value", "user_id", "status"}]}}

A submitted response is an answer, a discarded one is "unsure", a draft is neither. Argilla's users
have UUIDs: a reviewer's UUID is made from the name, which is in the metadata. The older format,
with lists of responses that have ``values``, can also be read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from pipeline.errors import UsageError
from pipeline.output.reviews.exchange.shapes import (
    MODEL,
    ExportedRow,
    ImportedAnswer,
    reviewer_called,
)


def written(out: ExportedRow, question: str) -> dict[str, Any]:
    suggestion = {"value": out.shown.answer, "score": out.shown.confidence, "agent": MODEL}
    responses = [
        {
            "value": answer.value,
            "user_id": _user(reviewer),
            "status": "submitted" if answer.value is not None else "discarded",
        }
        for reviewer, answer in out.answers.items()
    ]
    names = {"reviewers": " ".join(out.answers)} if out.answers else {}
    return {
        "id": f"{out.facts['file']}:{out.facts['row']}",
        "fields": dict(out.shown.texts),
        "metadata": out.facts | names,
        "suggestions": {question: suggestion} if out.shown.answer is not None else {},
        "responses": {question: responses} if responses else {},
        "vectors": {},
        "status": "completed" if responses else "pending",
    }


def _user(reviewer: str) -> str:
    return str(uuid5(NAMESPACE_URL, f"rackmill:{reviewer}"))


def is_record(record: Mapping[str, Any]) -> bool:
    return "fields" in record and "data" not in record


def read(record: Mapping[str, Any], question: str, where: str) -> Iterator[ImportedAnswer]:
    """Raises UsageError for a record that does not identify its row."""
    about = record.get("metadata")
    about = about if isinstance(about, Mapping) else {}
    file, row = about.get("file"), about.get("row")
    if not isinstance(file, str) or type(row) is not int:
        raise UsageError(f"{where}: its metadata do not say of which file and row it is")
    names = {_user(name): name for name in str(about.get("reviewers") or "").split()}
    for response in _responses(record.get("responses"), question):
        user, status = response.get("user_id"), response.get("status", "submitted")
        reviewer = names.get(str(user)) or reviewer_called(user)
        value = response.get("value")
        if status == "discarded":
            yield ImportedAnswer(file, row, None, reviewer, where)
        elif status == "submitted" and value is not None:
            yield ImportedAnswer(file, row, str(value), reviewer, where)


def _responses(found: Any, question: str) -> Iterator[Mapping[str, Any]]:
    if isinstance(found, Mapping):
        listed = found.get(question)
        yield from (one for one in listed or () if isinstance(one, Mapping))
    elif isinstance(found, list):  # the format of Argilla 1
        for one in found:
            values = one.get("values") if isinstance(one, Mapping) else None
            said = values.get(question) if isinstance(values, Mapping) else None
            value = said.get("value") if isinstance(said, Mapping) else None
            if isinstance(one, Mapping):
                yield {**one, "value": value}
