"""Frames that answer an operation: its result, or the reason of its refusal."""

from __future__ import annotations

from typing import TypeAlias, assert_never

from agentcom.errors import AgentComError, RateLimited, TaskNotFound
from agentcom.store.agents import AgentPage, Resumption
from agentcom.store.tasks import Report
from agentcom.wire import outbound
from agentcom.wire.frames import FrameKind
from services.ws_gateway.message_replies import MessageResult, answer_message
from services.ws_gateway.operations import (
    Accept,
    Complete,
    ConfirmCancel,
    Fail,
    Heartbeat,
    Identify,
    ListAgents,
    ListChannels,
    Operation,
    Progress,
    Publish,
    ReadChannel,
    Recover,
    Reject,
    SendMessage,
    SetStatus,
    Subscribe,
    Unsubscribe,
)

#: What the store answers: for each operation the type that its store method returns.
Result: TypeAlias = Resumption | Report | AgentPage | MessageResult | int | None

#: How a first-version client reads that a report was refused: this, a colon, the reason.
_FAILURES: dict[FrameKind, str] = {
    FrameKind.TASK_ACCEPTED: "task_accept_failed",
    FrameKind.TASK_PROGRESS: "task_progress_failed",
    FrameKind.TASK_COMPLETE: "task_complete_failed",
    FrameKind.TASK_FAILED: "task_fail_failed",
    FrameKind.TASK_REJECTED: "task_reject_failed",
    FrameKind.TASK_CANCELLED: "task_cancel_failed",
    FrameKind.TASK_RECOVERING: "task_recover_failed",
}


def refusal(operation: Operation, error: AgentComError) -> bytes:
    """The error frame for an operation that was refused or got no answer."""
    if isinstance(error, RateLimited):
        return outbound.rate_limited(error.details, request_type=operation.request)
    code = "not_found" if isinstance(error, TaskNotFound) else error.code
    failure = _FAILURES.get(operation.request)
    return outbound.error(
        code if failure is None else f"{failure}: {code}",
        code=code,
        message=error.message,
        request_type=operation.request,
        task_id=getattr(operation, "task_id", None),
        generation=getattr(operation, "generation", None),
        message_id=getattr(operation, "chosen_id", None),
        retryable=error.retryable,
    )


def answer(operation: Operation, result: Result) -> tuple[bytes, ...]:
    """The frames for an operation that was done; the next assignment follows the report that made room for it."""
    match operation:
        case Accept():
            return (outbound.task_ack(operation.task_id, "accepted", generation=operation.generation),)
        case Complete() | Fail() | ConfirmCancel():
            assert isinstance(result, Report)  # noqa: S101 - narrows what the store's method is known to return
            ack = outbound.task_ack(operation.task_id, result.outcome, generation=operation.generation)
            return (ack,) if result.next_frame is None else (ack, result.next_frame)
        case Progress():
            return ()
        case Heartbeat():
            assert isinstance(result, int)  # noqa: S101
            return (outbound.pong(result),)
        case Reject():
            return (outbound.task_ack(operation.task_id, "rejected", generation=operation.generation),)
        case Recover():
            if result is None:
                return (outbound.task_reassign(operation.task_id),)
            assert isinstance(result, int)  # noqa: S101
            return (outbound.task_continue(operation.task_id, generation=result),)
        case SetStatus():
            return (outbound.STATUS_UPDATED,)
        case ListAgents():
            assert isinstance(result, AgentPage)  # noqa: S101
            return (outbound.agents(result.agents, truncated=result.cursor is not None),)
        case SendMessage() | Publish() | ListChannels() | Subscribe() | Unsubscribe() | ReadChannel():
            return (answer_message(operation, result),)
        case Identify():
            assert isinstance(result, Resumption)  # noqa: S101
            return tuple(frame for frame in (result.assign_frame, result.cancel_frame) if frame is not None)
    assert_never(operation)
