"""What a model should look like in Redis, and what a dump has of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Final

from agentcom.domain.signature import SEPARATOR
from agentcom.domain.tasks import TaskStatus
from tests.support.model import Model, ModelAgent, ModelTask
from tests.support.snapshot import HERE, Dump

#: Fields that the model knows of; others are not compared.
TASK_FIELDS: Final = (
    "status",
    "signature",
    "score",
    "listing",
    "created_at",
    "updated_at",
    "generation",
    "retry_count",
    "delivery_count",
    "assigned_to",
    "assigned_at",
    "accepted_at",
    "progress",
    "cancel_requested_at",
    "cancel_reason",
    "last_error",
    "result",
    "finished_at",
    "expires_at",
    "complete_by",
)
AGENT_FIELDS: Final = (
    "state",
    "conn",
    "gateway",
    "capabilities",
    "task",
    "generation",
    "unresponsive",
    "rejections",
)
#: Beginnings of keys that the model knows nothing of.
IGNORED: Final = ("history:", "events", "out:", "tokens", "idem:")

View = dict[str, Any]


def view(model: Model) -> View:
    """Every key that the store should have, and its content."""
    found: dict[str, dict[str, Any]] = defaultdict(dict)
    for task in model.tasks.values():
        _add_task(found, task)
    for name, capability in model.filed.items():
        found["sigs"][name] = capability
        found[f"sigs:{capability}"][name] = model.queue(name)[0].score
    for agent in model.agents.values():
        _add_agent(found, agent)
    found["capabilities"] |= model.capability_counts()
    found["gateways"] |= model.gateways
    found["counters"] |= {
        name: count for name, count in (("submitted", model.submitted), ("pruned", model.pruned)) if count
    }
    requests = [{"kind": kind, "name": name, "skip": 0} for kind, name in model.requests]
    alone: View = {"match": requests, "gateways:since": model.gateways_back}
    return {name: content for name, content in [*found.items(), *alone.items()] if content}


def _add_task(found: dict[str, dict[str, Any]], task: ModelTask) -> None:
    task_id = task.spec.id
    fields = {
        "status": task.status.value,
        "signature": task.signature,
        "score": task.score,
        "listing": task.listing,
        "created_at": task.created_at,
        "updated_at": task.updated_at,
        "generation": task.generation,
        "retry_count": task.retry_count,
        "delivery_count": task.delivery_count,
        "assigned_to": task.assigned_to,
        "assigned_at": task.assigned_at,
        "accepted_at": task.accepted_at,
        "progress": task.progress,
        "cancel_requested_at": task.cancelling_since,
        "cancel_reason": task.cancel_reason,
        "last_error": task.last_error,
        "result": task.result,
        "finished_at": task.finished_at,
        "expires_at": task.expires_at,
        "complete_by": task.complete_by,
    }
    reports = {f"report:{generation}": ":".join(report) for generation, report in task.reports.items()}
    found[f"task:{task_id}"] = {name: value for name, value in fields.items() if value is not None} | reports
    found[f"status:{task.status}"][task_id] = task.listing
    if task.status is TaskStatus.QUEUED:
        found[f"queue:{task.signature}"][task_id] = task.score
    for kind, at in task.due.items():
        found[f"due:{kind}"][task_id] = at
    if task.status is TaskStatus.DEAD_LETTER:
        found["dead"][task_id] = task.finished_at
    elif task.status in {TaskStatus.COMPLETED, TaskStatus.CANCELLED}:
        found["finished"][task_id] = task.finished_at


def _add_agent(found: dict[str, dict[str, Any]], agent: ModelAgent) -> None:
    fields = {
        "state": agent.state,
        "conn": agent.conn,
        "gateway": agent.gateway,
        "capabilities": SEPARATOR.join(agent.capabilities),
        "task": agent.task,
        "generation": agent.generation,
        "unresponsive": 1 if agent.unresponsive else None,
        "rejections": agent.rejections or None,
    }
    found[f"agent:{agent.id}"] = {name: value for name, value in fields.items() if value is not None}
    if agent.grace is not None:
        found["due:grace"][agent.id] = agent.grace
    if agent.unblock is not None:
        found["due:unblock"][agent.id] = agent.unblock
    if agent.state == "offline":
        return
    found["agents"][agent.id] = 0
    found["agents:seen"][agent.id] = agent.seen
    found[f"gateway:{agent.gateway}:agents"][agent.id] = HERE
    if agent.state == "idle":
        found["idle"][agent.id] = agent.idle_score
        for capability in agent.capabilities:
            found[f"idle:{capability}"][agent.id] = agent.idle_score


def stored(dump: Dump) -> View:
    """The same keys and fields of what the store has."""
    found = {name: _known(name, content) for name, content in dump.items() if not name.startswith(IGNORED)}
    return {name: content for name, content in found.items() if content}


def _known(name: str, content: Any) -> Any:
    if name.startswith("task:"):
        return _only(content, TASK_FIELDS)
    if name.startswith("agent:"):
        return _only(content, AGENT_FIELDS)
    if name == "match":
        return list(content.values())
    return content


def _only(content: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in content.items() if name in names or name.startswith("report:")}
