"""Tasks: states, the table of transitions, and the record. Pure: no I/O, no clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import NewType

TaskId = NewType("TaskId", str)


class TaskStatus(StrEnum):
    """Where a task is. Every task is in exactly one of these places until it is pruned."""

    QUEUED = "queued"  #: waits for a capable idle agent
    DELAYED = "delayed"  #: waits for its run_at, or for a retry's back-off to pass
    ASSIGNED = "assigned"  #: held by one agent, accepted or not yet
    COMPLETED = "completed"  #: its agent reported a result
    CANCELLED = "cancelled"  #: ended by its submitter
    DEAD_LETTER = "dead_letter"  #: failed, lost or expired too often; can be retried by hand


LIVE_STATUSES = frozenset({TaskStatus.QUEUED, TaskStatus.DELAYED, TaskStatus.ASSIGNED})
FINISHED_STATUSES = frozenset({TaskStatus.COMPLETED, TaskStatus.CANCELLED, TaskStatus.DEAD_LETTER})


class Priority(IntEnum):
    """Lanes, best first."""

    URGENT = 0
    HIGH = 1
    NORMAL = 2
    LOW = 3

    @property
    def label(self) -> str:
        return self.name.lower()


PRIORITY_NAMES: Mapping[str, Priority] = {priority.label: priority for priority in Priority}


class TaskEvent(StrEnum):
    """What happened to a task; the names used on the events stream."""

    SUBMITTED = "task_submitted"
    ASSIGNED = "task_assigned"
    ACCEPTED = "task_accepted"
    PROGRESS = "task_progress"
    COMPLETED = "task_completed"
    RETRIED = "task_retried"
    RECLAIMED = "task_reclaimed"
    REJECTED = "task_rejected"
    PROMOTED = "task_promoted"
    CANCEL_REQUESTED = "task_cancel_requested"
    CANCELLED = "task_cancelled"
    DEAD_LETTER = "task_dead_letter"
    PRUNED = "task_pruned"


class ReclaimReason(StrEnum):
    """Why a delivery was lost, as written to the task's history."""

    ACCEPT_TIMEOUT = "acceptance_timeout"
    PROGRESS_TIMEOUT = "progress_timeout"
    AGENT_DISCONNECT = "agent_disconnect"


class DeadReason(StrEnum):
    """Why a task is a dead letter when no agent reported a failure."""

    MAX_DELIVERIES = "max_deliveries"
    EXPIRED = "expired"
    OVERDUE = "overdue"


#: Every legal move of a task: (from, event) -> the statuses it may lead to. ``None`` is "not there".
TRANSITIONS: Mapping[tuple[TaskStatus | None, TaskEvent], frozenset[TaskStatus | None]] = {
    (None, TaskEvent.SUBMITTED): frozenset({TaskStatus.QUEUED, TaskStatus.DELAYED}),
    (TaskStatus.QUEUED, TaskEvent.ASSIGNED): frozenset({TaskStatus.ASSIGNED}),
    (TaskStatus.QUEUED, TaskEvent.CANCELLED): frozenset({TaskStatus.CANCELLED}),
    (TaskStatus.QUEUED, TaskEvent.DEAD_LETTER): frozenset({TaskStatus.DEAD_LETTER}),
    (TaskStatus.DELAYED, TaskEvent.PROMOTED): frozenset({TaskStatus.QUEUED}),
    (TaskStatus.DELAYED, TaskEvent.CANCELLED): frozenset({TaskStatus.CANCELLED}),
    (TaskStatus.DELAYED, TaskEvent.DEAD_LETTER): frozenset({TaskStatus.DEAD_LETTER}),
    (TaskStatus.ASSIGNED, TaskEvent.ACCEPTED): frozenset({TaskStatus.ASSIGNED}),
    (TaskStatus.ASSIGNED, TaskEvent.PROGRESS): frozenset({TaskStatus.ASSIGNED}),
    (TaskStatus.ASSIGNED, TaskEvent.CANCEL_REQUESTED): frozenset({TaskStatus.ASSIGNED}),
    (TaskStatus.ASSIGNED, TaskEvent.COMPLETED): frozenset({TaskStatus.COMPLETED}),
    (TaskStatus.ASSIGNED, TaskEvent.RETRIED): frozenset({TaskStatus.QUEUED, TaskStatus.DELAYED}),
    (TaskStatus.ASSIGNED, TaskEvent.RECLAIMED): frozenset({TaskStatus.QUEUED}),
    (TaskStatus.ASSIGNED, TaskEvent.REJECTED): frozenset({TaskStatus.QUEUED}),
    (TaskStatus.ASSIGNED, TaskEvent.CANCELLED): frozenset({TaskStatus.CANCELLED}),
    (TaskStatus.ASSIGNED, TaskEvent.DEAD_LETTER): frozenset({TaskStatus.DEAD_LETTER}),
    (TaskStatus.DEAD_LETTER, TaskEvent.RETRIED): frozenset({TaskStatus.QUEUED}),
    (TaskStatus.COMPLETED, TaskEvent.PRUNED): frozenset({None}),
    (TaskStatus.CANCELLED, TaskEvent.PRUNED): frozenset({None}),
    (TaskStatus.DEAD_LETTER, TaskEvent.PRUNED): frozenset({None}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEntry:
    """One line of a task's history. ``details`` is compact JSON text."""

    event: str
    timestamp: int
    details: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTask:
    """A validated submission.

    ``metadata`` is compact JSON text of an object; times are epoch milliseconds; None takes the hub's default. The
    digests are hex SHA-256 of the idempotency key and of the request it came with.
    """

    id: TaskId
    description: str
    submitted_by: str
    priority: Priority = Priority.NORMAL
    metadata: str = "{}"
    needed_capabilities: tuple[str, ...] = ()
    target_agent: str | None = None
    max_retries: int | None = None
    max_deliveries: int | None = None
    retry_backoff_ms: int | None = None
    max_runtime_ms: int | None = None
    complete_by: int | None = None
    run_at: int | None = None
    expires_at: int | None = None
    idempotency_digest: str | None = None
    body_digest: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A stored task. ``metadata`` and ``result`` are JSON text; times are epoch milliseconds."""

    id: TaskId
    description: str
    metadata: str
    priority: Priority
    status: TaskStatus
    assigned_to: str | None
    assigned_at: int | None
    accepted_at: int | None
    generation: int
    retry_count: int
    max_retries: int
    delivery_count: int
    max_deliveries: int
    retry_backoff_ms: int
    max_runtime_ms: int | None
    needed_capabilities: tuple[str, ...]
    target_agent: str | None
    last_error: str | None
    complete_by: int | None
    run_at: int | None
    expires_at: int | None
    cancel_requested_at: int | None
    progress: int | None
    result: str | None
    tokens_used: int | None
    submitted_by: str
    created_at: int
    updated_at: int
    finished_at: int | None
    history: tuple[HistoryEntry, ...] = field(default=())
