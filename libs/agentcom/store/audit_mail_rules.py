"""What must be true of a stored message, mailbox and channel. Pure: facts in, sentences about what is wrong out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from agentcom.domain.messages import DeliveryState


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageFacts:
    """``listed`` and ``answered`` are its places in the history and among the answers to what it answers."""

    id: str
    to: str | None
    state: str | None
    seq: float | None
    reply_to: str | None
    listed: float | None
    answered: float | None
    is_forgotten_some_day: bool
    in_mailbox: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class MailboxFacts:
    """``place`` is where it stands among the mailboxes, ``latest`` the number of the latest message of all."""

    agent_id: str
    size: int
    most: int
    oldest: float | None
    newest: float | None
    place: float | None
    cursor: float | None
    latest: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelFacts:
    name: str
    exists: bool
    listed: bool
    seq: float | None
    latest_post: float | None
    posts: int
    subscribers: int
    members: int


def message_findings(message: MessageFacts) -> Iterator[str]:
    """What is wrong with one message."""
    who = f"message {message.id}"
    if message.state is None:
        if message.listed is not None:
            yield f"{who} does not exist but is in the history"
        return
    if message.state not in set(DeliveryState):
        yield f"{who} has the unknown state {message.state}"
        return
    waits = message.state == DeliveryState.QUEUED
    if waits != message.in_mailbox:
        yield f"{who} is {message.state} but is {'not ' if waits else ''}in the mailbox of {message.to}"
    if message.listed is None:
        if not waits and not message.is_forgotten_some_day:
            yield f"{who} is {message.state}, is not in the history, and is never forgotten"
        return
    if message.listed != message.seq:
        yield f"{who} has the number {_digits(message.seq)} but is in the history at {_digits(message.listed)}"
    if message.reply_to is not None and message.answered != message.seq:
        yield f"{who} is not among the answers to {message.reply_to}"


def mailbox_findings(mailbox: MailboxFacts) -> Iterator[str]:
    """What is wrong with one mailbox."""
    who = f"mailbox {mailbox.agent_id}"
    if mailbox.oldest is not None and (mailbox.place is None or mailbox.place > mailbox.oldest):
        yield f"{who} begins at {_digits(mailbox.oldest)} but is listed at {_digits(mailbox.place)}: nothing is evicted"
    if mailbox.newest is not None and mailbox.newest > mailbox.latest:
        yield f"{who} has the number {_digits(mailbox.newest)}, the latest that was given is {_digits(mailbox.latest)}"
    if mailbox.cursor is not None and mailbox.cursor > mailbox.latest:
        yield f"{who} is read up to {_digits(mailbox.cursor)}, the latest that was given is {_digits(mailbox.latest)}"
    if mailbox.size > mailbox.most:
        yield f"{who} holds {mailbox.size} messages, more than {mailbox.most}"


def channel_findings(channel: ChannelFacts) -> Iterator[str]:
    """What is wrong with one channel."""
    who = f"channel {channel.name}"
    if channel.exists != channel.listed:
        yield f"{who} {'exists' if channel.exists else 'does not exist'} but is {_not(channel.listed)}in the list"
    if not channel.exists:
        left = {"posts": channel.posts, "subscribers": channel.subscribers, "members": channel.members}
        if what := [name for name, count in left.items() if count]:
            yield f"{who} does not exist but has {', '.join(what)}"
    elif channel.latest_post is not None and (channel.seq is None or channel.latest_post > channel.seq):
        yield f"{who} has counted {_digits(channel.seq)} posts, the latest is number {_digits(channel.latest_post)}"


def _not(there: bool) -> str:
    return "" if there else "not "


def _digits(number: float | None) -> str:
    return "nothing" if number is None else f"{number:.0f}"
