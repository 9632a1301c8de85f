"""From a valid frame about messages or channels to the operation that it asks for."""

from __future__ import annotations

from typing import Any, Final

from agentcom.domain.messages import BROADCAST, DEFAULT_TYPE, channel_name, is_channel_name, is_message_id
from agentcom.wire import outbound
from agentcom.wire.frames import Frame, FrameKind, Refused
from agentcom.wire.json_text import encode
from services.ws_gateway.operations import (
    ListChannels,
    MessageOperation,
    Publish,
    ReadChannel,
    SendMessage,
    Subscribe,
    Unsubscribe,
)

DEFAULT_POSTS: Final = 50
MAX_POSTS: Final = 200
#: Sequence numbers that every JSON reader keeps exactly.
_MAX_SEQ: Final = 2**53


def message_operation(frame: Frame, *, max_payload_bytes: int) -> MessageOperation | Refused:
    """The operation, or an error frame for what the store need not be asked about."""
    data, kind = frame.data, frame.kind
    if kind is FrameKind.LIST_CHANNELS:
        return ListChannels()
    if kind is FrameKind.MESSAGE:
        return _send(data, max_payload_bytes=max_payload_bytes)
    asked = data["channel"]
    name = channel_name(asked)
    if not is_channel_name(name):
        return _refused(kind, "channel_not_found", "No channel has this name.")
    match kind:
        case FrameKind.CHANNEL_SUBSCRIBE:
            return Subscribe(asked, name)
        case FrameKind.CHANNEL_UNSUBSCRIBE:
            return Unsubscribe(asked, name)
        case FrameKind.CHANNEL_PUBLISH:
            return _publish(data, asked=asked, name=name, max_payload_bytes=max_payload_bytes)
        case FrameKind.CHANNEL_HISTORY:
            return _read(data, asked=asked, name=name)
    raise ValueError(f"{kind} is not about messages")


def _send(data: dict[str, Any], *, max_payload_bytes: int) -> SendMessage | Refused:
    payload = _payload(FrameKind.MESSAGE, data, max_payload_bytes=max_payload_bytes)
    if isinstance(payload, Refused):
        return payload
    to = data.get("to")
    return SendMessage(
        to=None if to == BROADCAST else to,
        message_type=_message_type(data),
        payload=payload,
        reply_to=data.get("reply_to") or None,
        chosen_id=data.get("message_id"),
    )


def _publish(data: dict[str, Any], *, asked: str, name: str, max_payload_bytes: int) -> Publish | Refused:
    payload = _payload(FrameKind.CHANNEL_PUBLISH, data, max_payload_bytes=max_payload_bytes)
    if isinstance(payload, Refused):
        return payload
    return Publish(
        asked=asked,
        name=name,
        message_type=_message_type(data),
        payload=payload,
        reply_to=data.get("reply_to") or None,
        chosen_id=data.get("message_id"),
    )


def _message_type(data: dict[str, Any]) -> str:
    given = data.get("message_type")
    return DEFAULT_TYPE if given is None else given


def _payload(kind: FrameKind, data: dict[str, Any], *, max_payload_bytes: int) -> bytes | Refused:
    chosen_id = data.get("message_id")
    if chosen_id is not None and not is_message_id(chosen_id):
        message = "A message_id is letters, digits, dots, underscores and hyphens, and begins with a letter or digit."
        return _refused(kind, "invalid_message_id", message)
    try:
        payload = encode(data["payload"])
    except TypeError:
        return _refused(kind, "payload_too_deep", "The payload is nested too deeply.", message_id=chosen_id)
    if len(payload) > max_payload_bytes:
        message = f"The payload has {len(payload)} bytes; it may have {max_payload_bytes}."
        return _refused(kind, "payload_too_large", message, message_id=chosen_id)
    return payload


def _read(data: dict[str, Any], *, asked: str, name: str) -> ReadChannel | Refused:
    since, before, limit = data.get("since"), data.get("before"), data.get("limit")
    limit = DEFAULT_POSTS if limit is None else limit
    numbers = {"limit": limit, "since": since, "before": before}
    for field, value in numbers.items():
        if value is not None and not 0 <= value <= _MAX_SEQ:
            return _refused(FrameKind.CHANNEL_HISTORY, "out_of_range", f"{field} must not be negative.")
    return ReadChannel(asked=asked, name=name, since=since, before=before, limit=min(limit, MAX_POSTS))


def _refused(kind: FrameKind, code: str, message: str, *, message_id: str | None = None) -> Refused:
    return Refused(outbound.error(code, code=code, message=message, request_type=kind, message_id=message_id))
