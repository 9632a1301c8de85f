"""``/health`` tells the truth."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator

import pytest

from agentcom.settings import Settings
from services.api.routes.health import REQUIRED_SERVICES
from services.api.service import SERVICE as API
from services.local.redis_server import EmbeddedRedis
from services.reaper.service import SERVICE as REAPER
from services.scheduler.service import SERVICE as SCHEDULER
from services.ws_gateway.service import SERVICE as GATEWAY
from tests.services.api.harness import Api, opened
from tests.support.builders import an_agent


@pytest.fixture
async def durable_api(durable_redis: EmbeddedRedis, settings: Settings) -> AsyncIterator[Api]:
    async with opened(durable_redis.url, settings) as api:
        yield api


async def beat(api: Api, *services: str, stalled: tuple[str, ...] = ()) -> None:
    for service in services:
        await api.store.services.beat(service, f"{service}-1", stalled=stalled)


async def test_all_is_well(api: Api) -> None:
    await beat(api, *REQUIRED_SERVICES)
    await an_agent(api.store, "a1")
    response = await api.client.get("/health")
    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    body = response.json()
    assert (body["status"], body["service"], body["agents_connected"]) == ("ok", "agent_com", 1)
    assert body["redis"]["reachable"] is True
    assert body["services"].keys() == set(REQUIRED_SERVICES)
    assert body["missing"] == []
    (instance,) = body["services"]["scheduler"]
    assert (instance["instance"], instance["live"]) == ("scheduler-1", True)
    assert 0 <= instance["last_seen_ms_ago"] < 60_000


@pytest.mark.parametrize("service", REQUIRED_SERVICES)
async def test_a_missing_service_is_named(api: Api, service: str) -> None:
    await beat(api, *(name for name in REQUIRED_SERVICES if name != service))
    response = await api.client.get("/health")
    assert response.status_code == 200
    assert (response.json()["status"], response.json()["missing"]) == ("degraded", [service])


async def test_a_stalled_service_is_as_good_as_missing(api: Api) -> None:
    await beat(api, *REQUIRED_SERVICES)
    await beat(api, "reaper", stalled=("sweeper",))
    body = (await api.client.get("/health")).json()
    assert (body["status"], body["missing"]) == ("degraded", ["reaper"])
    assert (body["services"]["reaper"][0]["live"], body["services"]["reaper"][0]["stalled"]) == (False, ["sweeper"])


@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_redis_away(durable_api: Api, durable_redis: EmbeddedRedis, how: str) -> None:
    assert (await durable_api.client.get("/health")).status_code == 200
    pid = durable_redis.pid
    assert pid is not None
    if how == "killed":
        durable_redis.kill()
    else:
        os.kill(pid, signal.SIGSTOP)
    try:
        response = await durable_api.client.get("/health")
    finally:
        if how == "frozen":
            os.kill(pid, signal.SIGCONT)
    assert response.status_code == 503
    body = response.json()
    assert (body["status"], body["redis"]["reachable"], body["error"]) == ("unavailable", False, "store_unavailable")
    assert response.headers["x-request-id"]


async def test_others_see_the_status_and_token_holders_all(redis_url: str, settings: Settings) -> None:
    async with opened(redis_url, settings.model_copy(update={"host": "0.0.0.0"})) as api:
        assert (await api.client.get("/health")).json() == {"status": "degraded", "service": "agent_com"}
        wrong = await api("GET", "/health", token="f" * 64)
        assert (wrong.status_code, wrong.json().keys()) == (200, {"status", "service"})
        assert "services" in (await api("GET", "/health")).json()


def test_the_required_services_are_called_what_they_call_themselves() -> None:
    assert {API, GATEWAY, REAPER, SCHEDULER} == set(REQUIRED_SERVICES)
