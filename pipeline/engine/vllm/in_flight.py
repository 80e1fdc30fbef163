"""The requests that an engine's core works on, by the names that the core has for them.

A core in a separate process steps by itself. When a stop string is found here, or a row's time is
over, the core learns of it a step or two later. What it sends for that request until then must be
dropped: the request has its result already. Its number alone is not enough: a kept engine's next
job numbers its requests from 0 again.
"""

from __future__ import annotations

from collections.abc import Iterable


class InFlight:
    """Requests from when they were handed over until they ended or were aborted. vLLM's core names
    a request by our number, followed by a hyphen and random characters."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._names)

    def began(self, request_id: int, name: str) -> None:
        """The core got ``request_id``, which it calls ``name``."""
        self._names[request_id] = name

    def ended(self, request_ids: Iterable[int]) -> None:
        """These are no longer wanted, whether they are known or not."""
        for request_id in request_ids:
            self._names.pop(request_id, None)

    def find(self, name: str) -> int | None:
        """The request of that name; None if it has ended."""
        request_id = int(name.partition("-")[0])
        return request_id if self._names.get(request_id) == name else None
