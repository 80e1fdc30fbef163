"""Why rows fail: messages without the parts specific to a row, so equal reasons are counted."""

from __future__ import annotations

import re
from collections import Counter

OTHERS = "other reasons"
NO_CONTEXT = "more than any context holds"
_MOST = 8  # distinct reasons, of one type of error in one unit
_MOST_IN_SUMS = 64  # of one type, so that reasons frequent overall are found among the units'
_ROOM = 512  # reasons of all types
_LONGEST = 160  # characters
_NUMBER = re.compile(r"\d[\d.,]*")


def reason_of(message: str) -> str:
    """The first line of a message, with ``…`` for numbers: lengths and places differ by row."""
    line = _NUMBER.sub("…", message.strip().partition("\n")[0])
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"


def count_reason(reasons: Counter[str], kind: str, message: str) -> None:
    """Count one more row in ``reasons`` ("type<TAB>reason" -> rows), which stays small whatever the
    messages are."""
    key = f"{kind}\t{reason_of(message)}"
    if key not in reasons and sum(k.startswith(f"{kind}\t") for k in reasons) >= _MOST:
        key = f"{kind}\t{OTHERS}"
    reasons[key] += 1


def discount_reason(reasons: Counter[str], kind: str, message: str) -> None:
    """Subtract a row that was counted before, if its reason was counted."""
    for reason in (reason_of(message), OTHERS):
        key = f"{kind}\t{reason}"
        if reasons.get(key, 0) > 0:
            reasons[key] -= 1
            return


def bound_reasons(reasons: Counter[str]) -> None:
    """If there are too many reasons, count the rarest together."""
    if len(reasons) <= _ROOM:
        return
    frequent = reasons.most_common()
    reasons.clear()
    told: Counter[str] = Counter()
    for key, rows in frequent:
        kind = key.partition("\t")[0]
        told[kind] += 1
        reasons[key if told[kind] <= _MOST_IN_SUMS else f"{kind}\t{OTHERS}"] += rows


def reasons_by_type(reasons: Counter[str]) -> dict[str, dict[str, int]]:
    """Type -> reason -> rows, the most frequent first; after the eighth, counted together."""
    found: dict[str, dict[str, int]] = {}
    for key, rows in sorted(reasons.items(), key=lambda item: (-item[1], item[0])):
        kind, _, reason = key.partition("\t")
        of_type = found.setdefault(kind, {})
        if len(of_type) >= _MOST or reason == OTHERS:
            of_type[OTHERS] = of_type.get(OTHERS, 0) + rows
        else:
            of_type[reason] = rows
    return found
