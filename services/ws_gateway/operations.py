"""What a session asks of the store, as data. Performed by calls.py, answered by replies.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from agentcom.wire.frames import FrameKind


@dataclass(frozen=True, slots=True)
class Identify:
    """Put the agent on this connection."""

    request: ClassVar[FrameKind] = FrameKind.IDENTIFY
    agent_id: str
    token_digest: str
    name: str | None
    status: str | None
    capabilities: tuple[str, ...]
    features: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Heartbeat:
    request: ClassVar[FrameKind] = FrameKind.PING


@dataclass(frozen=True, slots=True)
class SetStatus:
    request: ClassVar[FrameKind] = FrameKind.STATUS
    status: str


@dataclass(frozen=True, slots=True)
class ListAgents:
    request: ClassVar[FrameKind] = FrameKind.LIST_AGENTS


@dataclass(frozen=True, slots=True)
class Accept:
    request: ClassVar[FrameKind] = FrameKind.TASK_ACCEPTED
    task_id: str
    generation: int | None


@dataclass(frozen=True, slots=True)
class Progress:
    request: ClassVar[FrameKind] = FrameKind.TASK_PROGRESS
    task_id: str
    generation: int | None
    progress: int | None


@dataclass(frozen=True, slots=True)
class Complete:
    """``result`` is compact JSON text of an object."""

    request: ClassVar[FrameKind] = FrameKind.TASK_COMPLETE
    task_id: str
    generation: int
    result: bytes
    tokens_used: int | None


@dataclass(frozen=True, slots=True)
class Fail:
    request: ClassVar[FrameKind] = FrameKind.TASK_FAILED
    task_id: str
    generation: int
    reason: str


@dataclass(frozen=True, slots=True)
class Reject:
    request: ClassVar[FrameKind] = FrameKind.TASK_REJECTED
    task_id: str
    generation: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class ConfirmCancel:
    request: ClassVar[FrameKind] = FrameKind.TASK_CANCELLED
    task_id: str
    generation: int


@dataclass(frozen=True, slots=True)
class Recover:
    request: ClassVar[FrameKind] = FrameKind.TASK_RECOVERING
    task_id: str
    generation: int | None


TaskOperation: TypeAlias = Accept | Progress | Complete | Fail | Reject | ConfirmCancel | Recover
Operation: TypeAlias = Identify | Heartbeat | SetStatus | ListAgents | TaskOperation

#: While one of these is on its way, pushes for the connection wait: the assignment that follows a report, or an
#: identify, travels on another connection to the store and would otherwise overtake the answer.
HOLDING = (Identify, Complete, Fail, Reject, ConfirmCancel)
