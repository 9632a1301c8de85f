"""Listening to what the store publishes, for as long as a service runs."""

from __future__ import annotations

import asyncio
import contextlib
import time
from abc import abstractmethod
from typing import Final

from agentcom.errors import StoreUnavailable
from services.outage import Outage
from services.runtime import BaseComponent, pause

_TURN_S: Final = 1.0


class StoreListener(BaseComponent):
    """Listens again after every loss of the store. What was published meanwhile is missed."""

    @abstractmethod
    async def listen(self, outage: Outage) -> None:
        """Handles what is published until the connection is lost, which raises :class:`StoreUnavailable`.

        Each time that it hears again, it tells ``outage`` that it is over and calls ``touch``: the service is not ready
        before the first.
        """

    def lost(self) -> None:
        """Nothing is heard any more."""

    async def run(self, stop: asyncio.Event) -> None:
        outage = Outage()
        while not stop.is_set():
            listening = asyncio.create_task(self.listen(outage), name=f"{self.name}.listen")
            try:
                while not listening.done() and not await pause(stop, _TURN_S):
                    self.last_progress = time.monotonic()
            finally:
                self.lost()
                listening.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait({listening})
            if listening.cancelled():
                return
            error = listening.exception()
            if not isinstance(error, StoreUnavailable):
                raise error or RuntimeError("the subscription ended")
            self.last_progress = time.monotonic()
            await outage.wait(stop, error)
