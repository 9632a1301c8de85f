"""Every error the hub can answer with.

The docstring of a class is its default message. ``code`` is the machine code of HTTP and WebSocket errors,
``http_status`` and ``retryable`` tell an HTTP client what happened and whether the same call may succeed later.
"""

from __future__ import annotations

from typing import ClassVar


class AgentComError(Exception):
    """The hub could not do what was asked."""

    code: ClassVar[str] = "internal_error"
    http_status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    def __init__(self, message: str | None = None, /, **details: object) -> None:
        self.message = message or (type(self).__doc__ or "").strip()
        self.details = details
        super().__init__(self.message)


class TaskNotFound(AgentComError):
    """No task has this id."""

    code = "task_not_found"
    http_status = 404


class AgentNotFound(AgentComError):
    """No agent has this id."""

    code = "agent_not_found"
    http_status = 404


class InvalidState(AgentComError):
    """The task's status does not allow this."""

    code = "invalid_state"
    http_status = 409


class StaleGeneration(AgentComError):
    """The task was assigned anew since this generation."""

    code = "stale_generation"
    http_status = 409


class NotOwner(AgentComError):
    """The task is assigned to another agent."""

    code = "not_owner"
    http_status = 403


class NotSubmitter(AgentComError):
    """Only the submitter of a task, an operator or an admin may do this."""

    code = "not_submitter"
    http_status = 403


class NotCancelling(AgentComError):
    """Nobody asked for this task to be cancelled."""

    code = "not_cancelling"
    http_status = 409


class InvalidCursor(AgentComError):
    """The cursor is not one that this hub gave out."""

    code = "invalid_cursor"
    http_status = 422


class IdempotencyConflict(AgentComError):
    """This idempotency key was used before with another body."""

    code = "idempotency_conflict"
    http_status = 409


class AgentExists(AgentComError):
    """The agent id is registered already."""

    code = "agent_exists"
    http_status = 409


class TokenExists(AgentComError):
    """This very token exists already."""

    code = "token_exists"
    http_status = 409


class InvalidToken(AgentComError):
    """The token is not known."""

    code = "invalid_token"
    http_status = 401


class TokenAgentMismatch(AgentComError):
    """The token belongs to another agent."""

    code = "token_agent_mismatch"
    http_status = 403


class Cooldown(AgentComError):
    """The agent was disconnected for too many invalid frames and must wait."""

    code = "cooldown"
    http_status = 429
    retryable = True


class GatewayLeaseLost(AgentComError):
    """The gateway's lease has lapsed, so it may not hold agents."""

    code = "gateway_lease_lost"
    http_status = 503
    retryable = True


class ConnectionReplaced(AgentComError):
    """A newer connection of the same agent has taken over."""

    code = "connection_replaced"
    http_status = 409


class RateLimited(AgentComError):
    """Too many requests: wait before the next one."""

    code = "rate_limited"
    http_status = 429
    retryable = True


class UnknownAgent(AgentComError):
    """There is no agent with this id to send to."""

    code = "unknown_agent"
    http_status = 404


class MessageNotFound(AgentComError):
    """No message has this id, or it is not yours to see."""

    code = "message_not_found"
    http_status = 404


class MessageIdConflict(AgentComError):
    """This message id was used before for another message."""

    code = "message_id_conflict"
    http_status = 409


class ChannelNotFound(AgentComError):
    """No channel has this name, or it is private and you are not a member."""

    code = "channel_not_found"
    http_status = 404


class ChannelExists(AgentComError):
    """A channel with this name exists already."""

    code = "channel_exists"
    http_status = 409


class NotChannelOwner(AgentComError):
    """Only the creator of a channel or an admin may do this."""

    code = "not_channel_owner"
    http_status = 403


class TooManyChannels(AgentComError):
    """There are as many channels, members or subscriptions as there may be."""

    code = "too_many_channels"
    http_status = 409


class StoreUnavailable(AgentComError):
    """The store can't be reached at the moment; try again."""

    code = "store_unavailable"
    http_status = 503
    retryable = True


class StoreFull(AgentComError):
    """The store is out of memory and admits nothing new; try again later."""

    code = "store_full"
    http_status = 503
    retryable = True
