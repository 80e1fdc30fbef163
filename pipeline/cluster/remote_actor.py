"""Ray's actors with types.

Ray creates the methods of an actor's handle at run time, each with a ``remote`` that accepts and
returns anything, so a type checker cannot check them. Only this module looks up a handle's method
by name; callers pass the method of the class, so their arguments and results are checked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Concatenate, Generic, ParamSpec, TypeVar

import ray

C = TypeVar("C")
C_co = TypeVar("C_co", covariant=True)
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
P = ParamSpec("P")


@dataclass(frozen=True)
class RemoteFuture(Generic[T_co]):
    """The result of a call that may still be running. ``ref``: Ray's reference to it."""

    ref: object

    def get(self, timeout_seconds: float | None = None) -> T_co:
        """Wait for it. Raises Ray's errors, including GetTimeoutError."""
        answer: T_co = ray.get(self.ref, timeout=timeout_seconds)
        return answer

    def ready(self, timeout_seconds: float = 0.0) -> bool:
        """Whether it arrives, or the call fails, within the time."""
        return bool(ray.wait([self.ref], timeout=timeout_seconds)[0])


@dataclass(frozen=True)
class RemoteActor(Generic[C_co]):
    """An actor whose class is ``C_co``, or has the methods of that protocol. It may be sent to
    other actors. The actor ends when its ``handle`` is no longer referenced, unless detached."""

    handle: object

    def call(
        self, method: Callable[Concatenate[C_co, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> RemoteFuture[T]:
        """Call ``method`` (given as ``Class.method``) on the actor, without waiting for it."""
        return RemoteFuture(getattr(self.handle, method.__name__).remote(*args, **kwargs))

    def kill(self) -> None:
        """End its process, whatever it is doing."""
        ray.kill(self.handle)


def start_actor(
    actor: Callable[P, C], options: Mapping[str, object], *args: P.args, **kwargs: P.kwargs
) -> RemoteActor[C]:
    """Let Ray start a process for an object of a class decorated with ``ray.remote``."""
    make = getattr(actor, "options")  # noqa: B009 - added by Ray
    return RemoteActor(make(**options).remote(*args, **kwargs))


def wait_for_one(calls: Sequence[RemoteFuture[T]], timeout_seconds: float) -> bool:
    """Whether one of them is answered, or has failed, within the time."""
    return bool(ray.wait([call.ref for call in calls], timeout=timeout_seconds)[0])
