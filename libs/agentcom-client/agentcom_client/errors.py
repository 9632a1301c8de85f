"""What can go wrong with a request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class HubError(Exception):
    """The hub refused. ``code`` is its machine code, ``details`` what else it said.

    ``maybe_done``: it may have done what it was asked for all the same, as it failed in the middle of it (5xx), or an
    earlier attempt of the same request got no answer.
    """

    def __init__(
        self, status: int, code: str, message: str, details: Mapping[str, Any], *, maybe_done: bool = False
    ) -> None:
        super().__init__(f"{message} ({code})" if message else code)
        self.status = status
        self.code = code
        self.message = message
        self.details = details
        self.maybe_done = maybe_done


class HubUnreachable(Exception):
    """The hub gave no answer, or none that a hub gives.

    ``maybe_done``: it may have done what it was asked for. False: no attempt of the request has reached it.
    """

    def __init__(self, message: str, *, maybe_done: bool) -> None:
        super().__init__(message)
        self.maybe_done = maybe_done


class WaitTimeout(Exception):
    """The task was not finished in time."""
