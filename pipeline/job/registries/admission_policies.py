"""The admission policies that a job may name: one line each.

A policy's code is a separate module above this layer, imported when it is needed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.errors import did_you_mean
from pipeline.registry import Registry


@dataclass(frozen=True)
class AdmissionPolicy:
    """``name``: the value of ``engine.admission``. ``module``: its code, an
    ``admission.policy.PolicyModule``. ``numbered``: the name is followed by a colon and a number of
    requests, as in "static:12"."""

    name: str
    module: str
    numbered: bool = False

    @property
    def form(self) -> str:
        """How it is written: "packed", "static:K"."""
        return f"{self.name}:K" if self.numbered else self.name


ADMISSION_POLICIES = Registry(
    AdmissionPolicy("packed", "pipeline.admission.policies.packed"),
    AdmissionPolicy("engine", "pipeline.admission.policies.pass_through"),
    AdmissionPolicy("static", "pipeline.admission.policies.static", numbered=True),
    AdmissionPolicy("worst-case", "pipeline.admission.policies.worst_case"),
)


def admission_policy(text: str, beside: Iterable[str] = ()) -> tuple[AdmissionPolicy, int]:
    """The policy that ``text`` names, and its number (0 if it has none).

    Raises ValueError that lists the known ones, with ``beside``, or says how to write this one.
    """
    name, colon, number = text.partition(":")
    policy = ADMISSION_POLICIES.find(name)
    if policy is None or (colon and not policy.numbered):
        names = [*(one.name for one in ADMISSION_POLICIES), *beside]
        forms = [*(one.form for one in ADMISSION_POLICIES), *beside]
        said = f"give {' or '.join(map(repr, forms))}, not {text!r}"
        raise ValueError("; ".join([said, *did_you_mean(name, names)]))
    if not policy.numbered:
        return policy, 0
    if number.isascii() and number.isdecimal() and int(number) > 0:
        return policy, int(number)
    raise ValueError(f"{text!r} says no number of requests; write it like {name}:12")
