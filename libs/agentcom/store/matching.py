"""Match requests: what an inline match left to the scheduler."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from agentcom.errors import StoreUnavailable
from agentcom.settings import TaskLimits
from agentcom.store.keys import Keys
from agentcom.store.link import LOST_CONNECTION, Link
from agentcom.store.replies import as_pairs
from agentcom.store.scripts import Scripts

GROUP = "scheduler"
BATCH = 64
BLOCK_MS = 1_000
CLAIM_IDLE_MS = 5_000


@dataclass(frozen=True, slots=True)
class MatchRequest:
    """Look at the queue of a signature, or at an agent. ``entry`` is empty for one that is not in the stream."""

    entry: str
    kind: str
    name: str
    skip: int


class MatchStore:
    """Reads match requests in a consumer group and serves them; any number of schedulers may share the group."""

    def __init__(self, scripts: Scripts, link: Link, blocking: Redis, keys: Keys, limits: TaskLimits) -> None:
        self._scripts = scripts
        self._link = link
        self._blocking = blocking
        self._keys = keys
        self._limits = limits

    async def ensure_group(self) -> None:
        """Creates the consumer group if need be. Raises :class:`StoreUnavailable`."""
        try:
            await self._blocking.xgroup_create(self._keys.match(), GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise
        except LOST_CONNECTION as error:
            raise StoreUnavailable() from error

    async def read(self, consumer: str) -> list[MatchRequest]:
        """New requests, waiting up to a second for the first. Raises :class:`StoreUnavailable`."""
        try:
            streams = await self._blocking.xreadgroup(
                GROUP, consumer, {self._keys.match(): ">"}, count=BATCH, block=BLOCK_MS
            )
        except ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
            await self.ensure_group()
            return []
        except LOST_CONNECTION as error:
            raise StoreUnavailable() from error
        return [_request(entry, fields) for _, entries in streams for entry, fields in entries]

    async def claim(self, consumer: str) -> list[MatchRequest]:
        """Requests that another scheduler took and did not serve. Raises :class:`StoreUnavailable`."""
        try:
            _, entries, *_ = await self._blocking.xautoclaim(
                self._keys.match(), GROUP, consumer, min_idle_time=CLAIM_IDLE_MS, count=BATCH
            )
        except ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
            await self.ensure_group()
            return []
        except LOST_CONNECTION as error:
            raise StoreUnavailable() from error
        return [_request(entry, fields) for entry, fields in entries if fields]

    async def serve(self, requests: Sequence[MatchRequest]) -> int:
        """Makes the matches that the requests ask for, and removes them. Returns how many tasks were assigned."""
        if not requests:
            return 0
        reply = await self._scripts.call(
            "match",
            items=[{"entry": r.entry, "kind": r.kind, "name": r.name, "skip": r.skip} for r in requests],
            group=GROUP,
            accept_timeout_ms=self._limits.accept_timeout_ms,
        )
        return reply.number(0)

    async def idle_agents(self, *, after: tuple[float, str] | None, limit: int) -> list[tuple[float, str]]:
        """A page of agents that wait for work, as (score, id), for the reconciling pass."""
        low = "-inf" if after is None else repr(after[0])
        count = limit + 1
        while True:
            reply = await self._link.call(
                "ZRANGEBYSCORE", self._keys.idle_any(), low, "+inf", "WITHSCORES", "LIMIT", 0, count
            )
            positions = [(float(score), member.decode()) for member, score in as_pairs(reply)]
            page = [position for position in positions if after is None or position > after][:limit]
            if page or len(positions) < count:
                return page
            # More agents than a page share the score of `after`: look past them.
            count *= 2

    async def forget_consumers(self, *, idle_ms: int) -> int:
        """Removes schedulers from the group that were silent so long and hold no request. Returns how many."""
        return (await self._scripts.call("forget_consumers", group=GROUP, idle_ms=idle_ms)).number(0)


def _request(entry: bytes, fields: dict[bytes, Any]) -> MatchRequest:
    return MatchRequest(
        entry=entry.decode(),
        kind=fields[b"kind"].decode(),
        name=fields[b"name"].decode(),
        skip=int(fields[b"skip"]),
    )
