"""Presence: telling agents who comes and goes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import orjson
import structlog

from agentcom.errors import StoreUnavailable
from agentcom.store.gateways import GatewayStore
from agentcom.wire import outbound
from services.runtime import BaseComponent, pause
from services.stores import Outage
from services.ws_gateway.registry import Registry

log = structlog.get_logger(__name__)

FLUSH_EVERY_S = 0.1
TICK_S = 1.0


class Presence(BaseComponent):
    """Listens to presence events and passes them on to every identified agent, ten times a second.

    Telling everybody of everybody costs the square of their number, so with more than ``fanout_max`` agents on this
    gateway nothing is passed on; ``list_agents`` still says who is there. What is published while the store is away is
    lost, and so is what a client behind with reading has no room for: a late event is worth nothing.
    """

    def __init__(self, gateways: GatewayStore, *, registry: Registry, fanout_max: int) -> None:
        super().__init__("gateway.presence", max_silence=30.0)
        self._gateways = gateways
        self._registry = registry
        self._fanout_max = fanout_max
        self._events: list[tuple[str, str, bytes]] = []
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
                    else:
                        self._take(orjson.loads(notice.data))
            except StoreUnavailable as error:
                await outage.wait(stop, error)

    def _take(self, event: Mapping[str, Any]) -> None:
        if not 0 < self._registry.agent_count <= self._fanout_max:
            return
        kind, agent_id = event["type"], event["agent_id"]
        frame = outbound.presence(kind, agent_id=agent_id, agent=event.get("agent"))
        latest = next((other for other in reversed(self._events) if other[1] == agent_id), None)
        if kind == "status_changed" and latest is not None and latest[0] == kind:
            self._events.remove(latest)  # only the last of several statuses is of interest
        self._events.append((kind, agent_id, frame))
        if self._flush_timer is None:
            self._flush_timer = asyncio.get_running_loop().call_later(FLUSH_EVERY_S, self._flush)

    def _flush(self) -> None:
        self._flush_timer = None
        events, self._events = self._events, []
        if self._registry.agent_count > self._fanout_max:
            return
        for connection in self._registry.agents():
            own = connection.session.agent_id
            for kind, agent_id, frame in events:
                # An agent is told of its own status, not of its own coming and going.
                if agent_id != own or kind == "status_changed":
                    connection.offer(frame)
