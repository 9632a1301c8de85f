"""Receipts: telling the store which messages were written to sockets."""

from __future__ import annotations

import asyncio
import contextlib

import structlog

from agentcom.errors import StoreUnavailable
from agentcom.store.mail import MailStore, Receipt
from services.runtime import BaseComponent, pause
from services.ws_gateway.fanout import Fanout
from services.ws_gateway.lease import Lease
from services.ws_gateway.letters import Letter
from services.ws_gateway.registry import Registry

log = structlog.get_logger(__name__)

#: Receipts are collected for so long. Should the gateway die meanwhile, their messages are given out once more.
COLLECT_S = 0.05
#: How often broadcasts and posts are looked after, and how long to wait for a store that is away.
LOOK_EVERY_S = 0.1
RETRY_S = 1.0


class Receipts(BaseComponent):
    """Collects receipts and sends them many at a time.

    Of broadcasts and posts one number says it all: up to there they were written to every socket here. It counts only
    for agents whose connection ends without this gateway saying how far it had come.
    """

    def __init__(self, mail: MailStore, *, registry: Registry, lease: Lease, fanout: Fanout) -> None:
        super().__init__("gateway.receipts", max_silence=60.0)
        self._mail = mail
        self._registry = registry
        self._lease = lease
        self._fanout = fanout
        self._waiting: list[Receipt] = []
        self._told = ("", 0)
        self._something = asyncio.Event()
        self._sending: set[asyncio.Task[bool]] = set()

    def add(self, agent_id: str, letter: Letter) -> None:
        """The letter was written to the agent's socket."""
        self._waiting.append(Receipt(agent_id, letter.seq, letter.message_id))
        self._something.set()

    def send_now(self) -> None:
        """Begins to send what is waiting: calls made from now on come after it."""
        if self._waiting:
            task = asyncio.create_task(self._send_or_keep())
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def settled(self) -> None:
        """Send what is waiting and return when the store has it, or cannot be reached."""
        await self._send_or_keep()
        if self._sending:
            await asyncio.wait(set(self._sending))

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            self.touch()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._something.wait()
            if await pause(stop, COLLECT_S):
                break
            if not await self._send_or_keep():
                await pause(stop, RETRY_S)

    async def _send_or_keep(self) -> bool:
        """Sends what is waiting. False, and it waits on, if the store cannot be reached."""
        self._something.clear()
        receipts, self._waiting = self._waiting, []
        gateway, written = self._lease.gateway, self._written()
        is_news = (gateway, written) != self._told and written > 0
        if not receipts and not is_news:
            return True
        try:
            await self._mail.delivered(receipts, gateway=gateway, written=written if is_news else None)
        except StoreUnavailable:
            self._waiting = [*receipts, *self._waiting]
            return False
        self._told = (gateway, written)
        return True

    def _written(self) -> int:
        """The number up to which broadcasts and posts were written to all sockets."""
        latest = self._fanout.latest
        if self._told == (self._lease.gateway, latest):
            return latest
        return min(
            (connection.written_through() for connection in self._registry.agents()), default=self._fanout.latest
        )
