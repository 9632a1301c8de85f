"""What the model keeps of a task and of an agent."""

from __future__ import annotations

from dataclasses import dataclass, field

from agentcom.domain.tasks import NewTask, TaskStatus


class Refused(Exception):
    """The transition is refused; the argument is the error's code."""


@dataclass(slots=True)
class ModelTask:
    """A task and its deadlines."""

    spec: NewTask
    signature: str
    status: TaskStatus
    score: int
    listing: int
    created_at: int
    generation: int = 0
    retry_count: int = 0
    delivery_count: int = 0
    assigned_to: str | None = None
    assigned_at: int | None = None
    accepted_at: int | None = None
    progress: int | None = None
    cancelling_since: int | None = None
    cancel_reason: str | None = None
    last_error: str | None = None
    result: str | None = None
    finished_at: int | None = None
    expires_at: int | None = None
    complete_by: int | None = None
    updated_at: int = 0
    due: dict[str, int] = field(default_factory=dict)
    reports: dict[int, tuple[str, str, str]] = field(default_factory=dict)


@dataclass(slots=True)
class ModelAgent:
    """An agent that is connected, or holds a task within its grace."""

    id: str
    conn: str | None
    gateway: str | None
    capabilities: tuple[str, ...]
    sends_progress: bool
    state: str
    seen: int
    task: str | None = None
    generation: int | None = None
    unresponsive: bool = False
    rejections: int = 0
    idle_score: int = 0
    grace: int | None = None
    unblock: int | None = None


@dataclass(slots=True)
class Answer:
    """An accepted report: what it led to, whether it is known already, and the task pushed in the same step."""

    outcome: str
    repeated: bool
    next_task: str | None
