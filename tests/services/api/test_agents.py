"""What the API shows of agents."""

from __future__ import annotations

from agentcom.settings import Settings
from tests.services.api.harness import LOCAL, Api, opened, refused
from tests.support.builders import an_agent


async def test_connected_agents(api: Api) -> None:
    await an_agent(api.store, "a1", capabilities=("code", "a b"), name="One", status="ready")
    await an_agent(api.store, "a2")
    await api.submit(needed_capabilities=["code"])
    body = (await api.client.get("/api/agents")).json()
    one, two = body["agents"]
    assert one == {
        "agent_id": "a1",
        "name": "One",
        "status": "ready",
        "capabilities": ["code", "a b"],
        "connected_at": one["connected_at"],
        "fsm_state": "assigned",
    }
    assert one["connected_at"] > 1_700_000_000_000
    assert (two["name"], two["status"], two["capabilities"], two["fsm_state"]) == (None, "connected", [], "idle")


async def test_pages_of_agents(api: Api) -> None:
    for n in range(5):
        await an_agent(api.store, f"a{n}")
    found: list[str] = []
    query = "?limit=2"
    while query:
        page = (await api("GET", f"/api/agents{query}")).json()
        found += [agent["agent_id"] for agent in page["agents"]]
        query = f"?limit=2&cursor={page['cursor']}" if page["cursor"] else ""
    assert found == [f"a{n}" for n in range(5)]


async def test_states(api: Api) -> None:
    await an_agent(api.store, "a1", capabilities=("code",))
    task_id = await api.submit()
    (state,) = (await api("GET", "/api/agents/states")).json()["agents"]
    assert state == {
        "agent_id": "a1",
        "fsm_state": "assigned",
        "current_task_id": task_id,
        "capabilities": [{"name": "code"}],
        "flags": [],
        "connected_at": state["connected_at"],
        "name": None,
    }
    single = (await api("GET", "/api/agents/a1/state")).json()
    assert single.pop("last_state_change") >= state["connected_at"]
    assert single == state


async def test_an_agent_that_left_has_no_state(api: Api) -> None:
    await an_agent(api.store, "a1")
    await api.store.agents.disconnect("a1", conn="a1-conn", reason="test")
    refused(await api("GET", "/api/agents/a1/state"), 404, "agent_not_found")


async def test_states_need_a_token_and_the_list_does_not_here(api: Api) -> None:
    assert (await api.client.get("/api/agents")).status_code == 200
    refused(await api.client.get("/api/agents/states"), 401, "unauthorized")
    refused(await api.client.get("/api/agents/a1/state"), 401, "unauthorized")


async def test_the_list_needs_a_token_where_others_can_ask(redis_url: str, settings: Settings) -> None:
    async with opened(redis_url, settings.model_copy(update={"host": "0.0.0.0"})) as api:
        refused(await api.client.get("/api/agents"), 401, "unauthorized")
        assert (await api("GET", "/api/agents")).status_code == 200


async def test_a_foreign_page_or_a_proxy_is_not_this_machine(api: Api) -> None:
    for headers in ({"host": "evil.example"}, {"host": "hub.internal:4000"}, {"x-forwarded-for": "203.0.113.9"}):
        refused(await api.client.get("/api/agents", headers=headers), 401, "unauthorized")
    for host in ("localhost:4000", "127.0.0.1", "[::1]:4000", LOCAL.removeprefix("http://")):
        assert (await api.client.get("/api/agents", headers={"host": host})).status_code == 200
