"""Addresses in a job file: a local path, or any of fsspec's that neither holds secrets nor lies."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

from pipeline.printable import masked_address, printable

# what such an address names decides what else is read, or is no place for data
_REFUSED = {"reference", "jlab", "jupyter", "dask", "data"}


def check_address(address: str) -> str:
    """``address`` itself. Raises ValueError: empty, unprintable, or with a secret in it.

    What a job file names is written into manifests, reports and messages: passwords and keys
    would end there.
    """
    if printable(address) != address or "\n" in address:
        raise ValueError(f"a control character in a path: {address!r}")
    return check_input_address(address)


def check_input_address(address: str) -> str:
    """As ``check_address``, but for files that are there: their names may be of any bytes."""
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
        if protocol in _REFUSED and (slashes or len(parts) > 1):  # else a folder of that name
            raise ValueError(f"{protocol}:// is not read: copy the files first")
    return address


Address = Annotated[str, AfterValidator(check_address)]
InputAddress = Annotated[str, AfterValidator(check_input_address)]
