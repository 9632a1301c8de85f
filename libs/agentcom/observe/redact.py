"""Secrets never reach a log line: they are replaced by key name, by shape, and inside URLs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

REDACTED: Final = "[REDACTED]"

_SECRET_NAMES: Final = frozenset(
    {
        "apikey",
        "auth",
        "authorization",
        "cookie",
        "credential",
        "credentials",
        "key",
        "passwd",
        "password",
        "secret",
        "set_cookie",
        "token",
    }
)
_SECRET_SUFFIXES: Final = ("_token", "_secret", "_password", "_key", "_credentials", "_authorization")
_PUBLIC_NAMES: Final = frozenset({"idempotency_key", "public_key", "vapid_public_key"})

_NAME_IN_TEXT: Final = r"[\w-]*(?:token|secret|password|passwd|api[_-]?key|private[_-]?key|enrolment[_-]?key)"
_IN_TEXT: Final = (
    # Hub tokens are 32 random bytes in hex; so are the hashes they are stored under.
    (re.compile(r"(?<![0-9a-zA-Z])[0-9a-fA-F]{64}(?![0-9a-zA-Z])"), REDACTED),
    (re.compile(r"(\b(?:Bearer|Basic)\s+)[^\s,;'\"]+", re.IGNORECASE), rf"\1{REDACTED}"),
    # https://user:password@host
    (re.compile(r"(://[^/\s:@]*:)[^/\s@]+@"), rf"\1{REDACTED}@"),
    # ?token=... and "token": "..."
    (
        re.compile(rf"""(\b{_NAME_IN_TEXT}["']?\s*[=:]\s*["']?)(?!\[REDACTED)[^\s&"',;}}\]]+""", re.IGNORECASE),
        rf"\1{REDACTED}",
    ),
)
_HINT: Final = re.compile(r"[0-9a-f]{64}|bearer|basic|://|token|secret|passw|key", re.IGNORECASE)
_MAX_DEPTH: Final = 16


def is_secret_name(name: str) -> bool:
    """Whether a field of this name holds a secret. Case and hyphens do not matter."""
    folded = name.lower().replace("-", "_")
    if folded in _PUBLIC_NAMES:
        return False
    return folded in _SECRET_NAMES or folded.endswith(_SECRET_SUFFIXES)


def redact_text(text: str) -> str:
    """The text without tokens, bearer headers, passwords in URLs and secret query parameters."""
    if not _HINT.search(text):
        return text
    for pattern, replacement in _IN_TEXT:
        text = pattern.sub(replacement, text)
    return text


def redact(value: object, *, depth: int = 0) -> object:
    """A copy of a nested value in which every secret is replaced. Values of other types pass through."""
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, bytes):
        return redact_text(value.decode("utf-8", "backslashreplace"))
    if depth >= _MAX_DEPTH:
        return "[TOO DEEP]" if isinstance(value, Mapping | list | tuple | set | frozenset) else value
    if isinstance(value, Mapping):
        return {
            key: REDACTED
            if isinstance(key, str) and is_secret_name(key) and field is not None
            else redact(field, depth=depth + 1)
            for key, field in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [redact(item, depth=depth + 1) for item in value]
    return value
