"""Messages to one agent or to everybody, and mailboxes. The scripts decide; this module only translates."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

from agentcom.domain.messages import NewMessage
from agentcom.errors import AgentComError, MessageIdConflict, UnknownAgent
from agentcom.settings import MailLimits
from agentcom.store.config import MAILBOX_TTL
from agentcom.store.keys import Keys
from agentcom.store.link import Link
from agentcom.store.replies import as_bytes
from agentcom.store.scripts import Reply, Scripts
from agentcom.store.tasks import Swept

#: Receipts of one script call.
RECEIPTS_CHUNK = 500


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of a sent message. ``repeated``: it had been sent before, under the same id.

    ``seq`` is the message's number, ``post_seq`` counts the posts of its channel (0 for other messages).
    """

    message_id: str
    seq: int
    timestamp: int
    post_seq: int
    repeated: bool


@dataclass(frozen=True, slots=True)
class Mail:
    """A message in a mailbox: its number, and its envelope as JSON text of an object."""

    seq: int
    envelope: bytes


@dataclass(frozen=True, slots=True)
class Receipt:
    """A direct message that was written to its recipient's socket."""

    agent_id: str
    seq: int
    message_id: str


class Said(TypedDict):
    """What the sender says, by the names that the scripts have for it."""

    id: str
    sender: str
    type: str
    payload: bytes
    reply_to: str


def said(message: NewMessage) -> Said:
    """The arguments of a script that sends."""
    return {
        "id": message.id,
        "sender": message.sender,
        "type": message.type,
        "payload": message.payload,
        "reply_to": message.reply_to or "",
    }


def digest_of(message: NewMessage, *, to: str) -> str:
    """What two messages have in common if one is the other sent again."""
    parts = (to, message.type, message.reply_to or "")
    text = "\x00".join(parts).encode() + b"\x00" + message.payload
    return hashlib.sha256(text).hexdigest()[:32]


def sent(reply: Reply, message: NewMessage) -> Sent:
    """The result of a script that sends. Raises MessageIdConflict."""
    if reply.code == "MESSAGE_ID_CONFLICT":
        raise MessageIdConflict(message_id=message.id)
    if reply.code != "OK":
        raise AgentComError(f"unexpected code {reply.code}")
    return Sent(
        message_id=message.id,
        seq=reply.number(1),
        timestamp=reply.number(2),
        post_seq=reply.number(3),
        repeated=reply.text(0) == "repeated",
    )


class MailStore:
    """Sends messages and keeps mailboxes."""

    def __init__(self, scripts: Scripts, link: Link, keys: Keys, limits: MailLimits) -> None:
        self._scripts = scripts
        self._link = link
        self._keys = keys
        self._limits = limits

    @property
    def cap(self) -> int:
        """How many messages a mailbox of an agent that is away may have."""
        return self._limits.mailbox_cap

    async def send(self, message: NewMessage, *, to: str) -> Sent:
        """To one agent. Raises UnknownAgent, MessageIdConflict."""
        reply = await self._scripts.call(
            "mail/send",
            recipient=to,
            digest=digest_of(message, to=to),
            remember_ms=self._remember_ms(message),
            mailbox_cap=self._limits.mailbox_cap,
            history_cap=self._limits.message_history_cap,
            **said(message),
        )
        if reply.code == "UNKNOWN_AGENT":
            raise UnknownAgent(agent_id=to)
        return sent(reply, message)

    async def broadcast(self, message: NewMessage) -> Sent:
        """To everybody but the sender. Raises MessageIdConflict."""
        reply = await self._scripts.call(
            "mail/broadcast",
            digest=digest_of(message, to=""),
            remember_ms=self._remember_ms(message),
            mailbox_cap=self._limits.mailbox_cap,
            history_cap=self._limits.message_history_cap,
            **said(message),
        )
        return sent(reply, message)

    def _remember_ms(self, message: NewMessage) -> int:
        return self._limits.idempotency_ttl_ms if message.chosen_id else 0

    async def poll(self, agent_id: str, *, since: int, limit: int = 1_000) -> list[Mail]:
        """What waits in a mailbox after a number, oldest first."""
        reply = await self._scripts.call(
            "mail/poll", agent_id=agent_id, since=since, limit=limit, mailbox_cap=self._limits.mailbox_cap
        )
        fields = reply.fields
        return [Mail(int(as_bytes(fields[i + 1])), as_bytes(fields[i])) for i in range(0, len(fields), 2)]

    async def ack(self, agent_id: str, *, seq: int) -> int:
        """The agent has everything up to the number. Returns how many messages left its mailbox."""
        return (await self._scripts.call("mail/ack", agent_id=agent_id, seq=seq)).number(0)

    async def delivered(self, receipts: Sequence[Receipt], *, gateway: str, written: int | None) -> None:
        """These were written to sockets of a gateway; ``written`` as in ``mail/delivered``."""
        chunks = [receipts[start : start + RECEIPTS_CHUNK] for start in range(0, len(receipts), RECEIPTS_CHUNK)]
        for chunk in chunks or [receipts]:
            await self._scripts.call(
                "mail/delivered",
                items=[{"agent_id": r.agent_id, "seq": r.seq, "id": r.message_id} for r in chunk],
                gateway=gateway,
                written="" if written is None else written,
            )

    async def ttl_ms(self) -> int:
        """How long unread messages are kept at the moment."""
        configured = await self._link.call("HGET", self._keys.config(), MAILBOX_TTL)
        return int(configured) if isinstance(configured, bytes) else self._limits.mailbox_ttl_ms

    async def evict(self, *, limit: int) -> Swept:
        """Drops unread messages that are too old."""
        reply = await self._scripts.call("mail/evict", ttl_ms=await self.ttl_ms(), limit=limit)
        return Swept(reply.number(0), reply.number(1) == 1)
