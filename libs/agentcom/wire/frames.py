"""Frames that agents send: the table of their types, and parsing. Pure: text in, a frame or a refusal out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson

from agentcom.domain.messages import MAX_CHANNEL_NAME, MAX_MESSAGE_ID, MAX_REPLY_TO, MAX_TYPE
from agentcom.wire import outbound
from agentcom.wire.fields import Field, Kind, check, ordered, wrong_type
from agentcom.wire.json_text import NumberTooLong, decode

MAX_CAPABILITIES = 100
MAX_FEATURES = 32


class FrameKind(StrEnum):
    """The ``type`` of a frame from an agent."""

    IDENTIFY = "identify"
    PING = "ping"
    STATUS = "status"
    LIST_AGENTS = "list_agents"
    MESSAGE = "message"
    LIST_CHANNELS = "list_channels"
    CHANNEL_SUBSCRIBE = "channel_subscribe"
    CHANNEL_UNSUBSCRIBE = "channel_unsubscribe"
    CHANNEL_PUBLISH = "channel_publish"
    CHANNEL_HISTORY = "channel_history"
    TASK_ACCEPTED = "task_accepted"
    TASK_PROGRESS = "task_progress"
    TASK_COMPLETE = "task_complete"
    TASK_FAILED = "task_failed"
    TASK_REJECTED = "task_rejected"
    TASK_CANCELLED = "task_cancelled"
    TASK_RECOVERING = "task_recovering"


_TASK_ID = Field("task_id", Kind.STRING, required=True)
_GENERATION = Field("generation", Kind.INTEGER)
_GENERATION_REQUIRED = Field("generation", Kind.INTEGER, required=True)
_REASON = Field("reason", Kind.STRING, limit=2000)
_CHANNEL = Field("channel", Kind.STRING, required=True, limit=MAX_CHANNEL_NAME)
_MESSAGE = (
    Field("payload", Kind.OBJECT, required=True),
    Field("message_type", Kind.STRING, limit=MAX_TYPE),
    Field("reply_to", Kind.STRING, limit=MAX_REPLY_TO),
    Field("message_id", Kind.STRING, limit=MAX_MESSAGE_ID),
)

#: The fields of every known type, in the order in which failures are reported.
FIELDS: Mapping[FrameKind, tuple[Field, ...]] = {
    kind: ordered(fields)
    for kind, fields in {
        FrameKind.IDENTIFY: (
            Field("agent_id", Kind.STRING, required=True, limit=128),
            Field("token", Kind.STRING, required=True, limit=256),
            Field("name", Kind.STRING, limit=256),
            Field("status", Kind.STRING, limit=256),
            Field("capabilities", Kind.STRINGS, limit=128, max_items=MAX_CAPABILITIES, plain=True),
            Field("features", Kind.STRINGS, limit=64, max_items=MAX_FEATURES),
            Field("subscribe", Kind.STRINGS, limit=64, max_items=MAX_FEATURES),
        ),
        FrameKind.PING: (),
        FrameKind.STATUS: (Field("status", Kind.STRING, required=True, limit=256),),
        FrameKind.LIST_AGENTS: (),
        FrameKind.MESSAGE: (*_MESSAGE, Field("to", Kind.STRING)),
        FrameKind.LIST_CHANNELS: (),
        FrameKind.CHANNEL_SUBSCRIBE: (_CHANNEL,),
        FrameKind.CHANNEL_UNSUBSCRIBE: (_CHANNEL,),
        FrameKind.CHANNEL_PUBLISH: (_CHANNEL, *_MESSAGE),
        FrameKind.CHANNEL_HISTORY: (
            _CHANNEL,
            Field("limit", Kind.INTEGER),
            Field("since", Kind.INTEGER),
            Field("before", Kind.INTEGER),
        ),
        FrameKind.TASK_ACCEPTED: (_TASK_ID, _GENERATION),
        FrameKind.TASK_PROGRESS: (_TASK_ID, _GENERATION, Field("progress", Kind.INTEGER)),
        FrameKind.TASK_COMPLETE: (
            _TASK_ID,
            _GENERATION_REQUIRED,
            Field("result", Kind.OBJECT),
            Field("tokens_used", Kind.INTEGER),
        ),
        FrameKind.TASK_FAILED: (
            _TASK_ID,
            _GENERATION_REQUIRED,
            Field("error", Kind.STRING, limit=2000),
            _REASON,
        ),
        FrameKind.TASK_REJECTED: (_TASK_ID, _GENERATION, _REASON),
        FrameKind.TASK_CANCELLED: (_TASK_ID, _GENERATION_REQUIRED),
        FrameKind.TASK_RECOVERING: (_TASK_ID, _GENERATION),
    }.items()
}

_KINDS: Mapping[str, FrameKind] = {kind.value: kind for kind in FIELDS}
KNOWN_TYPES = sorted(_KINDS)


@dataclass(frozen=True, slots=True)
class Frame:
    """A valid frame. ``data`` is the object as it was sent, unknown fields included."""

    kind: FrameKind
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Refused:
    """An invalid frame, and the error frame that answers it."""

    reply: bytes


def parse(text: str) -> Frame | Refused:
    """Reads and validates one text frame."""
    try:
        data: Any = decode(text.encode())
    except (orjson.JSONDecodeError, NumberTooLong, RecursionError, UnicodeEncodeError):
        return Refused(outbound.INVALID_JSON)
    if type(data) is not dict:
        return _refused("unknown", [wrong_type("frame", "JSON object", data)])
    name = data.get("type")
    if name is None:
        return _refused("unknown", [{"field": "type", "error": "required", "detail": "type is required"}])
    if type(name) is not str:
        return _refused(_raw_type(name), [wrong_type("type", Kind.STRING, name)])
    kind = _KINDS.get(name)
    if kind is None:
        detail = "this is not a type of frame that agents send"
        error = {"field": "type", "error": "unknown_message_type", "detail": detail, "known_types": KNOWN_TYPES}
        return _refused(name[:128], [error])
    if errors := check(FIELDS[kind], data):
        return _refused(kind, errors, about=data)
    return Frame(kind, data)


def refuse_binary() -> Refused:
    """The answer to a binary frame."""
    detail = "frames are JSON text, not binary"
    return _refused("unknown", [{"field": "frame", "error": "wrong_type", "detail": detail}])


def _raw_type(value: object) -> object:
    """A ``type`` that is not a string, as it was sent, unless it is large."""
    return wrong_type("type", Kind.STRING, value).get("value", "unknown")


def _refused(message_type: object, errors: Iterable[dict[str, Any]], about: Mapping[str, Any] | None = None) -> Refused:
    return Refused(outbound.validation_failed(message_type, list(errors), about=about or {}))
