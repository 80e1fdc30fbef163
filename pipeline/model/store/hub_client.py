"""huggingface_hub as we use it: quiet, with a token only from the environment, and with errors
that say what to do."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from pipeline.errors import RackmillError, UsageError
from pipeline.job.secret import secret
from pipeline.model.store.address import SCHEME, HubAddress
from pipeline.printable import first_line

_PUBLIC = "https://huggingface.co"


def endpoint() -> str | None:
    """The address of a hub other than the public one (``HF_ENDPOINT``)."""
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or None


def server() -> str:
    """The host that is asked, without user name or password."""
    return (endpoint() or _PUBLIC).rpartition("://")[2].rpartition("@")[2]


def token() -> str | bool:
    """From the environment only; False: send none, even if huggingface_hub finds one in a file."""
    known = secret("HF_TOKEN")
    return known.get_secret_value() if known else False


def library() -> Any:
    """huggingface_hub without its own messages: we report the same, once."""
    import huggingface_hub
    from huggingface_hub.utils import disable_progress_bars, logging

    logging.set_verbosity(logging.CRITICAL)
    disable_progress_bars()
    return huggingface_hub


@contextmanager
def explained(address: HubAddress) -> Iterator[None]:
    """Turns the many errors of fetching into our errors."""
    from huggingface_hub.errors import HfHubHTTPError, HTTPError, OfflineModeIsEnabled

    try:
        yield
    except HfHubHTTPError as e:
        _refused(address, e)
    except (HTTPError, OfflineModeIsEnabled) as e:
        place = server()
        broke = type(e).__name__ in ("RemoteProtocolError", "ReadError", "ReadTimeout")
        what = f"the connection to {place} broke" if broke else f"no connection to {place}"
        raise RackmillError(
            f"model: {address} could not be fetched: {what} ({first_line(e)})",
            "check the network and run the same command again: it goes on where it stopped",
            "without a network: give a .gguf file or a checkpoint folder",
        ) from None
    except OSError as e:
        if e.errno == errno.ENOSPC:
            raise RackmillError(
                f"model: the disk is full while fetching {address}",
                "make room and run the same command again: it goes on where it stopped",
            ) from None
        raise RackmillError(
            f"model: {address} could not be fetched: {first_line(e)}",
            "run the same command again: it goes on where it stopped",
        ) from None
    except RackmillError:
        raise
    except Exception as e:  # e.g. the login page of a hotel, or an invalid address
        raise RackmillError(
            f"model: {address} could not be fetched: {server()} does not answer as a hub does "
            f"({first_line(e)})",
            "check the network" + (", and HF_ENDPOINT" if endpoint() else ""),
        ) from None


def _refused(address: HubAddress, error: Any) -> NoReturn:
    """Raises the error for an answer of the hub that is not what was asked for."""
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    page = f"{endpoint() or _PUBLIC}/{address.repository}"
    status = error.response.status_code
    if isinstance(error, GatedRepoError) or status in (401, 403):
        given = os.environ.get("HF_TOKEN")
        if isinstance(error, RepositoryNotFoundError) and not isinstance(error, GatedRepoError):
            said = "is unknown to the hub, or hidden from you"
        else:
            said = "is given only to accounts that accepted its licence"
        raise UsageError(
            f"model: {SCHEME}{address.repository} {said} (HTTP {status})",
            f"accept the licence at {page}",
            "HF_TOKEN is set, but its account has no access (or the token is no longer valid)"
            if given
            else "then: export HF_TOKEN=… (make one at https://huggingface.co/settings/tokens)",
        ) from None
    if isinstance(error, RevisionNotFoundError):
        raise UsageError(
            f"model: {SCHEME}{address.repository} has no revision {address.revision!r}",
            f"its commits and branches: {page}/commits/main",
        ) from None
    if isinstance(error, EntryNotFoundError):
        raise UsageError(
            f"model: {SCHEME}{address.repository} has no file {address.file!r}"
        ) from None
    if status == 404 or isinstance(error, RepositoryNotFoundError):
        raise UsageError(
            f"model: the hub knows no {SCHEME}{address.repository}",
            "rackmill model list shows the repositories known here",
        ) from None
    raise RackmillError(
        f"model: {address} could not be fetched: the hub answered HTTP {status}",
        "run the same command again later: it goes on where it stopped",
    ) from None
