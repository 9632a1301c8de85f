"""Frames that the hub sends to agents. Every function returns one encoded frame."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from agentcom.domain.agents import Agent
from agentcom.domain.messages import Channel, Post
from agentcom.wire.json_text import is_long
from agentcom.wire.messages import channel_shape, post_shape

PROTOCOL_VERSION = 1
#: What this hub understands beyond the first version of the protocol.
FEATURES = ("cancel", "generation", "presence", "progress", "reject")

INVALID_JSON = b'{"type":"error","error":"invalid_json","code":"invalid_json","message":"The frame is not valid JSON."}'
NOT_IDENTIFIED = (
    b'{"type":"error","error":"not_identified","code":"not_identified","message":"Send an identify frame first."}'
)
STATUS_UPDATED = b'{"type":"status_updated"}'


def identified(agent_id: str, *, heartbeat_interval_ms: int, max_frame_bytes: int) -> bytes:
    return orjson.dumps(
        {
            "type": "identified",
            "agent_id": agent_id,
            "protocol_version": PROTOCOL_VERSION,
            "features": FEATURES,
            "heartbeat_interval_ms": heartbeat_interval_ms,
            "max_frame_bytes": max_frame_bytes,
        }
    )


def pong(timestamp: int) -> bytes:
    """``timestamp`` is the store's time in epoch milliseconds."""
    return orjson.dumps({"type": "pong", "timestamp": timestamp})


def agents(connected: Iterable[Agent], *, truncated: bool) -> bytes:
    """``truncated``: there are more agents than the frame names."""
    described = [
        {
            "agent_id": agent.id,
            "name": agent.name,
            "status": agent.status,
            "capabilities": agent.capabilities,
            "connected_at": agent.connected_at,
        }
        for agent in connected
    ]
    return orjson.dumps({"type": "agents", "agents": described, "truncated": truncated})


def message_sent(message_id: str) -> bytes:
    return orjson.dumps({"type": "message_sent", "id": message_id})


def channels(found: Iterable[Channel], *, truncated: bool) -> bytes:
    """``truncated``: there are more channels than the frame names."""
    shapes = [channel_shape(channel) for channel in found]
    return orjson.dumps({"type": "channels", "channels": shapes, "truncated": truncated})


def channel_subscribed(asked: str, *, name: str, is_new: bool) -> bytes:
    """``asked`` is the channel as the client spelled it, ``name`` as it is called."""
    frame = {"type": "channel_subscribed", "channel": asked, "name": name}
    return orjson.dumps(frame if is_new else {**frame, "note": "already_subscribed"})


def channel_unsubscribed(asked: str, *, name: str) -> bytes:
    return orjson.dumps({"type": "channel_unsubscribed", "channel": asked, "name": name})


def channel_published(asked: str, *, name: str, seq: int, message_id: str) -> bytes:
    return orjson.dumps({"type": "channel_published", "channel": asked, "name": name, "seq": seq, "id": message_id})


def channel_history(asked: str, *, name: str, posts: Iterable[Post]) -> bytes:
    shapes = [post_shape(post) for post in posts]
    return orjson.dumps({"type": "channel_history", "channel": asked, "name": name, "messages": shapes})


def task_ack(task_id: str, status: str, *, generation: int | None) -> bytes:
    frame = {"type": "task_ack", "task_id": task_id, "status": status}
    return orjson.dumps(frame if generation is None else {**frame, "generation": generation})


def task_continue(task_id: str, *, generation: int) -> bytes:
    return orjson.dumps({"type": "task_continue", "task_id": task_id, "generation": generation})


def task_reassign(task_id: str) -> bytes:
    return orjson.dumps({"type": "task_reassign", "task_id": task_id})


def presence(event: str, *, agent_id: str, agent: Mapping[str, Any] | None) -> bytes:
    """``agent_joined`` and ``status_changed`` carry the agent, ``agent_left`` only its id."""
    return orjson.dumps({"type": event, "agent_id": agent_id} if agent is None else {"type": event, "agent": agent})


def rate_limit_warning(tier: str, *, left: int, limit: int) -> bytes:
    """Comes before the answer; the frame was served."""
    return orjson.dumps({"type": "rate_limit_warning", "tier": tier, "remaining": left, "capacity": limit})


def rate_limited(details: Mapping[str, object], *, request_type: str) -> bytes:
    """The frame was not served. ``details`` are the tier and the milliseconds to wait."""
    return orjson.dumps({"type": "rate_limited", **details, "request_type": request_type})


def error(
    text: str,
    *,
    code: str,
    message: str,
    request_type: str | None = None,
    task_id: str | None = None,
    generation: int | None = None,
    message_id: str | None = None,
    retryable: bool = False,
) -> bytes:
    """``text`` is what first-version clients look at; it may hold more than the code."""
    frame: dict[str, Any] = {"type": "error", "error": text, "code": code, "message": message}
    if task_id is not None:
        frame["task_id"] = task_id
    if generation is not None:
        frame["generation"] = generation
    if message_id is not None:
        frame["message_id"] = message_id
    if request_type is not None:
        frame["request_type"] = request_type
    if retryable:
        frame["retryable"] = True
    return orjson.dumps(frame)


def validation_failed(message_type: object, errors: list[dict[str, Any]], *, about: Mapping[str, Any]) -> bytes:
    """``about`` is the refused frame: what it says of a task is repeated, so that the client knows which one it was."""
    frame: dict[str, Any] = {
        "type": "error",
        "error": "validation_failed",
        "code": "validation_failed",
        "message": "; ".join(str(one["detail"]) for one in errors),
        "message_type": message_type,
        "errors": errors,
    }
    if type(task_id := about.get("task_id")) is str and len(task_id) <= 128:
        frame["task_id"] = task_id
    if type(generation := about.get("generation")) is int and not is_long(generation):
        frame["generation"] = generation
    if about:
        frame["request_type"] = message_type
    return orjson.dumps(frame)
