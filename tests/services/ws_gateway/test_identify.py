"""Who may be on a socket, and what happens to the socket otherwise."""

from __future__ import annotations

import pytest

from agentcom.domain.agents import AgentState
from agentcom.store.tokens import Role
from services.ws_gateway.session import IDENTIFY_ATTEMPTS
from tests.services.ws_gateway.support import GatewayHub
from tests.support.eventually import eventually


async def test_an_agent_is_known_with_what_it_said_of_itself(hub: GatewayHub) -> None:
    await hub.agent("a1", name="Worker", status="busy", capabilities=["code", "größe"], features=["cancel", "unknown"])
    agent = await hub.store.agents.get("a1")
    assert (agent.name, agent.status, agent.capabilities) == ("Worker", "busy", ("code", "größe"))
    assert agent.state is AgentState.IDLE
    assert agent.gateway == hub.gateway.lease.gateway


async def test_what_it_did_not_say_has_defaults_and_null_stays_null(hub: GatewayHub) -> None:
    await hub.agent("a1")
    await hub.agent("a2", name=None, status=None, capabilities=None)
    first, second = await hub.store.agents.get("a1"), await hub.store.agents.get("a2")
    assert (first.name, first.status, first.capabilities) == ("a1", "connected", ())
    assert (second.name, second.status, second.capabilities) == (None, None, ())


async def test_a_wrong_token_may_be_followed_by_the_right_one(hub: GatewayHub) -> None:
    token, other = await hub.token("a1"), await hub.token("a2")
    client = await hub.stranger()
    identify = {"type": "identify", "agent_id": "a1"}
    assert (await client.ask(identify | {"token": "nonsense"}))["error"] == "invalid_token"
    assert (await client.ask(identify | {"token": other}))["error"] == "token_agent_mismatch"
    assert await hub.agent_ids() == []
    assert (await client.ask(identify | {"token": token}))["type"] == "identified"
    assert await hub.agent_ids() == ["a1"]


async def test_guessing_is_cut_short(hub: GatewayHub) -> None:
    client = await hub.stranger()
    for number in range(IDENTIFY_ATTEMPTS):
        await client.send({"type": "identify", "agent_id": "a1", "token": f"guess {number}"})
    assert (await client.closed())[0] == 1008
    assert [frame["error"] for frame in client.passed] == ["invalid_token"] * IDENTIFY_ATTEMPTS


async def test_an_agent_in_its_cooldown_is_sent_away(hub: GatewayHub) -> None:
    token = await hub.token("a1")
    await hub.store.agents.penalize("a1")
    client = await hub.stranger()
    await client.send({"type": "identify", "agent_id": "a1", "token": token})
    code, reason = await client.closed()
    assert code == 1008
    assert "30 s" in reason


async def test_everything_else_needs_an_identity(hub: GatewayHub) -> None:
    client = await hub.stranger()
    for frame in ({"type": "ping"}, {"type": "list_agents"}, {"type": "task_accepted", "task_id": "t"}):
        assert (await client.ask(frame))["error"] == "not_identified"


async def test_frames_sent_right_behind_identify_are_served_after_it(hub: GatewayHub) -> None:
    client = await hub.stranger()
    await client.send({"type": "identify", "agent_id": "a1", "token": await hub.token("a1")})
    await client.send({"type": "ping"})
    await client.send({"type": "list_agents"})
    assert [(await client.receive())["type"] for _ in range(3)] == ["identified", "pong", "agents"]


async def test_who_does_not_identify_is_closed(redis_url: str, namespace: str) -> None:
    async with GatewayHub(redis_url, namespace, identify_timeout_ms=50) as hub:
        client = await hub.stranger()
        assert (await client.closed())[0] == 4003


async def test_repeating_identify_has_no_effect_and_changing_it_is_refused(hub: GatewayHub) -> None:
    client = await hub.agent("a1", capabilities=["code"])
    before = await hub.store.agents.get("a1")
    again = {"type": "identify", "agent_id": "a1", "token": "ignored", "capabilities": ["more"]}
    assert (await client.ask(again))["type"] == "identified"
    other = {"type": "identify", "agent_id": "a2", "token": await hub.token("a2")}
    assert (await client.ask(other))["error"] == "already_identified"
    after = await hub.store.agents.get("a1")
    assert (after.capabilities, after.connected_at) == (before.capabilities, before.connected_at)
    assert await hub.agent_ids() == ["a1"]


async def test_the_newest_connection_wins(hub: GatewayHub) -> None:
    older = await hub.agent("a1")
    newer = await hub.agent("a1")
    assert (await older.closed())[0] == 4500
    await eventually(lambda: len(hub.gateway.registry.sockets()) == 1)
    await hub.gateway.departures.settled()
    assert await hub.agent_ids() == ["a1"]
    task_id = await hub.submit()
    assert (await newer.until("task_assign"))["task_id"] == task_id
    assert (await newer.ask({"type": "ping"}, "pong", "error"))["type"] == "pong"


async def test_the_newest_connection_wins_across_gateways(redis_url: str, namespace: str) -> None:
    async with GatewayHub(redis_url, namespace) as first, GatewayHub(redis_url, namespace) as second:
        older = await first.agent("a1")
        await second.agent("a1")
        assert (await older.closed())[0] == 4500
        assert (await first.store.agents.get("a1")).gateway == second.gateway.lease.gateway


async def test_an_agent_that_leaves_is_not_there_any_more(hub: GatewayHub) -> None:
    client = await hub.agent("a1")
    await client.socket.close()

    async def gone() -> bool:
        return await hub.agent_ids() == []

    await eventually(gone)


async def test_an_agent_whose_network_breaks_is_not_there_any_more(hub: GatewayHub) -> None:
    client = await hub.agent("a1")
    client.socket.transport.abort()

    async def gone() -> bool:
        return await hub.agent_ids() == []

    await eventually(gone)


async def test_revoking_the_tokens_closes_the_socket_for_good(hub: GatewayHub) -> None:
    token = await hub.token("a1")
    client = await hub.agent("a1", token=token)
    await hub.store.tokens.revoke("a1")
    assert (await client.closed())[0] == 4501
    late = await hub.stranger()
    assert (await late.ask({"type": "identify", "agent_id": "a1", "token": token}))["error"] == "invalid_token"


@pytest.mark.parametrize("role", list(Role))
async def test_any_role_may_be_an_agent(hub: GatewayHub, role: Role) -> None:
    token = await hub.store.tokens.register("boss", role=role)
    await hub.agent("boss", token=token)
    assert await hub.agent_ids() == ["boss"]
