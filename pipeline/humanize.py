"""Numbers as people read them."""

from __future__ import annotations

from decimal import Decimal

_STEPS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def duration(seconds: float) -> str:
    """Seconds as "8.3 s", "4 min 10 s", "2 h 10 min" or "3 d 4 h"."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{whole} s"
    for size, name, smaller, small_name in (
        (86_400, "d", 3_600, "h"),
        (3_600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {name}" + (f" {rest} {small_name}" if rest else "")
    return f"{whole} s"


def count(number: float) -> str:
    """Thousands set apart: "12 345"."""
    return f"{number:,.0f}".replace(",", " ")


def percent(share: float) -> str:
    """A share of one as "5 %" or "2.5 %"."""
    return f"{100 * share:.3g} %"


def rate(per_second: float) -> str:
    """A rate's number: "36.1", "512", "3.9 k"."""
    for size, letter in _STEPS:
        if per_second >= 0.99995 * size if size > 1e3 else round(per_second) >= 1000:
            return f"{per_second / size:.1f} {letter}"
    return f"{per_second:.0f}" if per_second >= 99.95 else f"{per_second:.1f}"


def size(number: float) -> str:
    """Bytes as GiB, MiB or, of less, KiB."""
    if 0 < number < 0.95 * (1 << 20):
        return f"{max(1, round(number / (1 << 10)))} KiB"
    gib = number / (1 << 30)
    return f"{gib:.1f} GiB" if gib >= 0.95 else f"{number / (1 << 20):.0f} MiB"


def energy(kwh: float) -> str:
    """Kilowatt hours, or of less watt hours: "1.24 kWh", "38 Wh"."""
    return f"{kwh:.3g} kWh" if kwh >= 1 else f"{1000 * kwh:.3g} Wh"


def money(amount: float) -> str:
    """An amount in whatever currency, in plain digits: "12.50", "0.012", "0.000053"."""
    if amount >= 0.995 or not amount:
        return f"{amount:,.2f}".replace(",", " ")
    return f"{Decimal(f'{amount:.2g}'):f}"


def plural(number: float, word: str) -> str:
    """ "1 row", "12 rows"."""
    return f"{count(number)} {word}" + ("" if number == 1 else "s")
