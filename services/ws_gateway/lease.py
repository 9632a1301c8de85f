"""The gateway's lease: while it is held, the store may give work to agents here."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable

import structlog

from agentcom.errors import GatewayLeaseLost, StoreUnavailable
from agentcom.settings import SECOND
from agentcom.store.gateways import GatewayStore
from services.outage import Outage
from services.runtime import BaseComponent, pause

log = structlog.get_logger(__name__)

RELEASE_TIMEOUT_S = 1.0


class Lease(BaseComponent):
    """Takes a lease under a new random id, renews it every third of its time, and starts anew once it is lost.

    It is lost when the store says so, or when it could not be renewed in its time by this process's own clock, counted
    from before the last renewal was sent: by then the store may have given the agents up. ``on_lost`` is called at once
    and must let go of every agent.
    """

    def __init__(self, gateways: GatewayStore, *, lease_ms: int, on_lost: Callable[[], None]) -> None:
        super().__init__("gateway.lease", max_silence=max(30.0, 4 * lease_ms / SECOND))
        self._gateways = gateways
        self._lease_ms = lease_ms
        self._on_lost = on_lost
        self._ends = 0.0
        self.gateway = new_gateway_id()
        self.held = False

    def holds(self, gateway: str) -> bool:
        """Whether this process still speaks for agents that connected under that id."""
        return self.held and gateway == self.gateway

    async def run(self, stop: asyncio.Event) -> None:
        try:
            while not stop.is_set():
                if await self._take(stop):
                    await self._keep(stop)
        finally:
            # Also when this component is cancelled: nobody may believe in a lease that is not looked after.
            if self.held and not stop.is_set():
                self._lose("not renewed")
        await self._release()

    async def _take(self, stop: asyncio.Event) -> bool:
        outage = Outage()
        while not stop.is_set():
            self.gateway = new_gateway_id()
            asked = time.monotonic()
            try:
                await self._gateways.renew(self.gateway, lease_ms=self._lease_ms, first=True)
            except StoreUnavailable as error:
                self.last_progress = time.monotonic()
                await outage.wait(stop, error)
                continue
            outage.over()
            self._ends = asked + self._lease_ms / SECOND
            if time.monotonic() - asked > self._lease_ms / SECOND / 3:
                continue  # answered so late that little of it may be left
            self.held = True
            self.touch()
            log.info("gateway_lease_taken", gateway=self.gateway)
            return True
        return False

    async def _keep(self, stop: asyncio.Event) -> None:
        while not await pause(stop, self._lease_ms / SECOND / 3):
            if not await self._renew(stop):
                return
            self.touch()

    async def _renew(self, stop: asyncio.Event) -> bool:
        """Renews, trying again until the lease is over. False when it is."""
        while not stop.is_set():
            asked = time.monotonic()
            if asked >= self._ends:
                self._lose("not renewed in time")
                return False
            try:
                async with asyncio.timeout(self._ends - asked):
                    await self._gateways.renew(self.gateway, lease_ms=self._lease_ms)
            except GatewayLeaseLost:
                self._lose("given up by the store")
                return False
            except TimeoutError:
                continue
            except StoreUnavailable:
                await pause(stop, min(0.1, max(0.0, self._ends - time.monotonic())))
                continue
            self._ends = asked + self._lease_ms / SECOND
            return True
        return True

    def _lose(self, why: str) -> None:
        log.error("gateway_lease_lost", gateway=self.gateway, why=why)
        self.held = False
        self._on_lost()

    async def _release(self) -> None:
        """Ends the lease now, so that the store forgets this gateway without waiting for it to lapse."""
        if not self.held:
            return
        self.held = False
        with contextlib.suppress(StoreUnavailable, GatewayLeaseLost, TimeoutError):
            async with asyncio.timeout(RELEASE_TIMEOUT_S):
                await self._gateways.renew(self.gateway, lease_ms=0)


def new_gateway_id() -> str:
    return f"gw-{secrets.token_hex(8)}"
