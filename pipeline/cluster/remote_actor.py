"""Ray's actors with their types.

Ray makes the methods of an actor's handle while the program runs, each with a ``remote`` that takes
and gives anything: no type checker follows it there. Here alone a handle's method is looked up by
name; whoever calls it names the method of the class, and is held to its arguments and its answer.
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
    """The answer of a call that may be still on its way. ``ref``: Ray's reference to it."""

    ref: object

    def get(self, timeout_seconds: float | None = None) -> T_co:
        """Wait for it. Raises Ray's errors, GetTimeoutError among them."""
        answer: T_co = ray.get(self.ref, timeout=timeout_seconds)
        return answer

    def ready(self, timeout_seconds: float = 0.0) -> bool:
        """Whether it is there within the time, or the call has failed."""
        return bool(ray.wait([self.ref], timeout=timeout_seconds)[0])


@dataclass(frozen=True)
class RemoteActor(Generic[C_co]):
    """An actor whose class is ``C_co``, or has the methods of that protocol. May be sent to other
    actors; the actor ends when nobody has its ``handle``, unless it is detached."""

    handle: object

    def call(
        self, method: Callable[Concatenate[C_co, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> RemoteFuture[T]:
        """Call ``method`` (named as ``Class.method``) over there, without waiting for it."""
        return RemoteFuture(getattr(self.handle, method.__name__).remote(*args, **kwargs))

    def kill(self) -> None:
        """End its process, whatever it is at."""
        ray.kill(self.handle)


def start_actor(
    actor: Callable[P, C], options: Mapping[str, object], *args: P.args, **kwargs: P.kwargs
) -> RemoteActor[C]:
    """Have Ray start a process for an object of a class that is decorated with ``ray.remote``."""
    make = getattr(actor, "options")  # noqa: B009 - which Ray has put there
    return RemoteActor(make(**options).remote(*args, **kwargs))


def wait_for_one(calls: Sequence[RemoteFuture[T]], timeout_seconds: float) -> bool:
    """Whether one of them is answered, or has failed, within the time."""
    return bool(ray.wait([call.ref for call in calls], timeout=timeout_seconds)[0])
