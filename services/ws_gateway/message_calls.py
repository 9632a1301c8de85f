"""Performing the operations about messages and channels on the store."""

from __future__ import annotations

import secrets
from collections.abc import Coroutine
from typing import Any, assert_never

from agentcom.domain.messages import NewMessage, Post
from agentcom.errors import ChannelNotFound
from agentcom.store.channels import Viewer
from agentcom.store.store import Store
from services.ws_gateway.message_replies import MessageResult
from services.ws_gateway.operations import (
    ListChannels,
    MessageOperation,
    Publish,
    ReadChannel,
    SendMessage,
    Subscribe,
    Unsubscribe,
)

#: Channels that one list_channels frame names.
LISTED_CHANNELS = 1_000


def perform_message(store: Store, operation: MessageOperation, *, agent_id: str) -> Coroutine[Any, Any, MessageResult]:
    """The store call for an operation of an agent."""
    viewer = Viewer(agent_id)
    match operation:
        case SendMessage():
            message = _new_message(operation, agent_id)
            if operation.to is None:
                return store.mail.broadcast(message)
            return store.mail.send(message, to=operation.to)
        case Publish():
            return store.channels.publish(operation.name, _new_message(operation, agent_id), privileged=False)
        case ListChannels():
            return store.channels.page(viewer=viewer, cursor=None, limit=LISTED_CHANNELS)
        case Subscribe():
            return store.channels.subscribe(operation.name, by=viewer)
        case Unsubscribe():
            return store.channels.unsubscribe(operation.name, by=viewer)
        case ReadChannel():
            return _read(store, operation, viewer)
    assert_never(operation)


def _new_message(operation: SendMessage | Publish, agent_id: str) -> NewMessage:
    return NewMessage(
        id=operation.chosen_id or secrets.token_hex(8),
        sender=agent_id,
        type=operation.message_type,
        payload=operation.payload,
        reply_to=operation.reply_to,
        chosen_id=operation.chosen_id is not None,
    )


async def _read(store: Store, operation: ReadChannel, viewer: Viewer) -> list[Post]:
    """A channel that does not exist has no posts."""
    try:
        return await store.channels.history(
            operation.name, viewer=viewer, after=operation.since, before=operation.before, limit=operation.limit
        )
    except ChannelNotFound:
        return []
