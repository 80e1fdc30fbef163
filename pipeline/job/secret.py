"""Secrets come only from the environment, never from a job file or the command line: so they do
not appear in manifests, reports or the output of ``ps``."""

from __future__ import annotations

import os

from pydantic import SecretStr


def secret(variable: str) -> SecretStr | None:
    """The secret in an environment variable; it prints and logs as stars."""
    value = os.environ.get(variable)
    return SecretStr(value) if value else None
