"""Which storage errors are transient, how long to wait for them to pass, and what to say when they
do not.

tenacity does the waiting: a random time up to a limit that doubles (the "full jitter" of
https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/), so the workers of a rack
do not retry all at once.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from pipeline.errors import StorageFailed

_log = logging.getLogger(__name__)
T = TypeVar("T")
PATIENCE_SECONDS = 60.0
PLAN_SECONDS = 10.0  # while a user waits for a plan
_FIRST_SECONDS, _LONGEST_SECONDS = 0.1, 10.0  # between two tries
_PASSING = {
    getattr(errno, name)
    for name in (
        *("EIO", "EREMOTEIO", "ESTALE", "ETIMEDOUT", "EAGAIN", "EBUSY", "EINTR", "ENOLCK"),
        *("ECONNRESET", "ECONNREFUSED", "ECONNABORTED", "EPIPE", "ENOTCONN", "ESHUTDOWN"),
        *("ENETDOWN", "ENETUNREACH", "ENETRESET", "EHOSTDOWN", "EHOSTUNREACH"),
        *("EMFILE", "ENFILE", "ENOMEM", "ENOBUFS"),
    )
    if hasattr(errno, name)
}
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_RIGHT = {errno.EROFS, errno.EACCES, errno.EPERM}
_NOT_ABLE = {errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
_LASTING = {  # by parts of the names of libraries' errors
    "Credential": errno.EACCES,
    "Profile": errno.EACCES,
    "Token": errno.EACCES,
    "Validation": errno.EINVAL,
}
_NOT_STORAGE = {"builtins", "json", "pipeline", "pyarrow"}  # errors about content, or ours


def passes(error: BaseException) -> bool:
    """Whether to try again: for a stale handle, a timeout, a busy store; not a full or read-only
    one.

    Errors without a number are not transient: pyarrow reports damaged data that way.
    """
    return isinstance(error, TimeoutError | ConnectionError) or (
        isinstance(error, OSError) and error.errno in _PASSING
    )


def patiently(call: Callable[[], T], seconds: float = PATIENCE_SECONDS) -> T:
    """The result of ``call``, retried for ``seconds`` while its errors are transient.

    Raises the error of the last try.
    """
    try:
        return call()
    except OSError as e:
        if not passes(e) or seconds <= 0:
            raise
        _log.warning("storage: %s; tried again for up to %.0f s", reason(e), seconds)
    retrying = Retrying(
        retry=retry_if_exception(passes),
        wait=wait_random_exponential(multiplier=_FIRST_SECONDS, max=_LONGEST_SECONDS),
        stop=stop_after_delay(seconds),
        reraise=True,
    )
    return retrying(call)


def reading(path: str, call: Callable[[], T], seconds: float = PATIENCE_SECONDS) -> T:
    """As ``patiently``, to read ``path``. Raises StorageFailed for an OSError that persists."""

    def once() -> T:
        with os_errors():
            return call()

    try:
        return patiently(once, seconds)
    except OSError as e:
        raise StorageFailed(f"{path} cannot be read: {reason(e)}", fix(e)) from e


@contextmanager
def os_errors() -> Iterator[None]:
    """Raise an OSError for the own error types of the libraries behind fsspec."""
    try:
        yield
    except OSError:
        raise
    except Exception as e:
        if type(e).__module__.partition(".")[0] in _NOT_STORAGE:
            raise
        kind = type(e).__name__
        lasting = (number for word, number in _LASTING.items() if word in kind)
        raise OSError(next(lasting, errno.EIO), str(e)) from e


def reason(error: OSError) -> str:
    """What is wrong, in the words of the system or the store."""
    if error.errno is not None:
        return error.strerror or os.strerror(error.errno)
    return str(error) or type(error).__name__


def fix(error: OSError) -> str:
    """What a user can do about ``error``."""
    stays = "what is committed stays, and the same command goes on from there"
    if passes(error):
        return f"try again when storage answers: {stays}"
    if error.errno in _NO_ROOM:
        return f"make room there: {stays}"
    if error.errno in _NO_RIGHT or isinstance(error, PermissionError):
        return f"give this user the right to it: {stays}"
    if error.errno in _NOT_ABLE:
        return "give another --output, on a file system or store that can do this"
    return f"fix it: {stays}"
