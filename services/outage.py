"""Patience with a store that is away."""

from __future__ import annotations

import asyncio
import random
from typing import Final

import structlog

from agentcom.errors import StoreUnavailable
from services.runtime import pause

log = structlog.get_logger(__name__)

_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 5.0


class Outage:
    """A loop's patience with a store that is away: it waits longer each time, for ever, and logs only the changes."""

    def __init__(self) -> None:
        self._failures = 0

    async def wait(self, stop: asyncio.Event, error: StoreUnavailable) -> None:
        """Pause after a failure; returns early when ``stop`` is set."""
        if self._failures == 0:
            log.warning("store_lost", error=error.message)
        delay = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(self._failures, 30))
        self._failures += 1
        await pause(stop, delay * random.uniform(0.5, 1.0))

    def over(self) -> None:
        """The store answered."""
        if self._failures:
            log.info("store_back", failures=self._failures)
        self._failures = 0
