"""Addresses in a job file: a local path, or any fsspec address that is safe and has no secrets."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

from pipeline.printable import masked_address, printable

# such an address names what else is read, or is no place for data
_REFUSED = {"reference", "jlab", "jupyter", "dask", "data"}


def check_address(address: str) -> str:
    """``address`` itself. Raises ValueError if it is empty, unprintable, or contains a secret.

    Addresses of a job file are written into manifests, reports and messages: a password or key
    would appear there.
    """
    if printable(address) != address or "\n" in address:
        raise ValueError(f"a control character in a path: {address!r}")
    return check_input_address(address)


def check_input_address(address: str) -> str:
    """As ``check_address``, but for existing files: their names may contain any bytes."""
    if not address.strip():
        raise ValueError("it is empty: give a path")
    if "\0" in address:
        raise ValueError(f"a control character in a path: {address!r}")
    if masked_address(address) != address:
        raise ValueError(
            "a password, key or signature in an address would be written into manifests and "
            "reports: leave it out, and give it in the environment (AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or FSSPEC_FTP_PASSWORD for ftp://, and so on)"
        )
    parts = address.split("::")
    for part in parts:
        protocol, slashes, _ = part.partition("://")
        if protocol in _REFUSED and (slashes or len(parts) > 1):  # otherwise a folder of that name
            raise ValueError(f"{protocol}:// is not read: copy the files first")
    return address


Address = Annotated[str, AfterValidator(check_address)]
InputAddress = Annotated[str, AfterValidator(check_input_address)]
