"""Limits of requests, and what operators set."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from agentcom.settings import Settings
from agentcom.store.tokens import Role
from tests.services.api.harness import Api, opened, refused

PATH = "/api/admin/rate-limits"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"rate_light": 3, "rate_normal": 2, "rate_heavy": 1})


@pytest.fixture
async def operator(api: Api) -> str:
    return await api.token("op", role=Role.OPERATOR)


def limited(response: httpx.Response, tier: str) -> int:
    """The milliseconds to wait."""
    body = refused(response, 429, "rate_limited")
    assert (body["tier"], body["retryable"]) == (tier, True)
    wait = body["retry_after_ms"]
    assert response.headers["retry-after"] == str(wait // 1_000)
    assert isinstance(wait, int)
    return wait


async def test_a_denied_submission_is_no_submission(api: Api) -> None:
    await api.submit()
    assert 0 < limited(await api("POST", "/api/tasks", {"description": "more"}), "heavy") <= 60_000
    assert (await api("GET", "/api/tasks/stats")).json()["submitted"] == 1


async def test_tiers_are_apart(api: Api) -> None:
    task_id = await api.submit()
    for _ in range(2):
        assert (await api("GET", f"/api/tasks/{task_id}")).status_code == 200
    limited(await api("GET", f"/api/tasks/{task_id}"), "normal")
    for _ in range(3):
        assert (await api("GET", "/api/tasks")).status_code == 200
    limited(await api("GET", "/api/tasks"), "light")
    assert (await api("GET", "/api/tasks/stats")).status_code == 200


async def test_an_invalid_request_pays_too(api: Api) -> None:
    assert (await api("POST", "/api/tasks", {})).status_code == 422
    limited(await api("POST", "/api/tasks", {}), "heavy")


async def test_an_unauthorized_request_pays_nothing(api: Api) -> None:
    refused(await api("POST", "/api/tasks", {"description": "x"}, token="f" * 64), 401, "unauthorized")
    await api.submit()


async def test_open_routes_are_limited_by_address(redis_url: str, settings: Settings, api: Api) -> None:
    for _ in range(3):
        assert (await api.client.get("/api/agents")).status_code == 200
    limited(await api.client.get("/api/agents"), "light")
    assert (await api.client.post("/api/onboard/register", json={"agent_id": "n1"})).status_code == 201
    limited(await api.client.post("/api/onboard/register", json={"agent_id": "n2"}), "heavy")
    refused(await api("GET", "/api/agents/n2/state"), 404, "agent_not_found")


@pytest.fixture
async def replica(redis_url: str, settings: Settings, api: Api) -> AsyncIterator[Api]:
    async with opened(redis_url, settings) as second:
        yield second


async def test_replicas_share_the_buckets(api: Api, replica: Api) -> None:
    await api.submit()
    limited(await replica("POST", "/api/tasks", {"description": "x"}, token=api.agent), "heavy")


async def test_all_limits_at_a_glance(api: Api, operator: str) -> None:
    assert (await api("GET", PATH, token=operator)).json() == {
        "defaults": {
            "light": {"capacity": 3, "refill_rate_per_min": 3},
            "normal": {"capacity": 2, "refill_rate_per_min": 2},
            "heavy": {"capacity": 1, "refill_rate_per_min": 1},
        },
        "overrides": {},
        "whitelist": [],
    }


async def test_overrides_hold_at_once_and_come_back_as_they_were_given(api: Api, operator: str) -> None:
    await api.submit()
    limited(await api("POST", "/api/tasks", {"description": "x"}), "heavy")
    limits = {"heavy": {"capacity": 2.5, "refill_rate_per_min": 0.5}}
    set_ = await api("PUT", f"{PATH}/w1", limits, token=operator)
    assert set_.json() == {"status": "updated", "agent_id": "w1", "overrides": limits}
    for _ in range(2):
        await api.submit()
    limited(await api("POST", "/api/tasks", {"description": "x"}), "heavy")
    assert (await api("GET", PATH, token=operator)).json()["overrides"] == {"w1": limits}
    # A second one replaces the first altogether.
    await api("PUT", f"{PATH}/w1", {"light": {"capacity": 9, "refill_rate_per_min": 9}}, token=operator)
    assert set((await api("GET", PATH, token=operator)).json()["overrides"]["w1"]) == {"light"}
    removed = await api("DELETE", f"{PATH}/w1", token=operator)
    assert removed.json() == {"status": "removed", "agent_id": "w1"}
    assert (await api("GET", PATH, token=operator)).json()["overrides"] == {}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"heavy": None},
        {"huge": {"capacity": 1, "refill_rate_per_min": 1}},
        {"heavy": 5},
        {"heavy": {"capacity": 1}},
        {"heavy": {"capacity": 0, "refill_rate_per_min": 1}},
        {"heavy": {"capacity": True, "refill_rate_per_min": 1}},
        {"heavy": {"capacity": 1, "refill_rate_per_min": 0}},
        {"heavy": {"capacity": 1e9, "refill_rate_per_min": 1}},
    ],
)
async def test_what_is_no_limit_is_refused(api: Api, operator: str, body: dict[str, object]) -> None:
    response = await api("PUT", f"{PATH}/w1", body, token=operator)
    assert len(refused(response, 422, "invalid_overrides")["detail"]) > 10
    assert (await api("GET", PATH, token=operator)).json()["overrides"] == {}


async def test_the_whitelist(api: Api, operator: str) -> None:
    async def listed() -> list[str]:
        names: list[str] = (await api("GET", f"{PATH}/whitelist", token=operator)).json()["whitelist"]
        return names

    replaced = await api("PUT", f"{PATH}/whitelist", {"agent_ids": ["a", "w1", "a"]}, token=operator)
    assert replaced.json() == {"status": "updated", "whitelist": ["a", "w1"]}
    added = await api("POST", f"{PATH}/whitelist", {"agent_id": "ip:1.2.3.4"}, token=operator)
    assert added.json() == {"status": "added", "agent_id": "ip:1.2.3.4"}
    await api("POST", f"{PATH}/whitelist", {"agent_id": "a"}, token=operator)
    assert await listed() == ["ip:1.2.3.4", "a", "w1"]
    for _ in range(3):
        await api.submit()
    removed = await api("DELETE", f"{PATH}/whitelist/w1", token=operator)
    assert removed.json() == {"status": "removed", "agent_id": "w1"}
    assert await listed() == ["ip:1.2.3.4", "a"]
    await api("PUT", f"{PATH}/whitelist", {}, token=operator)
    assert await listed() == []


async def test_what_is_no_identity_is_refused(api: Api, operator: str) -> None:
    refused(await api("PUT", f"{PATH}/whitelist", {"agent_ids": "w1"}, token=operator), 422, "invalid_whitelist")
    refused(await api("PUT", f"{PATH}/whitelist", {"agent_ids": [""]}, token=operator), 422, "invalid_whitelist")
    refused(await api("POST", f"{PATH}/whitelist", {}, token=operator), 422, "invalid_agent_id")
    refused(await api("POST", f"{PATH}/whitelist", {"agent_id": "a\x00"}, token=operator), 422, "invalid_agent_id")


async def test_a_tier_may_have_no_limit(redis_url: str, settings: Settings) -> None:
    async with opened(redis_url, settings.model_copy(update={"rate_heavy": 0})) as api:
        for _ in range(5):
            await api.submit()
