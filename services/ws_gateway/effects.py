"""What a session wants done, in order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from services.ws_gateway.letters import Letter
from services.ws_gateway.operations import Operation


@dataclass(frozen=True, slots=True)
class Send:
    """Write one frame."""

    frame: bytes | Letter


@dataclass(frozen=True, slots=True)
class Call:
    """Ask the store, and give the answer to ``Session.resolve`` once all earlier calls are answered."""

    operation: Operation


@dataclass(frozen=True, slots=True)
class Penalize:
    """Make the agent wait before it may identify again. Nobody waits for the answer."""

    agent_id: str


@dataclass(frozen=True, slots=True)
class Close:
    """Write what is queued, then close."""

    code: int
    reason: str


Effect: TypeAlias = Send | Call | Penalize | Close
