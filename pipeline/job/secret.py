"""Secrets come from the environment alone, never from a job file or the command line: so they are
in no manifest, no report and not in what ``ps`` shows."""

from __future__ import annotations

import os

from pydantic import SecretStr


def secret(variable: str) -> SecretStr | None:
    """The secret in an environment variable; printed or logged, it shows stars."""
    value = os.environ.get(variable)
    return SecretStr(value) if value else None
