"""What helps against each type of error row, and whether a retry can help."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.errors import RowErrorType
from pipeline.report.summary import Summary
from pipeline.rows.error_reasons import NO_CONTEXT, OTHERS

FIXES: Mapping[str, str] = {
    RowErrorType.PROMPT_TOO_LONG: "raise engine.max_model_len, or shorten the input",
    RowErrorType.SCHEMA_NOT_MET: "raise sampling.max_tokens, or simplify the schema",
    RowErrorType.INVALID_ROW: "fix these rows of the input, then run the job again",
    RowErrorType.INVALID_SAMPLING: "fix the rows' sampling_params, then run the job again",
    RowErrorType.ENGINE_FAILURE: "its engine died with it: see the message; retry tries it again",
    RowErrorType.TIMEOUT: "raise faults.row_timeout_seconds, or lower sampling.max_tokens",
}

_AT_THE_LIMIT = "the model takes no more: shorten or split the text, or take another model"

# these fail before any engine sees them, and in the same way each time
HOPELESS = frozenset({RowErrorType.INVALID_ROW, RowErrorType.INVALID_SAMPLING})
RETRIED = frozenset(str(kind) for kind in RowErrorType) - HOPELESS

# the settings with which a retry can succeed
_RETRIES: Mapping[str, str] = {
    RowErrorType.ENGINE_FAILURE: "",
    RowErrorType.TIMEOUT: " --set faults.row_timeout_seconds=SECONDS",
    RowErrorType.PROMPT_TOO_LONG: " --set engine.max_model_len=TOKENS",
}


def fix_for(kind: str, *, at_limit: bool = False) -> str:
    """What helps against that type of error. ``at_limit``: the engines already had the model's
    whole context."""
    if at_limit and kind == RowErrorType.PROMPT_TOO_LONG:
        return _AT_THE_LIMIT
    return FIXES.get(kind, "")


def at_limit(summary: Mapping[str, Any]) -> bool:
    """Whether no larger context could help: the engines of the run with that summary had the
    model's whole context, or every prompt that was too long was longer than any context."""
    reasons = summary.get("error_reasons", {}).get(RowErrorType.PROMPT_TOO_LONG, {})
    if reasons and all(NO_CONTEXT in reason for reason in reasons):
        return True
    most = summary.get("model_context") or math.inf
    contexts = [engine.get("max_model_len", 0) for engine in summary.get("engines", ())]
    return bool(contexts) and min(contexts) >= most


def next_step(errors: Mapping[str, int], output: str, *, at_limit: bool = False) -> str | None:
    """What to do about the ``errors`` (type -> rows) of the dataset at ``output``: a command if one
    helps, else what must change first; None without errors. ``at_limit``: see ``fix_for``.
    """
    for kind, settings in _RETRIES.items():
        if errors.get(kind) and not (at_limit and kind == RowErrorType.PROMPT_TOO_LONG):
            return f"rackmill retry {output}{settings}"
    kinds = [kind for kind in FIXES if errors.get(kind)]
    return "; ".join(fix_for(kind, at_limit=at_limit) for kind in kinds) or None


def error_lines(summary: Summary) -> Iterator[tuple[str, int, str, str]]:
    """For each type of error and each reason: type, rows, why (if there is one reason, the message
    of some row), and what helps."""
    limit = at_limit(vars(summary))
    for kind, rows in summary.errors.items():
        reasons = dict(summary.error_reasons.get(kind, {}))
        unknown = rows - sum(reasons.values())  # rows that an earlier version counted
        if unknown > 0:
            reasons[OTHERS] = reasons.get(OTHERS, 0) + unknown
        if len(reasons) < 2:
            reasons = {summary.error_examples.get(kind, ""): rows}
        for why, number in reasons.items():
            yield kind, number, why, fix_for(kind, at_limit=limit)
