"""Serving match requests: the new ones at once, and those that a scheduler took and never finished."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Final

import structlog

from agentcom.errors import StoreUnavailable
from agentcom.store.link import CommandError
from agentcom.store.matching import MatchRequest, MatchStore
from services.outage import Outage
from services.runtime import BaseComponent, pause

log = structlog.get_logger(__name__)

#: Longer than a blocking read and a call that waits for its answer in vain, one after the other.
MAX_SILENCE_S: Final = 60.0
_CLAIM_EVERY_S: Final = 3.0


async def serve(matching: MatchStore, requests: Sequence[MatchRequest]) -> int:
    """Serves a batch. Returns how many tasks were assigned.

    A request that breaks its script stays where it is and is said so; it does not keep the others from being served.
    """
    try:
        return await matching.serve(requests)
    except CommandError:
        if len(requests) == 1:
            log.exception("match_request_failed", kind=requests[0].kind, name=requests[0].name)
            return 0
    return sum([await serve(matching, [request]) for request in requests])


class RequestReader(BaseComponent):
    """Reads new requests in the consumer group and serves them."""

    def __init__(self, matching: MatchStore, *, consumer: str) -> None:
        super().__init__("scheduler.requests", max_silence=MAX_SILENCE_S)
        self._matching = matching
        self._consumer = consumer

    async def run(self, stop: asyncio.Event) -> None:
        outage = Outage()
        prepared = False
        while not stop.is_set():
            try:
                if not prepared:
                    await self._matching.ensure_group()
                    prepared = True
                    self.touch()
                requests = await self._matching.read(self._consumer)
                matched = await serve(self._matching, requests)
            except StoreUnavailable as error:
                # What was read and not served stays with this consumer until it is claimed.
                await outage.wait(stop, error)
            else:
                outage.over()
                if requests:
                    log.debug("match_requests_served", requests=len(requests), matched=matched)
            self.touch()


class RequestClaimer(BaseComponent):
    """Takes over requests that a scheduler, this one included, read some seconds ago and has not served."""

    def __init__(self, matching: MatchStore, *, consumer: str, every_s: float = _CLAIM_EVERY_S) -> None:
        super().__init__("scheduler.claims", max_silence=MAX_SILENCE_S)
        self._matching = matching
        self._consumer = consumer
        self._every_s = every_s

    async def run(self, stop: asyncio.Event) -> None:
        outage = Outage()
        while not stop.is_set():
            try:
                requests = await self._matching.claim(self._consumer)
                matched = await serve(self._matching, requests)
            except StoreUnavailable as error:
                await outage.wait(stop, error)
                self.touch()
                continue
            outage.over()
            self.touch()
            if requests:
                log.info("match_requests_claimed", requests=len(requests), matched=matched)
            # Failed ones are claimed again only after their idle time, so a full batch can be followed up at once.
            if not requests:
                await pause(stop, self._every_s * random.uniform(0.8, 1.2))
