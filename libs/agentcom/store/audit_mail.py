"""Messages, mailboxes and channels, looked at for contradictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from agentcom.store.audit_mail_rules import (
    ChannelFacts,
    MailboxFacts,
    MessageFacts,
    channel_findings,
    mailbox_findings,
    message_findings,
)
from agentcom.store.audit_walk import Findings, Index, Walk, as_number, as_text, found, once
from agentcom.store.link import RedisValue
from agentcom.store.replies import as_int, as_list
from agentcom.store.store import Store

#: Entries of a mailbox that one script call looks at; each may be large.
ENTRIES: Final = 50
#: What a connected agent may have on its way is so many times what an agent that is away may have waiting.
ON_THE_WAY: Final = 10


class MailChecks:
    """The part of an audit that is about mail."""

    def __init__(self, store: Store, walk: Walk) -> None:
        self._scripts = store.scripts
        self._keys = store.keys
        self._walk = walk
        self._most = store.mail.cap * ON_THE_WAY

    async def look_at(self, names: Mapping[str, list[str]]) -> None:
        """Records and indexes that were found by their keys."""
        await self._walk.look(self._messages, once(names["message"]))
        await self._walk.look(self._mailboxes, once(names["mailbox"]))
        parts = (names[kind] for kind in ("channel", "channellog", "subscribers", "members"))
        await self._walk.look(self._channels, once(dict.fromkeys(name for part in parts for name in part)))
        indexes: list[tuple[Index, str, str]] = [
            *(("subscribers", name, self._keys.subscribers(name)) for name in names["subscribers"]),
            *(("replies", name, self._keys.replies(name)) for name in names["replies"]),
        ]
        for index, name, key in indexes:
            await self._walk.look(self._walk.membership(index, name), self._walk.members(key))

    async def walk_sets(self) -> None:
        """Every name in an index that may have no record of its own."""
        keys = self._keys
        await self._walk.look(self._messages, self._walk.members(keys.messages()))
        await self._walk.look(self._mailboxes, self._walk.members(keys.mail_cursors(), command="HSCAN"))
        await self._walk.look(self._channels, self._walk.members(keys.channels()))

    async def _messages(self, ids: Sequence[str]) -> Findings:
        reply = await self._scripts.call("audit/messages", rest=ids)
        facts = [_message_facts(name, as_list(raw)) for name, raw in zip(ids, reply.fields, strict=True)]
        return found((message.id, message_findings(message)) for message in facts)

    async def _mailboxes(self, agent_ids: Sequence[str]) -> Findings:
        return found([(agent_id, await self._mailbox(agent_id)) for agent_id in agent_ids])

    async def _mailbox(self, agent_id: str) -> list[str]:
        after, findings = "-1", list[str]()
        while True:
            reply = await self._scripts.call("audit/mailbox", agent_id=agent_id, after=after, limit=ENTRIES)
            size, oldest, newest, place, cursor, latest, last, *strays = reply.fields
            if after == "-1":
                facts = MailboxFacts(
                    agent_id=agent_id,
                    size=as_int(size),
                    most=self._most,
                    oldest=as_number(oldest),
                    newest=as_number(newest),
                    place=as_number(place),
                    cursor=as_number(cursor),
                    latest=float(as_int(latest)),
                )
                findings += mailbox_findings(facts)
            findings += [
                f"mailbox {agent_id} holds message {as_text(one)}, which does not wait there" for one in strays
            ]
            if not last:
                return findings
            after = as_text(last) or ""

    async def _channels(self, names: Sequence[str]) -> Findings:
        reply = await self._scripts.call("audit/channels", rest=names)
        facts = [_channel_facts(name, as_list(raw)) for name, raw in zip(names, reply.fields, strict=True)]
        return found((channel.name, channel_findings(channel)) for channel in facts)


def _message_facts(message_id: str, raw: Sequence[RedisValue]) -> MessageFacts:
    to, state, seq, reply_to, listed, answered, ttl, in_mailbox = raw
    return MessageFacts(
        id=message_id,
        to=as_text(to),
        state=as_text(state),
        seq=as_number(seq),
        reply_to=as_text(reply_to),
        listed=as_number(listed),
        answered=as_number(answered),
        is_forgotten_some_day=as_int(ttl) >= 0,
        in_mailbox=as_int(in_mailbox) > 0,
    )


def _channel_facts(name: str, raw: Sequence[RedisValue]) -> ChannelFacts:
    created_at, seq, listed, latest, posts, subscribers, members = raw
    return ChannelFacts(
        name=name,
        exists=created_at is not None,
        listed=listed is not None,
        seq=as_number(seq),
        latest_post=as_number(latest),
        posts=as_int(posts),
        subscribers=as_int(subscribers),
        members=as_int(members),
    )
