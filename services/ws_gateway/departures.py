"""Taking agents off connections that have ended."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog

from agentcom.errors import StoreUnavailable
from agentcom.store.agents import AgentStore
from services.ws_gateway.lease import Lease

log = structlog.get_logger(__name__)

#: Departures written at once: when a gateway with many sockets drains, the store serves others meanwhile.
AT_ONCE = 64
RETRY_S = 0.25


class Departures:
    """Tells the store of ended connections, for as long as this gateway holds the lease under which they were made.

    Without the lease the store takes the agents off by itself.
    """

    def __init__(self, agents: AgentStore, lease: Lease) -> None:
        self._agents = agents
        self._lease = lease
        self._room = asyncio.Semaphore(AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()

    def leave(self, agent_id: str, *, conn: str, gateway: str, reason: str, written: int) -> None:
        """The connection has ended, and all mail up to the number ``written`` was written to it; returns at once."""
        self._start(self._leave(agent_id, conn=conn, gateway=gateway, reason=reason, written=written))

    def penalize(self, agent_id: str) -> None:
        """The agent was disconnected for too many invalid frames; returns at once."""
        self._start(self._penalize(agent_id))

    async def settled(self) -> None:
        """Return when the store knows of everything so far."""
        if self._tasks:
            await asyncio.wait(set(self._tasks))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _penalize(self, agent_id: str) -> None:
        try:
            cooldown_ms = await self._agents.penalize(agent_id)
        except StoreUnavailable:
            # Not tried again: it would count twice if only the answer was lost.
            log.warning("penalty_lost", agent_id=agent_id)
        else:
            log.info("agent_penalized", agent_id=agent_id, cooldown_ms=cooldown_ms)

    async def _leave(self, agent_id: str, *, conn: str, gateway: str, reason: str, written: int) -> None:
        async with self._room:
            while self._lease.holds(gateway):
                try:
                    await self._agents.disconnect(agent_id, conn=conn, reason=reason, written=written)
                except StoreUnavailable:
                    await asyncio.sleep(RETRY_S)
                else:
                    return
