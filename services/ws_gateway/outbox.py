"""The gateway's outbox: what the store wants pushed, handed to the sockets that it is for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import structlog

from agentcom.errors import StoreUnavailable
from agentcom.store.gateways import GatewayStore, OutboxEntry
from services.outage import Outage
from services.runtime import BaseComponent, pause
from services.ws_gateway.fanout import KINDS, Fanout
from services.ws_gateway.lease import Lease
from services.ws_gateway.registry import Registry

log = structlog.get_logger(__name__)

BEGINNING = "0-0"
#: Entries handed over are removed once so many of them are there, or so many seconds after the last removal.
TRIM_ENTRIES = 500
TRIM_EVERY_S = 1.0
NO_LEASE_PAUSE_S = 0.05


class OutboxReader(BaseComponent):
    """Reads the outbox of the current lease from where it stopped, also across outages of the store.

    Handing over never waits for a socket. An entry for a connection that has ended is dropped: its agent is given the
    assignment again when it comes back, or the assignment's deadline returns the task; a message is in its mailbox.
    """

    def __init__(self, gateways: GatewayStore, *, registry: Registry, lease: Lease, fanout: Fanout) -> None:
        super().__init__("gateway.outbox", max_silence=60.0)
        self._gateways = gateways
        self._registry = registry
        self._fanout = fanout
        self._lease = lease
        self._gateway = ""
        self._after = BEGINNING
        self._untrimmed = 0
        self._trimmed_at = 0.0
        self._trim: asyncio.Task[None] | None = None

    async def run(self, stop: asyncio.Event) -> None:
        reading = asyncio.create_task(self._read(stop), name="outbox.read")
        stopping = asyncio.create_task(stop.wait(), name="outbox.stop")
        try:
            await asyncio.wait({reading, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                await reading
        finally:
            # A read that is given up loses nothing: entries stay until they are removed.
            reading.cancel()
            stopping.cancel()
            await asyncio.wait({reading, stopping, *({self._trim} if self._trim is not None else ())})

    async def _read(self, stop: asyncio.Event) -> None:
        outage = Outage()
        while not stop.is_set():
            self.touch()
            if not self._lease.held:
                await pause(stop, NO_LEASE_PAUSE_S)
                continue
            if self._gateway != self._lease.gateway:
                self._gateway, self._after, self._untrimmed = self._lease.gateway, BEGINNING, 0
            try:
                entries = await self._gateways.read_outbox(self._gateway, after=self._after)
            except StoreUnavailable as error:
                await outage.wait(stop, error)
                continue
            outage.over()
            if self._gateway == self._lease.gateway:
                self._hand_over(entries)

    def _hand_over(self, entries: Sequence[OutboxEntry]) -> None:
        for entry in entries:
            if entry.kind in KINDS:
                self._fanout.take(entry)
            elif (connection := self._registry.get(entry.conn)) is not None:
                connection.deliver(entry)
            self._after = entry.entry_id
        self._untrimmed += len(entries)
        now = time.monotonic()
        due = self._untrimmed >= TRIM_ENTRIES or now - self._trimmed_at >= TRIM_EVERY_S
        if self._untrimmed and due and (self._trim is None or self._trim.done()):
            self._untrimmed, self._trimmed_at = 0, now
            self._trim = asyncio.create_task(self._remove(self._gateway, self._after))

    async def _remove(self, gateway: str, through: str) -> None:
        try:
            await self._gateways.trim_outbox(gateway, through=through)
        except StoreUnavailable:
            log.debug("outbox_not_trimmed", gateway=gateway)  # the next removal covers these entries too
