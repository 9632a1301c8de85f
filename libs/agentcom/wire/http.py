"""JSON shapes of HTTP answers: plain dicts for orjson. JSON text from the store is passed through, never parsed."""

from __future__ import annotations

from collections.abc import Mapping

from orjson import Fragment

from agentcom.domain.agents import Agent
from agentcom.domain.tasks import HistoryEntry, Priority, Task, TaskStatus
from agentcom.errors import IdempotencyConflict
from agentcom.store.services import Beat
from agentcom.store.tasks import Submission, TaskCounts
from agentcom.store.tokens import TokenInfo

JsonObject = dict[str, object]


def task_shape(task: Task) -> JsonObject:
    """A task with all its keys, those without a value too. Times are epoch milliseconds."""
    return {
        "id": task.id,
        "description": task.description,
        "metadata": Fragment(task.metadata),
        "priority": int(task.priority),
        "status": task.status.value,
        "assigned_to": task.assigned_to,
        "assigned_at": task.assigned_at,
        "accepted_at": task.accepted_at,
        "generation": task.generation,
        "retry_count": task.retry_count,
        "max_retries": task.max_retries,
        "delivery_count": task.delivery_count,
        "max_deliveries": task.max_deliveries,
        "retry_backoff_ms": task.retry_backoff_ms,
        "max_runtime_ms": task.max_runtime_ms,
        "needed_capabilities": task.needed_capabilities,
        "target_agent": task.target_agent,
        "last_error": task.last_error,
        "complete_by": task.complete_by,
        "run_at": task.run_at,
        "expires_at": task.expires_at,
        "cancel_requested_at": task.cancel_requested_at,
        "progress": task.progress,
        "result": None if task.result is None else Fragment(task.result),
        "tokens_used": task.tokens_used,
        "submitted_by": task.submitted_by,
        "created_at": task.created_at,
        "updated_at": task.updated_at,
        "finished_at": task.finished_at,
        "history": [history_shape(entry) for entry in task.history],
    }


def history_shape(entry: HistoryEntry) -> JsonObject:
    return {"event": entry.event, "timestamp": entry.timestamp, "details": Fragment(entry.details)}


def submission_shape(submission: Submission) -> JsonObject:
    return {
        "status": submission.status,
        "task_id": submission.task_id,
        "priority": submission.priority,
        "created_at": submission.created_at,
        "created": not submission.repeated,
    }


def bulk_item_shape(index: int, result: Submission | IdempotencyConflict) -> JsonObject:
    if isinstance(result, IdempotencyConflict):
        return {"index": index, "error": result.code, "message": result.message, **result.details}
    return {"index": index, **submission_shape(result)}


def task_counts_shape(counts: TaskCounts) -> JsonObject:
    """Counts without zeros. Priorities are counted over all places but the dead letters, finished tasks too."""
    by_priority = dict.fromkeys(Priority, 0)
    for status, numbers in counts.by_status.items():
        if status is not TaskStatus.DEAD_LETTER:
            for priority in Priority:
                by_priority[priority] += numbers[priority]
    return {
        "by_status": {
            status.value: total
            for status in TaskStatus
            if status is not TaskStatus.DEAD_LETTER and (total := counts.total(status))
        },
        "by_priority": {str(int(priority)): total for priority, total in by_priority.items() if total},
        "dead_letter": counts.total(TaskStatus.DEAD_LETTER),
        "queued_index_size": counts.total(TaskStatus.QUEUED),
        "submitted": counts.submitted,
        "pruned": counts.pruned,
    }


def agent_shape(agent: Agent) -> JsonObject:
    """An entry of ``GET /api/agents``: capabilities as the agent sent them."""
    return {
        "agent_id": agent.id,
        "name": agent.name or None,
        "status": agent.status or "connected",
        "capabilities": agent.capabilities,
        "connected_at": agent.connected_at,
        "fsm_state": agent.state.value,
    }


def agent_state_shape(agent: Agent) -> JsonObject:
    """An entry of ``GET /api/agents/states``: capabilities as objects with a ``name``."""
    return {
        "agent_id": agent.id,
        "fsm_state": agent.state.value,
        "current_task_id": agent.current_task_id or None,
        "capabilities": [{"name": name} for name in agent.capabilities],
        "flags": agent.flags,
        "connected_at": agent.connected_at,
        "name": agent.name or None,
    }


def token_shape(token: TokenInfo) -> JsonObject:
    return {
        "agent_id": token.agent_id,
        "token_prefix": f"{token.prefix}...",
        "role": token.role.value,
        "created_at": token.created_at,
    }


def beats_shape(beats: list[Beat], *, now: int) -> Mapping[str, list[JsonObject]]:
    """Instances by service, for ``GET /health``."""
    services: dict[str, list[JsonObject]] = {}
    for beat in beats:
        instance: JsonObject = {
            "instance": beat.instance,
            "last_seen_ms_ago": max(0, now - beat.at),
            "live": beat.live,
        }
        if beat.stalled:
            instance["stalled"] = beat.stalled
        services.setdefault(beat.service, []).append(instance)
    return services
