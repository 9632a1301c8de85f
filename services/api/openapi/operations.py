"""Every route: what it is for, what it takes, what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from services.api.openapi import models as m

Body = dict[str, Any]

_CURSOR: Final = {"cursor": {"type": "string", "description": "From the page before."}}
_LIMIT: Final = {"limit": {"type": "integer", "description": "Entries on a page."}}
_PAGE: Final = {**_LIMIT, **_CURSOR}
_TIMES: Final = {name: {"type": "integer", "description": "ms, inclusive"} for name in ("start_time", "end_time")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """``answers``: the model of each status that is no error; ``errors``: the statuses that are, beyond those which the
    kind of route implies. ``media_type`` other than JSON has no model.
    """

    summary: str
    tag: str
    answers: Mapping[int, Any]
    errors: tuple[int, ...] = ()
    body: str | None = None
    query: Mapping[str, Body] = field(default_factory=dict)
    media_type: str = "application/json"


def _read(tag: str, summary: str, model: Any, *errors: int, query: Mapping[str, Body] | None = None) -> Operation:
    return Operation(summary=summary, tag=tag, answers={200: model}, errors=errors, query=query or {})


def _write(tag: str, summary: str, model: Any, *errors: int, body: str | None = None, status: int = 200) -> Operation:
    return Operation(summary=summary, tag=tag, answers={status: model}, errors=errors, body=body)


_FILTERS: Final[Mapping[str, Body]] = {
    "priority": {"type": "string", "enum": ["urgent", "high", "normal", "low"]},
    "assigned_to": {"type": "string"},
    **_PAGE,
}
_STATUS: Final[Body] = {
    "type": "string",
    "enum": ["queued", "delayed", "assigned", "completed", "cancelled", "dead_letter"],
}

OPERATIONS: Final[Mapping[str, Operation]] = {
    "GET /health": Operation(summary="What works and what does not", tag="hub", answers={200: m.Health, 503: m.Health}),
    "GET /openapi.json": _read("hub", "This document", dict[str, Any]),
    "GET /docs": Operation(
        summary="This document, to read", tag="hub", answers={200: str}, media_type="text/html; charset=utf-8"
    ),
    "GET /api/schemas": _read("hub", "The fields of frames and bodies", m.Schemas),
    # Tasks.
    "POST /api/tasks": Operation(
        summary="Submit a task; 200 for one that was submitted before under the same key",
        tag="tasks",
        answers={201: m.Submission, 200: m.Submission},
        errors=(409, 422),
        body="post_task",
    ),
    "POST /api/tasks/bulk": _write(
        "tasks", "Submit up to 1,000 tasks", m.BulkSubmission, 409, 422, body="post_tasks_bulk"
    ),
    "GET /api/tasks": _read(
        "tasks", "All tasks but the dead letters", m.TaskList, 422, query={"status": _STATUS, **_FILTERS}
    ),
    "GET /api/tasks/dead-letter": _read("tasks", "Dead letters", m.TaskList, 422, query=_FILTERS),
    "GET /api/tasks/stats": _read("tasks", "How many tasks are where", m.TaskStats),
    "GET /api/tasks/{task_id}": _read("tasks", "One task", m.Task, 404),
    "POST /api/tasks/{task_id}/retry": _write("tasks", "Queue a dead letter again", m.Requeued, 404),
    "POST /api/tasks/{task_id}/cancel": _write(
        "tasks", "End a task", m.Cancelled, 403, 404, 409, 422, body="post_task_cancel"
    ),
    # Agents.
    "GET /api/agents": _read("agents", "Connected agents", m.AgentList, 422, query=_PAGE),
    "GET /api/agents/states": _read("agents", "What connected agents are doing", m.AgentStates, 422, query=_PAGE),
    "GET /api/agents/{agent_id}/state": _read("agents", "What one agent is doing", m.AgentStateDetail, 404),
    "GET /api/agents/{agent_id}/subscriptions": _read(
        "agents", "The channels an agent has subscribed to", m.Subscriptions, 404, 422
    ),
    "POST /api/onboard/register": _write(
        "agents", "Register an agent id", m.Registration, 401, 403, 409, 422, body="post_onboard_register", status=201
    ),
    # Messages.
    "POST /api/message": _write(
        "messages", "Send to one agent, or to all", m.MessageSent, 404, 409, 422, body="post_message"
    ),
    "GET /api/messages": _read(
        "messages",
        "History",
        m.MessageList,
        422,
        query={
            **{name: {"type": "string"} for name in ("from", "to", "channel")},
            **_TIMES,
            "order": {"type": "string", "enum": ["asc", "desc"]},
            "cursor": {"type": "integer"},
            "limit": {"type": "integer"},
        },
    ),
    "GET /api/messages/{message_id}": _read("messages", "One message and its delivery", m.MessageState, 404, 422),
    "GET /api/mailbox/{agent_id}": _read(
        "messages", "Mail that waits for an agent", m.Mailbox, 403, 422, query={"since": {"type": "integer"}, **_LIMIT}
    ),
    "POST /api/mailbox/{agent_id}/ack": _write(
        "messages", "Acknowledge mail up to a number", m.Acked, 403, 422, body="post_mailbox_ack"
    ),
    "POST /api/mailbox/evict": _write("messages", "Drop mail that is too old", m.Evicted),
    "GET /api/threads/{message_id}": _read("messages", "A whole thread", m.Thread, 404, 422),
    "GET /api/threads/{message_id}/replies": _read("messages", "Direct replies to a message", m.Replies, 404, 422),
    "GET /api/threads/{message_id}/root": _read("messages", "The message that began a thread", m.ThreadRoot, 404, 422),
    # Channels.
    "GET /api/channels": _read("channels", "All channels", m.ChannelList, 422, query=_PAGE),
    "POST /api/channels": _write(
        "channels", "Create a channel", m.ChannelChange, 409, 422, body="post_channel", status=201
    ),
    "GET /api/channels/{channel}": _read("channels", "One channel", m.ChannelDetail, 403, 404, 422),
    "DELETE /api/channels/{channel}": _write("channels", "Delete a channel", m.ChannelChange, 403, 404, 422),
    "POST /api/channels/{channel}/subscribe": _write(
        "channels", "Subscribe to a channel", m.ChannelChange, 403, 404, 409, 422
    ),
    "POST /api/channels/{channel}/unsubscribe": _write(
        "channels", "End a subscription", m.ChannelChange, 403, 404, 422
    ),
    "POST /api/channels/{channel}/publish": _write(
        "channels", "Publish on a channel", m.Published, 403, 404, 409, 422, body="post_channel_publish"
    ),
    "POST /api/channels/{channel}/members": _write(
        "channels",
        "Let an agent into a private channel",
        m.MemberChange,
        403,
        404,
        409,
        422,
        body="post_channel_member",
    ),
    "DELETE /api/channels/{channel}/members/{agent_id}": _write(
        "channels", "Put a member out of a private channel", m.MemberChange, 403, 404, 409, 422
    ),
    "GET /api/channels/{channel}/history": _read(
        "channels",
        "What was published",
        m.ChannelHistory,
        403,
        404,
        422,
        query={name: {"type": "integer"} for name in ("limit", "since", "before")},
    ),
    # Configuration.
    "GET /api/config/heartbeat-interval": _read("config", "How often agents ping", m.HeartbeatInterval),
    "PUT /api/config/heartbeat-interval": _write(
        "config", "Change how often agents ping", m.HeartbeatInterval, 422, body="put_heartbeat_interval"
    ),
    "GET /api/config/mailbox-retention": _read("config", "How long mail is kept", m.MailboxRetention),
    "PUT /api/config/mailbox-retention": _write(
        "config", "Change how long mail is kept", m.MailboxRetention, 422, body="put_mailbox_retention"
    ),
    "GET /api/config/default-repo": _read("config", "The repository told to new agents", m.DefaultRepo),
    "PUT /api/config/default-repo": _write(
        "config", "Change that repository", m.DefaultRepoSet, 422, body="put_default_repo"
    ),
    "GET /api/config/alert-thresholds": _read("config", "When alerts fire", m.Thresholds),
    "PUT /api/config/alert-thresholds": _write(
        "config", "Change when alerts fire", m.ThresholdsSet, 422, body="put_alert_thresholds"
    ),
    # Analytics.
    "GET /api/analytics/summary": _read("analytics", "Agents at a glance", m.AnalyticsSummary),
    "GET /api/analytics/agents": _read("analytics", "Each agent over 24 hours", m.AnalyticsAgents),
    "GET /api/analytics/agents/{agent_id}/hourly": _read("analytics", "One agent by the hour", m.AnalyticsHours, 404),
    # Administration.
    "POST /admin/tokens": _write("admin", "Make a token", m.MintedToken, 422, body="post_admin_token", status=201),
    "GET /admin/tokens": _read("admin", "All tokens; one's own for agents", m.TokenList),
    "DELETE /admin/tokens/{agent_id}": _write("admin", "Revoke an agent's tokens", m.Revoked, 403, 422),
    "GET /api/admin/audit": _read("admin", "Who did what, newest first", m.AuditLog, 422, query=_PAGE),
    "POST /api/admin/reset": _write("admin", "Clear what is volatile, and keep serving", m.ResetDone),
    "PUT /api/admin/log-level": _write(
        "admin", "Change the log level of every process", m.LogLevelSet, 422, body="put_log_level"
    ),
    "POST /api/admin/push-task": _write(
        "admin", "Give a task to one connected agent", m.Pushed, 404, 422, body="post_admin_push_task"
    ),
    "GET /api/admin/rate-limits": _read("admin", "All rate limits", m.RateLimits),
    "PUT /api/admin/rate-limits/{agent_id}": _write(
        "admin", "Set the rate limits of one agent or address", m.OverridesSet, 422, body="put_rate_limits"
    ),
    "DELETE /api/admin/rate-limits/{agent_id}": _write("admin", "Go back to the default limits", m.Listed, 422),
    "GET /api/admin/rate-limits/whitelist": _read("admin", "Who has no rate limits", m.Whitelist),
    "PUT /api/admin/rate-limits/whitelist": _write(
        "admin", "Replace the list of those without limits", m.Whitelist, 422, body="put_whitelist"
    ),
    "POST /api/admin/rate-limits/whitelist": _write(
        "admin", "Exempt one from rate limits", m.Listed, 422, body="post_whitelist"
    ),
    "DELETE /api/admin/rate-limits/whitelist/{agent_id}": _write("admin", "Limit one again", m.Listed, 422),
}

UNDESCRIBED: Final = Operation(summary="", tag="other", answers={200: dict[str, Any]}, errors=(403, 404, 409, 422))
