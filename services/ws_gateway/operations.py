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


@dataclass(frozen=True, slots=True, kw_only=True)
class SendMessage:
    """A message to one agent, or to everybody where ``to`` is None.

    ``payload`` is compact JSON text of an object; ``chosen_id`` is the id that the client chose, None without one.
    """

    request: ClassVar[FrameKind] = FrameKind.MESSAGE
    to: str | None
    message_type: str
    payload: bytes
    reply_to: str | None
    chosen_id: str | None


@dataclass(frozen=True, slots=True)
class ListChannels:
    request: ClassVar[FrameKind] = FrameKind.LIST_CHANNELS


@dataclass(frozen=True, slots=True)
class Subscribe:
    """``asked`` is the channel as the client spelled it, ``name`` is normalised."""

    request: ClassVar[FrameKind] = FrameKind.CHANNEL_SUBSCRIBE
    asked: str
    name: str


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    request: ClassVar[FrameKind] = FrameKind.CHANNEL_UNSUBSCRIBE
    asked: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Publish:
    """As :class:`SendMessage`, to a channel."""

    request: ClassVar[FrameKind] = FrameKind.CHANNEL_PUBLISH
    asked: str
    name: str
    message_type: str
    payload: bytes
    reply_to: str | None
    chosen_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadChannel:
    """Posts after one (``since``), before one, or the latest where both are None."""

    request: ClassVar[FrameKind] = FrameKind.CHANNEL_HISTORY
    asked: str
    name: str
    since: int | None
    before: int | None
    limit: int


MessageOperation: TypeAlias = SendMessage | ListChannels | Subscribe | Unsubscribe | Publish | ReadChannel
TaskOperation: TypeAlias = Accept | Progress | Complete | Fail | Reject | ConfirmCancel | Recover
Operation: TypeAlias = Identify | Heartbeat | SetStatus | ListAgents | MessageOperation | TaskOperation

#: While one of these is on its way, pushes for the connection wait: the assignment that follows a report, or an
#: identify, travels on another connection to the store and would otherwise overtake the answer.
HOLDING = (Identify, Complete, Fail, Reject, ConfirmCancel)
