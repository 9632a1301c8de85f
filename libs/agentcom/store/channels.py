"""Channels: who listens, who may, and what was posted. Names are normalised by the caller."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from agentcom.domain.messages import (
    MAX_CHANNELS,
    MAX_MEMBERS,
    MAX_SUBSCRIPTIONS,
    Channel,
    NewMessage,
    Post,
)
from agentcom.errors import (
    AgentComError,
    ChannelExists,
    ChannelNotFound,
    NotChannelOwner,
    TooManyChannels,
    UnknownAgent,
)
from agentcom.settings import MailLimits
from agentcom.store.keys import Keys
from agentcom.store.link import Link
from agentcom.store.mail import Sent, digest_of, said, sent
from agentcom.store.replies import as_bytes, as_list
from agentcom.store.scripts import Reply, Scripts

#: Subscribers that one answer names.
LISTED_SUBSCRIBERS = 10_000
_CHANNEL_FIELDS = 6
_POST_FIELDS = 7


@dataclass(frozen=True, slots=True)
class Viewer:
    """For whose eyes an answer is: nobody in particular is ''. Admins (``privileged``) see everything."""

    agent_id: str = ""
    privileged: bool = False

    @property
    def flag(self) -> int:
        return int(self.privileged)


@dataclass(frozen=True, slots=True)
class ChannelPage:
    """Some channels; ``cursor`` is None on the last page."""

    channels: list[Channel]
    cursor: str | None


def refusal(reply: Reply, name: str) -> AgentComError:
    """The error for a refused change of a channel."""
    match reply.code:
        case "NOT_FOUND":
            return ChannelNotFound(channel=name)
        case "NOT_OWNER":
            return NotChannelOwner(channel=name)
        case "CHANNEL_EXISTS":
            return ChannelExists(channel=name)
        case "TOO_MANY":
            return TooManyChannels()
        case "UNKNOWN_AGENT":
            return UnknownAgent()
    return AgentComError(f"unexpected code {reply.code}")


class ChannelStore:
    """Makes, changes and reads channels. A private channel is not found by agents that are not its members."""

    def __init__(self, scripts: Scripts, link: Link, keys: Keys, limits: MailLimits) -> None:
        self._scripts = scripts
        self._link = link
        self._keys = keys
        self._limits = limits

    async def create(
        self, name: str, *, description: str, created_by: str, private: bool, members: Sequence[str]
    ) -> None:
        """Raises ChannelExists, TooManyChannels."""
        reply = await self._scripts.call(
            "channel/create",
            rest=members,
            name=name,
            description=description,
            created_by=created_by,
            private=int(private),
            nonce=secrets.token_hex(8),
            max_channels=MAX_CHANNELS,
        )
        _expect_ok(reply, name)

    async def delete(self, name: str, *, by: Viewer) -> None:
        """Raises ChannelNotFound, NotChannelOwner."""
        reply = await self._scripts.call("channel/delete", name=name, agent_id=by.agent_id, privileged=by.flag)
        _expect_ok(reply, name)

    async def subscribe(self, name: str, *, by: Viewer) -> bool:
        """Whether the agent was not subscribed before. Raises ChannelNotFound, TooManyChannels."""
        reply = await self._scripts.call(
            "channel/subscribe",
            name=name,
            agent_id=by.agent_id,
            privileged=by.flag,
            max_subscriptions=MAX_SUBSCRIPTIONS,
        )
        _expect_ok(reply, name)
        return reply.text(0) == "subscribed"

    async def unsubscribe(self, name: str, *, by: Viewer) -> bool:
        """Whether the agent was subscribed. Raises ChannelNotFound."""
        reply = await self._scripts.call(
            "channel/unsubscribe",
            name=name,
            agent_id=by.agent_id,
            privileged=by.flag,
            mailbox_cap=self._limits.mailbox_cap,
        )
        _expect_ok(reply, name)
        return reply.number(0) == 1

    async def admit(self, name: str, agent_id: str, *, by: Viewer) -> None:
        """A private channel gets one more member. Raises ChannelNotFound, NotChannelOwner, UnknownAgent."""
        reply = await self._scripts.call(
            "channel/admit",
            name=name,
            owner=by.agent_id,
            privileged=by.flag,
            agent_id=agent_id,
            max_members=MAX_MEMBERS,
        )
        if reply.code == "UNKNOWN_AGENT":
            raise UnknownAgent(agent_id=agent_id)
        _expect_ok(reply, name)

    async def expel(self, name: str, agent_id: str, *, by: Viewer) -> None:
        """A private channel loses a member. Raises ChannelNotFound, NotChannelOwner."""
        reply = await self._scripts.call(
            "channel/expel", name=name, owner=by.agent_id, privileged=by.flag, agent_id=agent_id
        )
        _expect_ok(reply, name)

    async def publish(self, name: str, message: NewMessage, *, privileged: bool) -> Sent:
        """Raises ChannelNotFound, MessageIdConflict."""
        reply = await self._scripts.call(
            "channel/publish",
            name=name,
            privileged=int(privileged),
            mailed=_mailed_payload(message.payload, name),
            digest=digest_of(message, to=f"#{name}"),
            remember_ms=self._limits.idempotency_ttl_ms if message.chosen_id else 0,
            log_cap=self._limits.channel_history_cap,
            history_cap=self._limits.message_history_cap,
            **said(message),
        )
        if reply.code == "NOT_FOUND":
            raise ChannelNotFound(channel=name)
        return sent(reply, message)

    async def page(self, *, viewer: Viewer, cursor: str | None, limit: int) -> ChannelPage:
        """Channels in the order of their names, after the name ``cursor``."""
        reply = await self._scripts.call(
            "channel/list", after=cursor or "", agent_id=viewer.agent_id, privileged=viewer.flag, limit=limit
        )
        channels = [
            _channel(reply.text(start), reply, start + 1) for start in range(1, len(reply.fields), _CHANNEL_FIELDS)
        ]
        return ChannelPage(channels, reply.text(0) or None)

    async def get(self, name: str, *, viewer: Viewer) -> Channel:
        """One channel with its subscribers. Raises ChannelNotFound."""
        reply = await self._scripts.call(
            "channel/get", name=name, agent_id=viewer.agent_id, privileged=viewer.flag, limit=LISTED_SUBSCRIBERS
        )
        _expect_ok(reply, name)
        subscribers = tuple(reply.text(index) for index in range(_CHANNEL_FIELDS - 1, len(reply.fields)))
        return _channel(name, reply, 0, subscribers=subscribers)

    async def history(
        self, name: str, *, viewer: Viewer, after: int | None, before: int | None, limit: int
    ) -> list[Post]:
        """Posts, oldest first: the first ``limit`` after one, or the last ``limit`` before one (None: the end).

        Raises ChannelNotFound.
        """
        reply = await self._scripts.call(
            "channel/history",
            name=name,
            agent_id=viewer.agent_id,
            privileged=viewer.flag,
            after="" if after is None else after,
            before="" if before is None else before,
            limit=limit,
            log_cap=self._limits.channel_history_cap,
        )
        _expect_ok(reply, name)
        return [_post(reply, start) for start in range(0, len(reply.fields), _POST_FIELDS)]

    async def subscriptions(self, agent_id: str, *, viewer: Viewer) -> list[str]:
        """Names of the channels an agent has subscribed to, as far as they exist for the viewer."""
        names = as_list(
            await self._link.call(
                "ZRANGEBYLEX", self._keys.subscriptions(agent_id), "-", "+", "LIMIT", 0, MAX_SUBSCRIPTIONS * 2
            )
        )
        found = [as_bytes(name).decode() for name in names]
        scores = [self._link.call("ZSCORE", self._keys.subscribers(name), agent_id) for name in found]
        hidden = [self._link.call("HGET", self._keys.channel(name), "private") for name in found]
        member = [self._link.call("SISMEMBER", self._keys.members(name), viewer.agent_id) for name in found]
        return [
            name
            for name, score, private, is_member in zip(found, scores, hidden, member, strict=True)
            if await score is not None and (await private != b"1" or viewer.privileged or await is_member == 1)
        ]


def _expect_ok(reply: Reply, name: str) -> None:
    if reply.code != "OK":
        raise refusal(reply, name)


def _mailed_payload(payload: bytes, name: str) -> bytes:
    """The payload as it lies in mailboxes, if adding the channel's name takes more than appending it; else ''."""
    if b'"channel"' not in payload:
        return b""
    content = orjson.loads(payload)
    return orjson.dumps({**content, "channel": name}) if "channel" in content else b""


def _channel(name: str, reply: Reply, start: int, *, subscribers: tuple[str, ...] = ()) -> Channel:
    return Channel(
        name=name,
        description=reply.text(start),
        created_at=reply.number(start + 1),
        created_by=reply.text(start + 2),
        private=reply.text(start + 3) == "1",
        subscriber_count=reply.number(start + 4),
        subscribers=subscribers,
    )


def _post(reply: Reply, start: int) -> Post:
    return Post(
        seq=reply.number(start),
        message_id=reply.text(start + 1),
        sender=reply.text(start + 2),
        type=reply.text(start + 3),
        payload=reply.raw(start + 4),
        reply_to=reply.text(start + 5) or None,
        timestamp=reply.number(start + 6),
    )
