"""What can go wrong with a request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class HubError(Exception):
    """The hub refused. ``code`` is its machine code, ``details`` what else it said."""

    def __init__(self, status: int, code: str, message: str, details: Mapping[str, Any]) -> None:
        super().__init__(f"{message} ({code})" if message else code)
        self.status = status
        self.code = code
        self.message = message
        self.details = details


class HubUnreachable(Exception):
    """The hub gave no answer, or none that a hub gives. ``maybe_done``: it may have done what it was asked for."""

    def __init__(self, message: str, *, maybe_done: bool = True) -> None:
        super().__init__(message)
        self.maybe_done = maybe_done


class WaitTimeout(Exception):
    """The task was not finished in time."""
