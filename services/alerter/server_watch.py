"""Watches how the Redis server is set up and doing."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from agentcom.errors import StoreUnavailable
from agentcom.store.server import Concern, ServerStore
from services.outage import Outage
from services.runtime import BaseComponent, pause

log = structlog.get_logger(__name__)

_EVERY_S: Final = 10.0
_MAX_SILENCE_S: Final = 60.0


class ServerWatch(BaseComponent):
    """Logs each concern once when it appears and once when it is over."""

    def __init__(self, server: ServerStore, *, every_s: float = _EVERY_S) -> None:
        super().__init__("alerter.server", max_silence=_MAX_SILENCE_S)
        self._server = server
        self._every_s = every_s
        self._known: dict[str, Concern] = {}

    async def run(self, stop: asyncio.Event) -> None:
        outage = Outage()
        while not stop.is_set():
            try:
                state = await self._server.state()
            except StoreUnavailable as error:
                await outage.wait(stop, error)
                self.touch()
                continue
            outage.over()
            self._compare({concern.code: concern for concern in state.concerns()})
            self.touch()
            await pause(stop, self._every_s)

    def _compare(self, concerns: dict[str, Concern]) -> None:
        for code in concerns.keys() - self._known.keys():
            log.warning("redis_concern", code=code, detail=concerns[code].message)
        for code in self._known.keys() - concerns.keys():
            log.info("redis_concern_over", code=code)
        self._known = concerns
