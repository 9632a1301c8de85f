"""Counters of the last day, by agent and hour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from agentcom.domain.agents import Agent
from agentcom.store.agents import AgentStore
from agentcom.store.keys import Keys
from agentcom.store.link import Link
from agentcom.store.replies import as_int, as_list, as_pairs

HOUR_MS: Final = 3_600_000
HOURS: Final = 24
#: An agent that did something within this time counts as active.
ACTIVE_WITHIN_MS: Final = 5 * 60 * 1_000
AGENT_PAGE: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentActivity:
    """What one agent did in 24 hours. Times are epoch milliseconds of the store's clock."""

    agent_id: str
    connected: bool
    last_active: int | None
    last_seen: int | None
    sent: int
    received: int
    sent_this_hour: int
    connected_ms: int
    connects: int


@dataclass(frozen=True, slots=True)
class HourActivity:
    """Messages of one agent in the hour that begins at ``start``."""

    start: int
    sent: int
    received: int


@dataclass(frozen=True, slots=True)
class ActivityReport:
    """Every agent that connected within 30 days, by id, at the time ``now``."""

    now: int
    agents: list[AgentActivity]
    denials: int


class AnalyticsStore:
    """Reads what the scripts count."""

    def __init__(self, link: Link, keys: Keys, agents: AgentStore) -> None:
        self._link = link
        self._keys = keys
        self._agents = agents

    async def report(self) -> ActivityReport:
        """The last 24 hours of all known agents."""
        now = await self._now()
        hours = await self._hours(now)
        known = {
            name.decode(): int(float(score))
            for name, score in as_pairs(await self._link.call("ZRANGE", self._keys.known_agents(), 0, -1, "WITHSCORES"))
        }
        connected = await self._connected()
        agents = [
            _activity(agent_id, hours, connected=connected.get(agent_id), known_at=known.get(agent_id), now=now)
            for agent_id in sorted(known.keys() | connected.keys())
        ]
        return ActivityReport(now, agents, sum(hour.get(b"denied", 0) for hour in hours))

    async def hourly(self, agent_id: str) -> list[HourActivity]:
        """24 hours, the oldest first; zeros for an agent that is not known."""
        hour = await self._now() // HOUR_MS
        names = (f"sent:{agent_id}", f"received:{agent_id}")
        starts = range(hour - HOURS + 1, hour + 1)
        calls = [self._link.call("HMGET", self._keys.stats(str(start)), *names) for start in starts]
        found = []
        for start, call in zip(starts, calls, strict=True):
            sent, received = (int(value) if isinstance(value, bytes) else 0 for value in as_list(await call))
            found.append(HourActivity(start * HOUR_MS, sent, received))
        return found

    async def _now(self) -> int:
        seconds, microseconds = (as_int(part) for part in as_list(await self._link.call("TIME")))
        return seconds * 1_000 + microseconds // 1_000

    async def _hours(self, now: int) -> list[Mapping[bytes, int]]:
        """All counters of the last 24 hours, the current one last."""
        hour = now // HOUR_MS
        starts = range(hour - HOURS + 1, hour + 1)
        calls = [self._link.call("HGETALL", self._keys.stats(str(start))) for start in starts]
        return [{name: int(value) for name, value in as_pairs(await call)} for call in calls]

    async def _connected(self) -> Mapping[str, Agent]:
        found: dict[str, Agent] = {}
        cursor: str | None = None
        while True:
            page = await self._agents.page(cursor=cursor, limit=AGENT_PAGE)
            found.update((agent.id, agent) for agent in page.agents)
            cursor = page.cursor
            if cursor is None:
                return found


def _activity(
    agent_id: str,
    hours: Sequence[Mapping[bytes, int]],
    *,
    connected: Agent | None,
    known_at: int | None,
    now: int,
) -> AgentActivity:
    def each(kind: str) -> list[int]:
        name = f"{kind}:{agent_id}".encode()
        return [hour.get(name, 0) for hour in hours]

    acted = [*each("last"), *((connected.connected_at or 0, connected.last_state_change or 0) if connected else ())]
    running = now - connected.connected_at if connected and connected.connected_at else 0
    return AgentActivity(
        agent_id=agent_id,
        connected=connected is not None,
        last_active=max(acted, default=0) or known_at,
        last_seen=connected.last_seen if connected else known_at,
        sent=sum(each("sent")),
        received=sum(each("received")),
        sent_this_hour=each("sent")[-1],
        connected_ms=sum(each("connected")) + min(running, HOURS * HOUR_MS),
        connects=sum(each("connects")),
    )
