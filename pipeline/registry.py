"""Members by name, for what can be added to from outside: one line registers each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

from pipeline.errors import did_you_mean, one_of


class Named(Protocol):
    """What has the name that a job file gives it."""

    @property
    def name(self) -> str: ...


Member = TypeVar("Member", bound=Named)


class Registry(Generic[Member]):
    """Iterates over its members, in the order in which they were added."""

    def __init__(self, *members: Member) -> None:
        self._members = {one.name: one for one in members}

    def __iter__(self) -> Iterator[Member]:
        return iter(self._members.values())

    def add(self, member: Member) -> None:
        """Let jobs name ``member``."""
        self._members[member.name] = member

    def remove(self, name: str) -> None:
        """Let them name it no more."""
        del self._members[name]

    def find(self, name: str) -> Member | None:
        return self._members.get(name)

    def known(self, name: str) -> str:
        """``name``, if a member has it. Raises ValueError."""
        return self.get(name).name

    def get(self, name: str) -> Member:
        """The member of that name. Raises ValueError, with those that there are."""
        if name in self._members:
            return self._members[name]
        wanted = f"give {one_of(self._members)}, not {name!r}"
        raise ValueError("; ".join([wanted, *did_you_mean(name, self._members)]))
