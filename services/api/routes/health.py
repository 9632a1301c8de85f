"""``GET /health``: what works and what does not."""

from __future__ import annotations

import asyncio
import time
from typing import Final

import structlog

from agentcom.errors import StoreUnavailable
from agentcom.settings import Settings
from agentcom.store.link import CommandError
from agentcom.store.services import Beat
from agentcom.store.store import Store
from agentcom.wire.http import JsonObject, beats_shape
from services.api.answer import Answer, answer
from services.api.auth import Access, Gate
from services.api.errors import Unauthorized
from services.api.request import ApiRequest
from services.api.routing import Endpoint

log = structlog.get_logger(__name__)

#: Without a live instance of each of these, tasks wait or are lost sight of.
REQUIRED_SERVICES: Final = ("api", "reaper", "scheduler", "ws-gateway")
#: Services beat every five seconds; one that missed two beats is gone.
LIVE_WITHIN_MS: Final = 15_000
ANSWER_WITHIN_S: Final = 2.0
_SERVICE: Final = "agent_com"
_NO_STORE: Final = ((b"cache-control", b"no-store"),)


class HealthRoutes:
    """200 while the store answers: ``ok``, or ``degraded`` if a required service is missing. Else 503.

    Details are for callers on this machine and for token holders; others get the status.
    """

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._max_body = settings.max_body_bytes

    def endpoints(self, gate: Gate) -> list[Endpoint]:
        self._gate = gate
        return [Endpoint("GET", "/health", self.health, gate=gate, access=Access.OPEN, max_body_bytes=self._max_body)]

    async def health(self, request: ApiRequest) -> Answer:
        started = time.perf_counter()
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                now, connected, beats, detailed = await asyncio.gather(
                    self._store.services.now(),
                    self._store.agents.count(),
                    self._store.services.beats(live_within_ms=LIVE_WITHIN_MS),
                    self._may_see_details(request),
                )
        except (TimeoutError, StoreUnavailable, CommandError) as error:
            log.warning("health_store_unreachable", error=str(error) or "no answer in time")
            return answer(self._unavailable(), status=503, headers=_NO_STORE)
        missing = _missing(beats)
        body: JsonObject = {"status": "degraded" if missing else "ok", "service": _SERVICE}
        if detailed:
            latency_ms = round((time.perf_counter() - started) * 1000, 1)
            body["agents_connected"] = connected
            body["redis"] = {"reachable": True, "latency_ms": latency_ms}
            body["services"] = beats_shape(beats, now=now)
            body["missing"] = missing
        return answer(body, headers=_NO_STORE)

    @staticmethod
    def _unavailable() -> JsonObject:
        return {
            "status": "unavailable",
            "service": _SERVICE,
            "error": "store_unavailable",
            "message": f"Redis can't be reached, or did not answer within {ANSWER_WITHIN_S:g} seconds.",
            "redis": {"reachable": False},
        }

    async def _may_see_details(self, request: ApiRequest) -> bool:
        if self._gate.is_local(request):
            return True
        try:
            return await self._gate.identify(request) is not None
        except Unauthorized:
            return False


def _missing(beats: list[Beat]) -> list[str]:
    live = {beat.service for beat in beats if beat.live}
    return [service for service in REQUIRED_SERVICES if service not in live]
