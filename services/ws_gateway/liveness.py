"""Signs of life: telling the store which agents are connected, and closing sockets that only seem to be."""

from __future__ import annotations

import asyncio

import structlog

from agentcom.errors import StoreUnavailable
from agentcom.store.agents import AgentStore
from agentcom.wire.close_codes import CloseCode
from services.outage import Outage
from services.runtime import BaseComponent, pause
from services.ws_gateway.registry import Registry

log = structlog.get_logger(__name__)

INTERVAL_S = 5.0
#: Agents named in one script call.
BATCH = 500
#: A socket with frames to write that took none of them for so long has stopped reading.
STALL_S = 30.0


class Liveness(BaseComponent):
    """Every few seconds, counts every identified open socket as alive.

    That is true because the server pings each socket and closes those that do not answer. Two kinds of socket are
    closed here instead: one that takes no frames although some wait, and one that the store no longer counts as its
    agent's while the order to close it never came.
    """

    def __init__(self, agents: AgentStore, *, registry: Registry, interval_s: float = INTERVAL_S) -> None:
        super().__init__("gateway.liveness", max_silence=60.0)
        self._agents = agents
        self._registry = registry
        self._interval_s = interval_s
        #: connection id -> (frames written when it was first seen not to move, when that was)
        self._stalled: dict[str, tuple[int, float]] = {}
        self._orphans: set[str] = set()

    async def run(self, stop: asyncio.Event) -> None:
        outage = Outage()
        while not stop.is_set():
            self.touch()
            self._close_dead()
            names = [agent_id for c in self._registry.agents() if (agent_id := c.session.agent_id) is not None]
            try:
                for start in range(0, len(names), BATCH):
                    await self._agents.touch(names[start : start + BATCH])
            except StoreUnavailable as error:
                await outage.wait(stop, error)
                continue
            outage.over()
            await pause(stop, self._interval_s)

    def _close_dead(self) -> None:
        now = asyncio.get_running_loop().time()
        stalled: dict[str, tuple[int, float]] = {}
        orphans: set[str] = set()
        for connection in self._registry.sockets():
            conn, written = connection.conn, connection.frames_out
            if connection.waiting_frames:
                before = self._stalled.get(conn)
                stalled[conn] = before if before is not None and before[0] == written else (written, now)
                if now - stalled[conn][1] >= STALL_S:
                    connection.close(CloseCode.SLOW_CONSUMER, "this client has stopped reading")
            if connection.session.orphaned:
                orphans.add(conn)
                if conn in self._orphans:
                    connection.close(CloseCode.STALE, "this connection is not the agent's any more")
        self._stalled, self._orphans = stalled, orphans
