"""Presence: telling agents who comes and goes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
import structlog

from agentcom.errors import StoreUnavailable
from agentcom.store.gateways import GatewayStore
from agentcom.wire import outbound
from services.outage import Outage
from services.runtime import BaseComponent, pause
from services.ws_gateway.registry import Registry

log = structlog.get_logger(__name__)

FLUSH_EVERY_S = 0.1
TICK_S = 1.0
STATUS = "status_changed"


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be told of one agent. ``agent`` is None when it has left."""

    event: str
    agent: Mapping[str, Any] | None
    status_changed: bool


class Presence(BaseComponent):
    """Listens to presence events and passes them on ten times a second, of each agent only the last.

    Telling everybody of everybody costs the square of their number, so with more than ``fanout_max`` agents on this
    gateway only those are told that asked for it; ``list_agents`` still says who is there. What is published while the
    store is away is lost, and so is what a client behind with reading has no room for: a late event is worth nothing.
    """

    def __init__(self, gateways: GatewayStore, *, registry: Registry, fanout_max: int) -> None:
        super().__init__("gateway.presence", max_silence=30.0)
        self._gateways = gateways
        self._registry = registry
        self._fanout_max = fanout_max
        self._changes: dict[str, Change] = {}
        self._flush_timer: asyncio.TimerHandle | None = None

    async def run(self, stop: asyncio.Event) -> None:
        listener = asyncio.create_task(self._listen(stop), name="presence.listen")
        try:
            while not stop.is_set():
                if listener.done():
                    await listener
                    raise RuntimeError("listening to presence events ended without being asked to")
                await pause(stop, TICK_S)
                # Progress, but not ready before the first subscription.
                self.last_progress = time.monotonic()
        finally:
            listener.cancel()
            await asyncio.wait({listener})
            if self._flush_timer is not None:
                self._flush_timer.cancel()
                self._flush_timer = None

    async def _listen(self, stop: asyncio.Event) -> None:
        outage = Outage()
        while not stop.is_set():
            try:
                async for notice in self._gateways.listen(["presence"]):
                    if notice.channel == "subscribed":
                        outage.over()
                        self.touch()
                    elif self._registry.agent_count:
                        self._take(orjson.loads(notice.data))
            except StoreUnavailable as error:
                await outage.wait(stop, error)

    def _take(self, event: Mapping[str, Any]) -> None:
        agent_id = event["agent_id"]
        before = self._changes.pop(agent_id, None)
        self._changes[agent_id] = merged(before, event["type"], event.get("agent"))
        if self._flush_timer is None:
            self._flush_timer = asyncio.get_running_loop().call_later(FLUSH_EVERY_S, self._flush)

    def _flush(self) -> None:
        self._flush_timer = None
        changes, self._changes = self._changes, {}
        everybody = self._registry.agent_count <= self._fanout_max
        told = [one for one in self._registry.agents() if everybody or one.session.wants_presence]
        if not told:
            return
        frames = {
            agent_id: outbound.presence(change.event, agent_id=agent_id, agent=change.agent)
            for agent_id, change in changes.items()
        }
        for connection in told:
            own = connection.session.agent_id
            for agent_id, frame in frames.items():
                if agent_id != own:
                    connection.offer(frame)
                elif changes[agent_id].status_changed:
                    # An agent is told of its own status, not of its own coming and going.
                    connection.offer(outbound.presence(STATUS, agent_id=agent_id, agent=changes[agent_id].agent))


def merged(before: Change | None, event: str, agent: Mapping[str, Any] | None) -> Change:
    """What is left to tell of an agent after one more event: an agent that came and changed has come as it is now."""
    if event == STATUS and before is not None and before.agent is not None:
        return Change(before.event, agent, status_changed=True)
    return Change(event, agent, status_changed=event == STATUS)
