"""One gateway: its sockets and the loops that serve them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import replace
from typing import Any

import structlog

from agentcom.settings import Settings
from agentcom.store.config import HEARTBEAT_INTERVAL
from agentcom.store.store import Store
from agentcom.wire.close_codes import CloseCode
from services.config_watch import ConfigWatch
from services.runtime import Component
from services.ws_gateway.connection import Receive, SocketConnection, Surroundings
from services.ws_gateway.departures import Departures
from services.ws_gateway.fanout import Fanout
from services.ws_gateway.lease import Lease
from services.ws_gateway.limits import FrameLimits
from services.ws_gateway.liveness import Liveness
from services.ws_gateway.outbound_queue import SendMessage
from services.ws_gateway.outbox import OutboxReader
from services.ws_gateway.presence import Presence
from services.ws_gateway.receipts import Receipts
from services.ws_gateway.registry import Registry
from services.ws_gateway.session import SessionLimits

log = structlog.get_logger(__name__)

#: How long a drain waits for frames on their way to be answered and clients to take part in the closing, how long for
#: the rest to be closed all the same, and how long for the store to hear of it.
DRAIN_PATIENCE_S = 2.0
CLOSE_PATIENCE_S = 0.5
DEPARTURE_PATIENCE_S = 2.0


class Gateway:
    """Everything behind ``/ws``. Run ``components`` under a supervisor, in this order and before the HTTP server."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self.registry = Registry()
        self.lease = Lease(store.gateways, lease_ms=settings.gateway_lease_ms, on_lost=self._on_lease_lost)
        self.departures = Departures(store.agents, self.lease)
        self._fanout = Fanout(self.registry)
        self._receipts = Receipts(store.mail, registry=self.registry, lease=self.lease, fanout=self._fanout)
        self._draining = False
        self._around = Surroundings(
            store=store,
            settings=settings,
            limits=SessionLimits.of(settings),
            lease=self.lease,
            registry=self.registry,
            departures=self.departures,
            fanout=self._fanout,
            receipts=self._receipts,
            frame_limits=FrameLimits(store.rate_limits),
        )
        self.components: tuple[Component, ...] = (
            self.lease,
            OutboxReader(store.gateways, registry=self.registry, lease=self.lease, fanout=self._fanout),
            self._receipts,
            Presence(store.gateways, registry=self.registry, fanout_max=settings.presence_fanout_max),
            Liveness(store.agents, registry=self.registry),
            ConfigWatch(store.services, {HEARTBEAT_INTERVAL: self._set_heartbeat}, name="gateway.config"),
        )

    @property
    def accepting(self) -> bool:
        """Whether a new socket would be of any use: the lease is held, and no shutdown has begun."""
        return self.lease.held and not self._draining

    def serve(self, scope: dict[str, Any], *, receive: Receive, send: SendMessage) -> Awaitable[None]:
        """One accepted WebSocket, until it ends."""
        host, port = scope.get("client") or ("", 0)
        return SocketConnection(self._around, receive=receive, send=send, remote=f"{host}:{port}").serve()

    async def drain(self) -> None:
        """Accept nothing more, say goodbye on every socket, and tell the store. Takes a few seconds at most."""
        self._draining = True
        sockets = self.registry.sockets()
        log.info("gateway_draining", sockets=len(sockets))
        for connection in sockets:
            connection.drain()
        if not await self._emptied(DRAIN_PATIENCE_S):
            left = self.registry.sockets()
            log.warning("gateway_drain_slow", sockets=len(left))
            self.registry.close_all(left, code=CloseCode.SHUTTING_DOWN, reason="this gateway is shutting down")
            if not await self._emptied(CLOSE_PATIENCE_S):
                for connection in self.registry.sockets():
                    connection.abort()
        try:
            async with asyncio.timeout(DEPARTURE_PATIENCE_S):
                await self._receipts.settled()
                await self.departures.settled()
        except TimeoutError:
            log.warning("gateway_drain_untold")  # the store finds out when the lease ends

    async def _emptied(self, patience_s: float) -> bool:
        """Whether the last socket ended in this time."""
        try:
            async with asyncio.timeout(patience_s):
                await self.registry.wait_empty()
        except TimeoutError:
            return False
        return True

    def _set_heartbeat(self, value: str | None) -> None:
        """Agents that identify from now on are asked to ping this often."""
        interval = int(value) if value else self._around.settings.heartbeat_interval_ms
        limits = replace(self._around.limits, heartbeat_interval_ms=interval)
        self._around = replace(self._around, limits=limits)

    def _on_lease_lost(self) -> None:
        sockets = self.registry.sockets()
        self.registry.close_all(sockets, code=CloseCode.LEASE_LOST, reason="this gateway has lost its lease")
