"""Messages between agents: delivery states, names, records. Pure: no I/O, no clock."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

#: The recipient that stands for everybody.
BROADCAST: Final = "broadcast"
DEFAULT_TYPE: Final = "chat"

MAX_MESSAGE_ID: Final = 128
MAX_TYPE: Final = 256
MAX_REPLY_TO: Final = 256
MAX_CHANNEL_NAME: Final = 64
MAX_CHANNEL_DESCRIPTION: Final = 10_000
#: Channels of one agent; what it missed on them is looked for when it connects.
MAX_SUBSCRIPTIONS: Final = 100
MAX_MEMBERS: Final = 1_000
MAX_CHANNELS: Final = 10_000

_MESSAGE_ID: Final = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{MAX_MESSAGE_ID - 1}}}")
_NOT_IN_CHANNEL_NAMES: Final = re.compile(r"[^a-z0-9_-]")


class DeliveryState(StrEnum):
    """What is known of a message's way. The last three are final."""

    PUBLISHED = "published"  #: to everybody or to a channel: there is no single recipient to speak of
    QUEUED = "queued"  #: in the recipient's mailbox, perhaps on its way to the recipient's socket
    DELIVERED = "delivered"  #: written to the recipient's socket
    ACKNOWLEDGED = "acknowledged"  #: the recipient polled and acknowledged it
    DEAD = "dead"  #: dropped from the mailbox: ``mailbox_full`` or ``expired``


def is_message_id(text: str) -> bool:
    """Whether a client may choose this as a message's id."""
    return _MESSAGE_ID.fullmatch(text) is not None


def channel_name(text: str) -> str:
    """The normalised name: no ``#`` in front, lower case, only letters, digits, ``-`` and ``_``. May be empty."""
    return _NOT_IN_CHANNEL_NAMES.sub("", text.lstrip("#").lower())


def is_channel_name(name: str) -> bool:
    """Whether a normalised name may name a channel."""
    return 0 < len(name) <= MAX_CHANNEL_NAME


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMessage:
    """What is to be sent. ``payload`` is compact JSON text of an object; ``chosen_id`` says that a client chose it."""

    id: str
    sender: str
    type: str
    payload: bytes
    reply_to: str | None
    chosen_id: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A stored message. ``payload`` is JSON text, times are epoch milliseconds.

    ``seq`` orders all messages: microseconds since 1970, or one more than the last. ``channel`` is set for posts, whose
    ``recipient`` is None.
    """

    id: str
    sender: str
    recipient: str | None
    channel: str | None
    type: str
    payload: bytes
    reply_to: str | None
    timestamp: int
    seq: int
    state: DeliveryState
    state_at: int
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """A channel's record. ``subscribers`` are most recent first, empty where only their number was asked for."""

    name: str
    description: str
    created_at: int
    created_by: str
    private: bool
    subscriber_count: int
    subscribers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """An entry of a channel's log; ``seq`` counts the channel's posts from 1."""

    seq: int
    message_id: str
    sender: str
    type: str
    payload: bytes
    reply_to: str | None
    timestamp: int
