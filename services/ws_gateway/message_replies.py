"""Frames that answer operations about messages and channels."""

from __future__ import annotations

from typing import TypeAlias, assert_never

from agentcom.domain.messages import Post
from agentcom.store.channels import ChannelPage
from agentcom.store.mail import Sent
from agentcom.wire import outbound
from services.ws_gateway.operations import (
    ListChannels,
    MessageOperation,
    Publish,
    ReadChannel,
    SendMessage,
    Subscribe,
    Unsubscribe,
)

#: What the store answers: for each operation the type that its store method returns.
MessageResult: TypeAlias = Sent | ChannelPage | bool | list[Post]


def answer_message(operation: MessageOperation, result: object) -> bytes:
    """The frame for an operation that was done."""
    match operation:
        case SendMessage():
            assert isinstance(result, Sent)  # noqa: S101 - narrows what the store's method is known to return
            return outbound.message_sent(result.message_id)
        case Publish():
            assert isinstance(result, Sent)  # noqa: S101
            return outbound.channel_published(
                operation.asked, name=operation.name, seq=result.post_seq, message_id=result.message_id
            )
        case ListChannels():
            assert isinstance(result, ChannelPage)  # noqa: S101
            return outbound.channels(result.channels, truncated=result.cursor is not None)
        case Subscribe():
            return outbound.channel_subscribed(operation.asked, name=operation.name, is_new=bool(result))
        case Unsubscribe():
            return outbound.channel_unsubscribed(operation.asked, name=operation.name)
        case ReadChannel():
            assert isinstance(result, list)  # noqa: S101
            return outbound.channel_history(operation.asked, name=operation.name, posts=result)
    assert_never(operation)
