"""How far different engines of a run agree, in words."""

from __future__ import annotations

from pipeline.humanize import count
from pipeline.report.summary import Summary


def agreement_in_words(s: Summary) -> list[str]:
    """One sentence for each two engines; or one that it is not known, if no two answered a row."""
    if len(s.answered_by) < 2:
        return []
    if not s.agreement:
        return ["How far they agree is not known: no row was answered by two of them."]
    return [
        f"{one['engines'][0]} and {one['engines'][1]} agree on {count(one['equal'])} of "
        f"{count(one['rows'])} rows that both answered ({one['equal'] / one['rows']:.0%}; between "
        f"{one['low']:.0%} and {one['high']:.0%} with 95 % confidence)."
        for one in s.agreement
    ]
