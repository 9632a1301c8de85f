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
    """The hub gave no answer, or none that a hub gives."""


class WaitTimeout(Exception):
    """The task was not finished in time."""
