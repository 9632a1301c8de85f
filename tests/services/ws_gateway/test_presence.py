"""Agents hear of each other, as long as they are few."""

from __future__ import annotations

import asyncio

from tests.services.ws_gateway.support import Frame, GatewayHub
from tests.support.eventually import eventually

EVENTS = {"agent_joined", "agent_left", "status_changed"}


async def test_coming_changing_and_going_are_told(hub: GatewayHub) -> None:
    watcher = await hub.agent("a1")
    other = await hub.agent("a2", name="Second", capabilities=["code"])
    joined = await watcher.until("agent_joined")
    connected_at = (await hub.store.agents.get("a2")).connected_at
    described = {
        "agent_id": "a2",
        "name": "Second",
        "status": "connected",
        "capabilities": ["code"],
        "connected_at": connected_at,
    }
    assert joined == {"type": "agent_joined", "agent": described}
    assert (await other.ask({"type": "status", "status": "busy"}, "status_updated"))["type"] == "status_updated"
    changed = await watcher.until("status_changed")
    assert changed == {"type": "status_changed", "agent": described | {"status": "busy"}}
    assert (await other.until("status_changed"))["agent"]["status"] == "busy"
    await other.socket.close()
    assert await watcher.until("agent_left") == {"type": "agent_left", "agent_id": "a2"}


async def test_nobody_is_told_of_its_own_coming(hub: GatewayHub) -> None:
    first = await hub.agent("a1")
    await hub.agent("a2")
    await first.until("agent_joined")
    assert [frame for frame in first.passed if frame["type"] == "agent_joined"] == []


async def test_of_several_statuses_at_once_only_the_last_is_told(hub: GatewayHub) -> None:
    watcher, other = await hub.agent("a1"), await hub.agent("a2")
    await watcher.until("agent_joined")
    for number in range(50):
        await other.send({"type": "status", "status": f"{number}"})
    seen = []
    while (changed := await watcher.until("status_changed"))["agent"]["status"] != "49":
        seen.append(changed)
    assert len(seen) < 49


async def test_agents_on_other_gateways_are_told_of_too(redis_url: str, namespace: str) -> None:
    async with GatewayHub(redis_url, namespace) as first, GatewayHub(redis_url, namespace) as second:
        watcher = await first.agent("a1")
        await second.agent("a2")
        assert (await watcher.until("agent_joined"))["agent"]["agent_id"] == "a2"


async def test_with_many_agents_nobody_is_told_anything(redis_url: str, namespace: str) -> None:
    async with GatewayHub(redis_url, namespace, presence_fanout_max=2) as hub:
        clients = [await hub.agent(f"a{number}") for number in range(4)]
        await clients[3].ask({"type": "status", "status": "busy"})
        await clients[2].socket.close()

        async def two_left() -> bool:
            return len(await hub.agent_ids()) == 3

        await eventually(two_left)
        await asyncio.gather(*[client.ask({"type": "ping"}, "pong") for client in clients[:2]])
        told = [frame for client in clients[:2] for frame in client.passed if frame["type"] in EVENTS]
        assert not [frame for frame in told if _names(frame, "a3")]


async def test_the_list_of_agents(hub: GatewayHub) -> None:
    client = await hub.agent("a1", name="First", capabilities=["b", "a"])
    await hub.agent("a2")
    reply = await client.ask({"type": "list_agents"}, "agents")
    assert reply["truncated"] is False
    assert [agent["agent_id"] for agent in reply["agents"]] == ["a1", "a2"]
    assert reply["agents"][0] == {
        "agent_id": "a1",
        "name": "First",
        "status": "connected",
        "capabilities": ["b", "a"],
        "connected_at": (await hub.store.agents.get("a1")).connected_at,
    }


def _names(frame: Frame, agent_id: str) -> bool:
    return agent_id in {frame.get("agent_id"), frame.get("agent", {}).get("agent_id")}


async def test_above_the_limit_only_those_are_told_that_asked(redis_url: str, namespace: str) -> None:
    async with GatewayHub(redis_url, namespace, presence_fanout_max=0) as hub:
        by_feature = await hub.agent("a1", features=["presence"])
        by_name = await hub.agent("a2", subscribe=["presence", "unknown"])
        silent = await hub.agent("a3")
        await hub.agent("a4")
        for watcher in (by_feature, by_name):
            while (await watcher.until("agent_joined"))["agent"]["agent_id"] != "a4":
                pass
        assert (await silent.ask({"type": "ping"}))["type"] == "pong"
        assert [frame for frame in silent.passed if frame["type"] in EVENTS] == []


async def test_of_one_agent_only_the_last_state_is_told(hub: GatewayHub) -> None:
    """Ten connects and leaves within one window are one event."""
    watcher = await hub.agent("a1")
    token = await hub.token("a2")
    for _ in range(9):
        await hub.agent("a2", token=token)
    other = await hub.agent("a2", token=token)
    await other.ask({"type": "status", "status": "last"}, "status_updated")

    async def settled() -> Frame:
        told = [frame["agent"]["status"] for frame in watcher.passed if "agent" in frame]
        assert "last" in told, told
        return watcher.passed[-1]

    async def look() -> Frame:
        watcher.passed.append(await watcher.until("agent_joined", "status_changed"))
        return await settled()

    await eventually(look)
    assert len(watcher.passed) < 10
