"""The slow reconciling pass: whatever went wrong before, no idle agent waits long beside a task it could do."""

from __future__ import annotations

import asyncio
import random
from typing import Final

import structlog

from agentcom.errors import StoreUnavailable
from agentcom.settings import SECOND
from agentcom.store.matching import MatchRequest, MatchStore
from services.outage import Outage
from services.runtime import BaseComponent, pause
from services.scheduler.requests import MAX_SILENCE_S, serve

log = structlog.get_logger(__name__)

#: Idle agents looked at by one script call.
PAGE: Final = 64
#: A scheduler not heard of for so long has ended; what it had read was claimed by others long before.
_CONSUMER_GONE_MS: Final = 10 * 60 * SECOND


class Reconciler(BaseComponent):
    """Looks for a task for every idle agent, page by page. Its cost depends on idle agents only, not on the queues."""

    def __init__(self, matching: MatchStore, *, interval_ms: int) -> None:
        super().__init__("scheduler.reconcile", max_silence=MAX_SILENCE_S)
        self._matching = matching
        self._interval_s = interval_ms / SECOND

    async def run(self, stop: asyncio.Event) -> None:
        outage = Outage()
        while not stop.is_set():
            try:
                await self._pass(stop)
                await self._matching.forget_consumers(idle_ms=_CONSUMER_GONE_MS)
            except StoreUnavailable as error:
                await outage.wait(stop, error)
                self.touch()
                continue
            outage.over()
            # Several copies spread their passes instead of running them together.
            await self._rest(stop, self._interval_s * random.uniform(0.7, 1.3))

    async def _pass(self, stop: asyncio.Event) -> None:
        after: tuple[float, str] | None = None
        looked_at = matched = 0
        while not stop.is_set():
            page = await self._matching.idle_agents(after=after, limit=PAGE)
            self.touch()
            if not page:
                break
            after = page[-1]
            looked_at += len(page)
            matched += await serve(
                self._matching, [MatchRequest(entry="", kind="agent", name=agent_id, skip=0) for _, agent_id in page]
            )
        if matched:
            # Usually 0: a match that only this pass finds was missed by everything before it.
            log.warning("reconcile_matched", idle_agents=looked_at, matched=matched)

    async def _rest(self, stop: asyncio.Event, seconds: float) -> None:
        """Pauses, and shows while it does that the loop is alive."""
        slice_s = self.max_silence / 4
        while seconds > 0 and not stop.is_set():
            await pause(stop, min(seconds, slice_s))
            seconds -= slice_s
            self.touch()
