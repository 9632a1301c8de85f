"""From a valid frame to the operation that it asks for."""

from __future__ import annotations

from typing import Any

from agentcom.domain.agents import AgentFeature
from agentcom.errors import TaskNotFound
from agentcom.store.tokens import digest
from agentcom.wire import outbound
from agentcom.wire.fields import MAX_INTEGER
from agentcom.wire.frames import Frame, FrameKind, Refused
from agentcom.wire.json_text import encode
from services.ws_gateway.message_requests import message_operation
from services.ws_gateway.operations import (
    Accept,
    Complete,
    ConfirmCancel,
    Fail,
    Heartbeat,
    Identify,
    ListAgents,
    Operation,
    Progress,
    Recover,
    Reject,
    SetStatus,
    TaskOperation,
)
from services.ws_gateway.replies import refusal

#: Longer ids, and ids with a colon, are never given out; a colon would spell another key of the store.
TASK_ID_LENGTH = 128

_FEATURES = frozenset(AgentFeature)


def operation_for(frame: Frame, *, max_result_bytes: int, max_payload_bytes: int) -> Operation | Refused:
    """The operation, or an error frame for what the store need not be asked about."""
    data = frame.data
    match frame.kind:
        case FrameKind.IDENTIFY:
            return _identify(data)
        case FrameKind.PING:
            return Heartbeat()
        case FrameKind.STATUS:
            return SetStatus(data["status"])
        case FrameKind.LIST_AGENTS:
            return ListAgents()
        case (
            FrameKind.MESSAGE
            | FrameKind.LIST_CHANNELS
            | FrameKind.CHANNEL_SUBSCRIBE
            | FrameKind.CHANNEL_UNSUBSCRIBE
            | FrameKind.CHANNEL_PUBLISH
            | FrameKind.CHANNEL_HISTORY
        ):
            return message_operation(frame, max_payload_bytes=max_payload_bytes)
    operation = _task_operation(frame.kind, data, max_result_bytes=max_result_bytes)
    if isinstance(operation, Refused):
        return operation
    if len(operation.task_id) > TASK_ID_LENGTH or ":" in operation.task_id:
        return Refused(refusal(operation, TaskNotFound()))
    return operation


def _identify(data: dict[str, Any]) -> Identify:
    """What is subscribed to is a feature like any other."""
    agent_id = data["agent_id"]
    asked = {*(data.get("features") or ()), *(data.get("subscribe") or ())}
    return Identify(
        agent_id=agent_id,
        token_digest=digest(data["token"]),
        name=data.get("name", agent_id),
        status=data.get("status", "connected"),
        capabilities=tuple(data.get("capabilities") or ()),
        features=tuple(sorted(_FEATURES.intersection(asked))),
    )


def _task_operation(kind: FrameKind, data: dict[str, Any], *, max_result_bytes: int) -> TaskOperation | Refused:
    task_id, generation = data["task_id"], data.get("generation")
    match kind:
        case FrameKind.TASK_ACCEPTED:
            return Accept(task_id, generation)
        case FrameKind.TASK_PROGRESS:
            return Progress(task_id, generation, data.get("progress"))
        case FrameKind.TASK_COMPLETE:
            return _complete(data, max_result_bytes=max_result_bytes)
        case FrameKind.TASK_FAILED:
            return Fail(task_id, data["generation"], _reason(data, "error", "reason"))
        case FrameKind.TASK_REJECTED:
            return Reject(task_id, generation, _reason(data, "reason"))
        case FrameKind.TASK_CANCELLED:
            return ConfirmCancel(task_id, data["generation"])
        case FrameKind.TASK_RECOVERING:
            return Recover(task_id, generation)
    raise ValueError(f"{kind} is not about a task")


def _complete(data: dict[str, Any], *, max_result_bytes: int) -> Complete | Refused:
    result = data.get("result") or {}
    try:
        encoded = encode(result)
    except TypeError:
        return _result_refused(data, code="result_too_deep", message="The result is nested too deeply.")
    if len(encoded) > max_result_bytes:
        message = f"The result has {len(encoded)} bytes; it may have {max_result_bytes}."
        return _result_refused(data, code="result_too_large", message=message)
    tokens_used = data.get("tokens_used")
    if tokens_used is None:
        within = result.get("tokens_used")
        tokens_used = within if type(within) is int and abs(within) <= MAX_INTEGER else None
    return Complete(data["task_id"], data["generation"], encoded, tokens_used)


def _result_refused(data: dict[str, Any], *, code: str, message: str) -> Refused:
    return Refused(
        outbound.error(
            f"task_complete_failed: {code}",
            code=code,
            message=message,
            request_type=FrameKind.TASK_COMPLETE,
            task_id=data["task_id"],
            generation=data["generation"],
        )
    )


def _reason(data: dict[str, Any], *names: str) -> str:
    """The first of the fields that says anything."""
    return next((data[name] for name in names if data.get(name)), "unknown")
