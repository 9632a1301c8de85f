"""Beats of the services: when each instance last made progress."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import orjson
from redis.asyncio import Redis

from agentcom.errors import StoreUnavailable
from agentcom.store.keys import Keys
from agentcom.store.link import LOST_CONNECTION, Link
from agentcom.store.replies import as_int, as_list, as_pairs
from agentcom.store.scripts import Scripts

#: A beat older than this is forgotten when beats are read.
FORGET_AFTER_MS = 10 * 60 * 1_000


@dataclass(frozen=True, slots=True)
class Beat:
    """One instance's last beat. ``at`` and ``progress_at`` are epoch ms of the store's clock."""

    service: str
    instance: str
    at: int
    live: bool
    stalled: tuple[str, ...]


class ServiceStore:
    """Writes and reads beats, and the runtime configuration."""

    def __init__(self, scripts: Scripts, link: Link, blocking: Redis, keys: Keys) -> None:
        self._scripts = scripts
        self._link = link
        self._blocking = blocking
        self._keys = keys

    async def now(self) -> int:
        """The store's time in epoch milliseconds."""
        seconds, microseconds = (as_int(part) for part in as_list(await self._link.call("TIME")))
        return seconds * 1_000 + microseconds // 1_000

    async def ping(self) -> None:
        """Raises :class:`StoreUnavailable` if the store does not answer."""
        await self._link.call("PING")

    async def beat(self, service: str, instance: str, *, stalled: tuple[str, ...] = ()) -> None:
        """This instance runs; ``stalled`` names loops of it that have not moved for too long."""
        record = {"at": await self.now(), "stalled": stalled}
        await self._link.call("HSET", self._keys.services(), f"{service}:{instance}", orjson.dumps(record))

    async def leave(self, service: str, instance: str) -> None:
        """This instance stops."""
        await self._link.call("HDEL", self._keys.services(), f"{service}:{instance}")

    async def beats(self, *, live_within_ms: int) -> list[Beat]:
        """The last beat of every instance; those not heard of for ten minutes are removed."""
        now = await self.now()
        reply = await self._link.call("HGETALL", self._keys.services())
        beats = []
        for field, stored in as_pairs(reply):
            record = orjson.loads(stored)
            if now - record["at"] > FORGET_AFTER_MS:
                await self._link.call("HDEL", self._keys.services(), field)
                continue
            service, _, instance = field.decode().partition(":")
            live = now - record["at"] <= live_within_ms and not record["stalled"]
            beats.append(Beat(service, instance, record["at"], live, tuple(record["stalled"])))
        return sorted(beats, key=lambda beat: (beat.service, beat.instance))

    async def config(self, name: str) -> str | None:
        """A setting changed at run time, or None."""
        reply = await self._link.call("HGET", self._keys.config(), name)
        return reply.decode() if isinstance(reply, bytes) else None

    async def set_config(self, name: str, value: str) -> None:
        """Changes a setting for all processes, which are told at once."""
        await self._scripts.call("config/set", name=name, value=value)

    async def configuration(self) -> dict[str, str]:
        """All settings changed at run time."""
        reply = await self._link.call("HGETALL", self._keys.config())
        return {name.decode(): value.decode() for name, value in as_pairs(reply)}

    async def config_changes(self) -> AsyncIterator[str | None]:
        """The names of settings as they change; None first, once changes are heard of.

        Raises :class:`StoreUnavailable` when the connection is lost: changes may have been missed.
        """
        subscription = self._blocking.pubsub()
        try:
            await subscription.subscribe(self._keys.config_channel())
            yield None
            while True:
                message = await subscription.get_message(ignore_subscribe_messages=True, timeout=5.0)
                if message is not None:
                    yield message["data"].decode()
                elif not subscription.subscribed:
                    raise StoreUnavailable()
        except LOST_CONNECTION as error:
            raise StoreUnavailable() from error
        finally:
            await subscription.aclose()  # type: ignore[no-untyped-call]
