"""Making, listing and revoking tokens."""

from __future__ import annotations

import orjson
import pytest

from agentcom.settings import Settings
from agentcom.store.tokens import digest
from tests.services.api.harness import Api, field_codes, opened, refused
from tests.support.builders import an_agent


async def test_an_admin_makes_tokens(api: Api) -> None:
    response = await api("POST", "/admin/tokens", {"agent_id": "a"}, token=api.admin)
    assert response.status_code == 201
    body = response.json()
    assert body.keys() == {"agent_id", "token", "role"}
    assert (body["agent_id"], body["role"], len(body["token"])) == ("a", "agent", 64)
    second = (await api("POST", "/admin/tokens", {"agent_id": "a"}, token=api.admin)).json()["token"]
    for token in (body["token"], second):
        assert (await api("GET", "/api/tasks", token=token)).status_code == 200


async def test_only_digests_are_kept(api: Api) -> None:
    token = (await api("POST", "/admin/tokens", {"agent_id": "a"}, token=api.admin)).json()["token"]
    kept = await api.store.blocking.hgetall(api.store.keys.tokens())
    assert digest(token).encode() in kept
    assert token.encode() not in b"".join([*kept.keys(), *kept.values()])


@pytest.mark.parametrize(
    ("agent_id", "asked", "role"),
    [("a", None, "agent"), ("a", "admin", "admin"), ("boss", None, "admin"), ("boss", "agent", "agent")],
)
async def test_roles(redis_url: str, settings: Settings, agent_id: str, asked: str | None, role: str) -> None:
    async with opened(redis_url, settings.model_copy(update={"admin_agents": "boss"})) as api:
        body = {"agent_id": agent_id, "role": asked}
        assert (await api("POST", "/admin/tokens", body, token=api.admin)).json()["role"] == role


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, {"agent_id": "required"}),
        ({"agent_id": ""}, {"agent_id": "required"}),
        ({"agent_id": "a b"}, {"agent_id": "invalid_format"}),
        ({"agent_id": "broadcast"}, {"agent_id": "reserved"}),
        ({"agent_id": "a", "role": "root"}, {"role": "unknown_value"}),
    ],
)
async def test_not_every_token_can_be_made(api: Api, body: dict[str, str], expected: dict[str, str]) -> None:
    assert field_codes(await api("POST", "/admin/tokens", body, token=api.admin)) == expected


async def test_an_admin_sees_all_tokens_and_an_agent_its_own(api: Api) -> None:
    other = await api.token("w2")
    listed = (await api("GET", "/admin/tokens", token=api.admin)).json()["tokens"]
    assert {(entry["agent_id"], entry["token_prefix"]) for entry in listed} == {
        ("admin", f"{api.admin[:8]}..."),
        ("w1", f"{api.agent[:8]}..."),
        ("w2", f"{other[:8]}..."),
    }
    own = (await api("GET", "/admin/tokens")).json()["tokens"]
    assert [(entry["agent_id"], entry["role"]) for entry in own] == [("w1", "agent")]
    assert orjson.dumps(listed).count(b"...") == 3


async def test_revoking(api: Api) -> None:
    await api.token("w1")
    agent = await an_agent(api.store, "w1")
    response = await api("DELETE", "/admin/tokens/w1", token=api.admin)
    assert (response.status_code, response.json()) == (200, {"status": "revoked", "agent_id": "w1", "revoked": 3})
    refused(await api("GET", "/api/tasks"), 401, "unauthorized")
    # Its gateway is told to close the socket.
    entries = await api.store.blocking.xrange(api.store.keys.outbox(agent.gateway))
    closes = [fields for _, fields in entries if fields[b"kind"] == b"close"]
    assert [(fields[b"conn"], fields[b"code"]) for fields in closes] == [(agent.conn.encode(), b"4501")]
    again = await api("DELETE", "/admin/tokens/w1", token=api.admin)
    assert (again.status_code, again.json()["revoked"]) == (200, 0)


async def test_revoking_needs_an_agent_id(api: Api) -> None:
    response = await api("DELETE", "/admin/tokens/a%20b", token=api.admin)
    assert field_codes(response) == {"agent_id": "invalid_format"}


async def test_a_revoked_id_can_be_registered_again(api: Api) -> None:
    await api("DELETE", "/admin/tokens/w1", token=api.admin)
    assert (await api.client.post("/api/onboard/register", json={"agent_id": "w1"})).status_code == 201
