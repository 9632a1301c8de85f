"""Shapes of the hub's answers. Times are milliseconds since 1970; a newer hub may say more than these."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

TaskStatus = Literal["queued", "delayed", "assigned", "completed", "cancelled", "dead_letter"]
FINISHED: frozenset[TaskStatus] = frozenset({"completed", "cancelled", "dead_letter"})


class HistoryEntry(TypedDict):
    event: str
    timestamp: int
    details: Any


class Task(TypedDict):
    id: str
    description: str
    metadata: dict[str, Any]
    priority: int
    status: TaskStatus
    assigned_to: str | None
    assigned_at: int | None
    generation: int
    retry_count: int
    max_retries: int
    needed_capabilities: list[str]
    target_agent: str | None
    last_error: str | None
    progress: int | None
    result: dict[str, Any] | None
    tokens_used: int | None
    submitted_by: str
    created_at: int
    updated_at: int
    finished_at: int | None
    history: list[HistoryEntry]


class TaskPage(TypedDict):
    tasks: list[Task]
    count: int
    cursor: str | None


class Agent(TypedDict):
    agent_id: str
    name: str | None
    status: str
    capabilities: list[str]
    connected_at: int | None
    fsm_state: str


class _Capability(TypedDict):
    name: str


class AgentState(TypedDict):
    agent_id: str
    name: str | None
    fsm_state: str
    current_task_id: str | None
    capabilities: list[_Capability]
    flags: list[str]
    connected_at: int | None


class Registration(TypedDict):
    agent_id: str
    token: str
    role: NotRequired[str]
    hub_ws_url: str
    hub_api_url: str
    default_repo: str | None


class Submission(TypedDict):
    task_id: str
    status: str
    priority: int
    created_at: int
    created: bool


Message = TypedDict(
    "Message",
    {
        "id": str,
        "from": str,
        "to": str | None,
        "type": str,
        "payload": dict[str, Any],
        "reply_to": str | None,
        "timestamp": int,
        "seq": int,
    },
)


class DeliveredMessage(Message):
    """``state`` is published, queued, delivered, acknowledged or dead; ``reason`` says why it is dead."""

    state: str
    state_at: int
    reason: NotRequired[str]


class Channel(TypedDict):
    name: str
    description: str
    subscriber_count: int
    created_at: int
    private: bool


class Post(TypedDict):
    seq: int
    message: dict[str, Any]
    stored_at: int


class Published(TypedDict):
    """``seq`` is the post's number in its channel."""

    id: str
    seq: int
    repeated: bool


class TokenEntry(TypedDict):
    agent_id: str
    token_prefix: str
    role: str
    created_at: int


class Health(TypedDict):
    """``status`` is ok, degraded (``missing`` names services of which none is alive) or unavailable."""

    status: str
    service: str
    missing: NotRequired[list[str]]


Frame = dict[str, Any]
