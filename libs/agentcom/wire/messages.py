"""JSON shapes of messages, mail and channels, the same over HTTP and WebSocket. Payloads are passed through as text."""

from __future__ import annotations

from orjson import Fragment

from agentcom.domain.messages import Channel, DeliveryState, Message, Post
from agentcom.store.mail import Mail

JsonObject = dict[str, object]


def mail_shape(mail: Mail) -> Fragment:
    """An entry of a mailbox: the envelope and its ``seq``."""
    return Fragment(b'%s,"seq":%d}' % (mail.envelope[:-1], mail.seq))


def envelope_shape(message: Message) -> JsonObject:
    """A message as in threads. A post also says on which channel it was."""
    shape: JsonObject = {
        "id": message.id,
        "from": message.sender,
        "to": message.recipient,
        "type": message.type,
        "payload": Fragment(message.payload),
        "reply_to": message.reply_to,
        "timestamp": message.timestamp,
    }
    return shape if message.channel is None else {**shape, "channel": message.channel}


def history_shape(message: Message) -> JsonObject:
    """An entry of ``GET /api/messages``."""
    return {**envelope_shape(message), "seq": message.seq}


def message_state_shape(message: Message) -> JsonObject:
    """``GET /api/messages/:id``: the message and what is known of its delivery."""
    shape = {**history_shape(message), "state": message.state.value, "state_at": message.state_at}
    return {**shape, "reason": message.reason} if message.state is DeliveryState.DEAD else shape


def channel_shape(channel: Channel) -> JsonObject:
    """An entry of a list of channels."""
    return {
        "name": channel.name,
        "description": channel.description,
        "subscriber_count": channel.subscriber_count,
        "created_at": channel.created_at,
        "private": channel.private,
    }


def channel_detail_shape(channel: Channel) -> JsonObject:
    """``GET /api/channels/:channel``."""
    return {**channel_shape(channel), "subscribers": channel.subscribers, "created_by": channel.created_by}


def post_shape(post: Post) -> JsonObject:
    """An entry of a channel's history."""
    return {
        "seq": post.seq,
        "message": {
            "id": post.message_id,
            "from": post.sender,
            "to": None,
            "type": post.type,
            "payload": Fragment(post.payload),
            "reply_to": post.reply_to,
            "timestamp": post.timestamp,
        },
        "stored_at": post.timestamp,
    }
