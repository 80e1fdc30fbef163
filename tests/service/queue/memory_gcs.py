"""What a rack's head keeps by name, in memory: a stand-in for `Gcs` without Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pipeline.cluster.rack_state.gcs import HeadGone


class MemoryGcs:
    """``moment``: called before each request; what it raises, the request raises. ``asked``: after
    each value that was put: whoever answers questions."""

    def __init__(
        self,
        moment: Callable[[], None] = lambda: None,
        asked: Callable[[MemoryGcs], None] | None = None,
    ) -> None:
        self.address = "head:6379"
        self.values: dict[str, bytes] = {}
        self.gone = False
        self.moment, self._asked = moment, asked
        self._answering = False

    def _request(self) -> None:
        if self.gone:
            raise HeadGone(f"the rack's head at {self.address} does not answer: it is gone")
        self.moment()

    def put(self, name: str, value: bytes, *, over: bool = True) -> bool:
        self._request()
        new = name not in self.values
        if new or over:
            self.values[name] = value
        if self._asked is not None and not self._answering:
            self._answering = True
            try:
                self._asked(self)
            finally:
                self._answering = False
        return new

    def get(self, name: str) -> bytes | None:
        return self.all([name]).get(name)

    def all(self, names: Iterable[str]) -> dict[str, bytes]:
        self._request()
        return {name: self.values[name] for name in names if name in self.values}

    def names(self, prefix: str) -> list[str]:
        self._request()
        return sorted(name for name in self.values if name.startswith(prefix))

    def delete(self, name: str) -> None:
        self._request()
        self.values.pop(name, None)

    def close(self) -> None:
        """Nothing is open."""
