"""Text from outside as it may be shown: without secrets, and without codes that a terminal obeys.

Names of files and columns, YAML, rows and whatever libraries complain about come from outside. What
goes to a terminal, a report or a log passes through here.
"""

from __future__ import annotations

import os
import re

# control characters but tab and line break, the ones that turn the direction of writing, and
# halves of surrogate pairs, which no encoding has
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
# a password may hold slashes (those of S3 often do); what is a number before a slash is a port; a
# scheme is looked for at the beginning of a word alone, or a long word would take forever
_AUTHORITY = re.compile(
    r"(?<![\w+.-])(?P<scheme>[\w+.-]+)://(?P<user>[^/\s@:]*)(?P<password>:(?!\d+/)[^\s@]*)?@"
)
_QUERY = re.compile(
    r"(?P<name>[?&][\w.-]*(?:sig|signature|token|secret|passw(?:or)?d|credential|key)=)[^&#\s]+",
    re.IGNORECASE,
)
_SECRET_VARIABLE = re.compile(r"(TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS|KEY)$")
_LEAST_SECRET = 8  # characters: shorter values are words
_HIDDEN = "***"


def printable(text: str) -> str:
    r"""``text`` with what is not to be seen written as ``\x1b`` or ``\u202e``."""
    return _UNSEEN.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def json_safe(text: str) -> str:
    """The same for JSON, whose own escapes it uses."""
    return _UNSEEN.sub(lambda match: f"\\u{ord(match.group()):04x}", text)


def masked_address(text: str) -> str:
    """``text`` with ``***`` for passwords, keys and signatures in addresses."""
    return _QUERY.sub(lambda m: m["name"] + _HIDDEN, _AUTHORITY.sub(_without_password, text))


def _without_password(match: re.Match[str]) -> str:
    scheme = match["scheme"]
    if match["password"]:
        return f"{scheme}://{match['user']}:{_HIDDEN}@"
    # of a web page, the name alone may be a token
    return f"{scheme}://{_HIDDEN}@" if "http" in scheme.lower() else match.group()


def without_secrets(text: str) -> str:
    """``text`` with ``***`` for secrets in addresses, and for the values of those environment
    variables whose names say that they are secrets (``HF_TOKEN``, ``AWS_SECRET_ACCESS_KEY`` …)."""
    for name, value in list(os.environ.items()):
        if len(value) >= _LEAST_SECRET and value in text and _SECRET_VARIABLE.search(name):
            text = text.replace(value, _HIDDEN)
    return masked_address(text)


def shown(text: str) -> str:
    """``text`` as a user sees it."""
    return printable(without_secrets(text))


def first_line(error: BaseException) -> str:
    """Of what an error says; its type where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
