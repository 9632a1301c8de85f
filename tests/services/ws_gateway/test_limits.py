"""Frames behind token buckets: warned, turned away, and what never is."""

from __future__ import annotations

import pytest

from agentcom.domain.limits import Limit, Tier
from agentcom.wire.frames import FrameKind
from services.ws_gateway.limits import TIERS, UNLIMITED
from tests.services.ws_gateway.support import GatewayHub

PING = {"type": "ping"}


def test_every_frame_is_limited_or_is_known_not_to_be() -> None:
    assert not TIERS.keys() & UNLIMITED
    assert set(FrameKind) <= TIERS.keys() | UNLIMITED


async def test_a_warning_comes_before_the_answer(redis_url: str, namespace: str) -> None:
    async with GatewayHub(redis_url, namespace, rate_light=5) as hub:
        client = await hub.agent("a1")
        for _ in range(4):
            assert (await client.ask(PING))["type"] == "pong"
        warning = await client.ask(PING)
        assert warning == {"type": "rate_limit_warning", "tier": "light", "remaining": 0, "capacity": 5}
        assert (await client.receive())["type"] == "pong"


async def test_a_frame_without_a_token_is_not_served(redis_url: str, namespace: str) -> None:
    async with GatewayHub(redis_url, namespace, rate_light=1) as hub:
        client = await hub.agent("a1")
        await client.ask(PING)
        denied = await client.ask({"type": "status", "status": "busy"})
        wait = denied.pop("retry_after_ms")
        assert denied == {"type": "rate_limited", "tier": "light", "request_type": "status"}
        assert 0 < wait <= 60_000
        assert wait % 1_000 == 0
        assert (await hub.store.agents.get("a1")).status == "connected"
        assert (await client.ask({"type": "list_agents"}))["type"] == "rate_limited"


async def test_reports_of_work_always_get_through(redis_url: str, namespace: str) -> None:
    async with GatewayHub(redis_url, namespace, rate_light=1, rate_normal=1, rate_heavy=1) as hub:
        client = await hub.agent("a1")
        for _ in range(2):
            await client.ask(PING)
        for _ in range(5):
            await hub.submit()
            assignment = await client.until("task_assign")
            assert (await client.finish(assignment, result={}))["status"] == "complete"
        assert (await hub.store.tasks.counts()).unaccounted == 0


async def test_an_agent_at_its_limit_is_still_given_work(redis_url: str, namespace: str) -> None:
    async with GatewayHub(redis_url, namespace, rate_light=1) as hub:
        client = await hub.agent("a1")
        for _ in range(5):
            await client.send(PING)
        await client.until("rate_limited")
        await hub.submit()
        assert (await client.until("task_assign"))["type"] == "task_assign"


async def test_agents_have_buckets_of_their_own_over_all_connections(redis_url: str, namespace: str) -> None:
    async with GatewayHub(redis_url, namespace, rate_light=2) as hub:
        token = await hub.token("a1")
        first, other = await hub.agent("a1", token=token), await hub.agent("a2")
        for _ in range(2):
            await first.ask(PING, "pong")
        second = await hub.agent("a1", token=token)
        # The others are told that an agent left and came back, which may lie between a frame and its answer.
        assert (await second.ask(PING, "rate_limited", "pong"))["type"] == "rate_limited"
        assert (await other.ask(PING, "rate_limited", "pong"))["type"] == "pong"


@pytest.mark.parametrize("exempt", [True, False])
async def test_what_operators_set_holds_for_frames_too(redis_url: str, namespace: str, exempt: bool) -> None:
    async with GatewayHub(redis_url, namespace, rate_light=1) as hub:
        if exempt:
            await hub.store.rate_limits.replace_exempt(["a1"])
        else:
            await hub.store.rate_limits.override("a1", {Tier.LIGHT: Limit(100, 100)})
        client = await hub.agent("a1")
        for _ in range(10):
            assert (await client.ask(PING))["type"] == "pong"
