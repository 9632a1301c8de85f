"""Rate limits in the store: running a request behind its bucket, and what admins set."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import orjson

from agentcom.domain.limits import MICRO, Lane, Limit, Tier
from agentcom.errors import AgentComError
from agentcom.settings import Settings
from agentcom.store.guard import CURRENT, Guard
from agentcom.store.keys import Keys
from agentcom.store.link import Link
from agentcom.store.replies import as_bytes, as_int, as_list, as_pairs
from agentcom.store.scripts import Scripts

T = TypeVar("T")

SCAN_COUNT: Final = 1_000

Overrides = Mapping[str, Mapping[Tier, Limit]]


@dataclass(frozen=True, slots=True)
class RateRules:
    """What differs from the defaults. ``exempt`` are identities without limits, the last listed first."""

    overrides: Overrides
    exempt: list[str]


class RateLimiter:
    """Token buckets that all replicas share."""

    def __init__(self, scripts: Scripts, link: Link, keys: Keys, settings: Settings) -> None:
        self._scripts = scripts
        self._link = link
        self._keys = keys
        self.defaults: Mapping[Tier, Limit] = {
            tier: Limit(size, size)
            for tier, size in (
                (Tier.LIGHT, settings.rate_light),
                (Tier.NORMAL, settings.rate_normal),
                (Tier.HEAVY, settings.rate_heavy),
            )
        }

    def guard(self, identity: str, *, lane: Lane, tier: Tier) -> Guard | None:
        """The guard of one request; None if the tier has no limit."""
        limit = self.defaults[tier]
        if not limit.capacity:
            return None
        capacity, rate = limit.micro
        return Guard(identity=identity, lane=lane, tier=tier, capacity=capacity, rate=rate)

    async def change(self, guard: Guard, work: Callable[[], Awaitable[T]]) -> T:
        """Runs work that changes something. Its first script takes the token, and does nothing without one.

        Work that ends before it calls a script (a request that is not valid) pays all the same. Raises RateLimited.
        """
        reset = CURRENT.set(guard)
        try:
            result = await work()
        except AgentComError:
            await self.take(guard)
            raise
        finally:
            CURRENT.reset(reset)
        await self.take(guard)
        return result

    async def read(self, guard: Guard, work: Callable[[], Awaitable[T]]) -> T:
        """Runs work that only reads; the token is taken in the same round trip as its first reads.

        Without one the work is given up and what it read is not shown. Raises RateLimited.
        """
        taking = asyncio.ensure_future(self.take(guard))
        working = asyncio.ensure_future(work())
        try:
            await taking
            return await working
        finally:
            for task in (taking, working):
                task.cancel()
            await asyncio.wait({taking, working})
            for task in (taking, working):
                with contextlib.suppress(asyncio.CancelledError):
                    task.exception()

    async def take(self, guard: Guard) -> None:
        """Takes the token, unless a call has. Raises RateLimited."""
        if guard.claimed:
            return
        guard.claimed = True
        identity, lane, tier, capacity, rate = guard.arguments
        reply = await self._scripts.call(
            "rate/take", identity=identity, lane=lane, tier=tier, capacity=capacity, rate=rate
        )
        guard.settle(reply.text(0), left=reply.number(1), limit=reply.number(2))

    # -- what admins set ---------------------------------------------------------------------------------------------

    async def rules(self) -> RateRules:
        """All overrides and exemptions."""
        overrides, exempt = await asyncio.gather(self._link.call("HGETALL", self._keys.rate_rules()), self.exempt())
        return RateRules({identity.decode(): _limits(rules) for identity, rules in sorted(as_pairs(overrides))}, exempt)

    async def override(self, identity: str, limits: Mapping[Tier, Limit]) -> None:
        """Gives an identity limits of its own, for the named tiers; the others have the defaults."""
        rules = {tier.value: limit.micro for tier, limit in limits.items()}
        await self._scripts.call("rate/rules", identity=identity, rules=orjson.dumps(rules))

    async def remove_override(self, identity: str) -> None:
        """The identity has the default limits again."""
        await self._scripts.call("rate/rules", identity=identity, rules="")

    async def exempt(self) -> list[str]:
        """Identities without limits, the last added first."""
        reply = await self._link.call("ZREVRANGE", self._keys.rate_exempt(), 0, -1)
        return [as_bytes(identity).decode() for identity in as_list(reply)]

    async def replace_exempt(self, identities: Sequence[str]) -> None:
        """These and no others have no limits."""
        await self._scripts.call("rate/exempt", rest=identities)

    async def add_exempt(self, identity: str, *, now: int) -> None:
        """This one has no limits either; it comes first in the list. ``now`` is the store's time in ms."""
        await self._link.call("ZADD", self._keys.rate_exempt(), "NX", now, identity)

    async def remove_exempt(self, identity: str) -> None:
        await self._link.call("ZREM", self._keys.rate_exempt(), identity)

    async def limited(self) -> dict[str, int]:
        """Identities that were denied within the last minute, with the number of denials."""
        now_s = as_int(as_list(await self._link.call("TIME"))[0])
        since = (now_s - 60) * 1_000
        names = as_list(await self._link.call("ZRANGEBYSCORE", self._keys.rate_limited(), since, "+inf"))
        identities = [as_bytes(name).decode() for name in names]
        counts = [self._link.call("HGET", self._keys.rate_violations(name), "count") for name in identities]
        found = {}
        for identity, count in zip(identities, counts, strict=True):
            value = await count
            if isinstance(value, bytes):
                found[identity] = int(value)
        return found

    async def forget_all(self) -> int:
        """Empties all buckets and denial records. Returns how many keys there were."""
        patterns = (self._keys.bucket("*", "*", "*"), self._keys.rate_violations("*"))
        removed = 0
        for pattern in patterns:
            removed += await remove_matching(self._link, pattern)
        await self._link.call("DEL", self._keys.rate_limited())
        return removed


async def remove_matching(link: Link, pattern: str) -> int:
    """Removes the keys of a pattern, some at a time. Returns how many there were."""
    cursor, removed = b"0", 0
    while True:
        reply = as_list(await link.call("SCAN", cursor, "MATCH", pattern, "COUNT", SCAN_COUNT))
        cursor = as_bytes(reply[0])
        names = [as_bytes(name) for name in as_list(reply[1])]
        if names:
            removed += as_int(await link.call("UNLINK", *names))
        if cursor == b"0":
            return removed


def _limits(stored: bytes) -> dict[Tier, Limit]:
    return {
        Tier(tier): Limit(capacity / MICRO, rate / MICRO) for tier, (capacity, rate) in orjson.loads(stored).items()
    }
