"""Gateways in the store: leases, outboxes, and the channels they listen to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Literal

from redis.asyncio import Redis

from agentcom.errors import GatewayLeaseLost, StoreUnavailable
from agentcom.settings import TaskLimits
from agentcom.store.keys import Keys
from agentcom.store.link import LOST_CONNECTION, Link, RedisValue
from agentcom.store.replies import as_bytes, as_list, as_pairs
from agentcom.store.scripts import Scripts
from agentcom.store.tasks import Swept

OutboxKind = Literal[
    "assign",
    "cancel",
    "frame",
    "close",
    "mail",
    "broadcast",
    "post",
    "joined",
    "listen",
    "unlisten",
    "deleted",
]

OUTBOX_BATCH = 500
OUTBOX_BLOCK_MS = 1_000


@dataclass(frozen=True, slots=True)
class OutboxEntry:
    """Something to push. ``frame`` is written as it is; for ``close`` it is the reason that goes with ``code``.

    ``mail`` is a message for one connection; ``broadcast``, ``post`` and ``joined`` (somebody subscribed) are for many,
    and not for ``sender``; ``listen``, ``unlisten`` and ``deleted`` say who listens to ``channel`` from now on. ``seq``
    is the number of a message.
    """

    entry_id: str
    conn: str
    kind: OutboxKind
    frame: bytes
    code: int | None
    seq: int = 0
    message_id: str = ""
    channel: str = ""
    sender: str = ""


@dataclass(frozen=True, slots=True)
class Notice:
    """A message on one of the channels: ``data`` is presence JSON, or the id of an agent whose tokens are revoked."""

    channel: Literal["presence", "revoked", "subscribed"]
    data: bytes


class GatewayStore:
    """Leases and outboxes.

    Outboxes are read over ``outbox_link``, a link of their own because a read may wait; it is started by the first
    one. Channels are listened to over a connection of ``blocking``.
    """

    def __init__(
        self, scripts: Scripts, link: Link, outbox_link: Link, blocking: Redis, keys: Keys, limits: TaskLimits
    ) -> None:
        self._scripts = scripts
        self._link = link
        self._outbox_link = outbox_link
        self._blocking = blocking
        self._keys = keys
        self._limits = limits

    async def renew(self, gateway: str, *, lease_ms: int, first: bool = False) -> int:
        """Takes (``first``) or prolongs a lease. Returns when it ends; raises :class:`GatewayLeaseLost`."""
        reply = await self._scripts.call("gateway/renew", gateway=gateway, lease_ms=lease_ms, first=int(first))
        if reply.code != "OK":
            raise GatewayLeaseLost()
        return reply.number(0)

    async def expire(self, *, limit: int) -> Swept:
        """Disconnects agents of gateways whose lease has lapsed."""
        reply = await self._scripts.call("gateway/expire", grace_ms=self._limits.disconnect_grace_ms, limit=limit)
        return Swept(reply.number(0), reply.number(1) == 1)

    async def read_outbox(self, gateway: str, *, after: str) -> list[OutboxEntry]:
        """What was put into the outbox after an entry id, waiting up to a second for the first of it.

        Raises :class:`StoreUnavailable`; read again from the same id then.
        """
        self._outbox_link.start()
        key = self._keys.outbox(gateway)
        streams = await self._outbox_link.call(
            "XREAD", "COUNT", OUTBOX_BATCH, "BLOCK", OUTBOX_BLOCK_MS, "STREAMS", key, after
        )
        if streams is None:
            return []
        (stream,) = as_list(streams)
        _, entries = as_list(stream)
        return [_entry(*as_list(entry)) for entry in as_list(entries)]

    async def trim_outbox(self, gateway: str, *, through: str) -> None:
        """Removes entries that were pushed, up to and including an entry id."""
        milliseconds, _, sequence = through.partition("-")
        await self._link.call("XTRIM", self._keys.outbox(gateway), "MINID", f"{milliseconds}-{int(sequence) + 1}")

    async def listen(self, channels: Sequence[Literal["presence", "revoked"]]) -> AsyncIterator[Notice]:
        """What is published on the channels. Raises :class:`StoreUnavailable` when the connection is lost.

        Each successful subscription is announced as a ``subscribed`` notice: what was published before is lost.
        """
        names = {
            channel: self._keys.presence_channel() if channel == "presence" else self._keys.revoked_channel()
            for channel in channels
        }
        by_name = {name.encode(): channel for channel, name in names.items()}
        subscription = self._blocking.pubsub()
        try:
            await subscription.subscribe(*names.values())
            yield Notice("subscribed", b"")
            while True:
                message = await subscription.get_message(ignore_subscribe_messages=True, timeout=5.0)
                if message is not None:
                    yield Notice(by_name[message["channel"]], message["data"])
                elif not subscription.subscribed:
                    raise StoreUnavailable()
        except LOST_CONNECTION as error:
            raise StoreUnavailable() from error
        finally:
            await subscription.aclose()  # type: ignore[no-untyped-call]


def _entry(entry_id: RedisValue, flat: RedisValue) -> OutboxEntry:
    fields = dict(as_pairs(flat))
    code = fields.get(b"code")
    return OutboxEntry(
        entry_id=as_bytes(entry_id).decode(),
        conn=fields.get(b"conn", b"").decode(),
        kind=fields[b"kind"].decode(),  # type: ignore[arg-type]
        frame=fields.get(b"frame", b""),
        code=None if code is None else int(code),
        seq=int(fields.get(b"seq", 0)),
        message_id=fields.get(b"id", b"").decode(),
        channel=fields.get(b"channel", b"").decode(),
        sender=fields.get(b"sender", b"").decode(),
    )
