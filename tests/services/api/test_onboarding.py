"""Who may register, as what, and what the answer says."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pydantic import SecretStr

from agentcom.settings import Settings
from agentcom.store.tokens import Role, digest
from services.api.app import create_app
from services.runtime import StartupError
from tests.services.api.harness import Api, field_codes, opened, refused

REGISTER = "/api/onboard/register"
KEY = "an enrolment key, long enough"


@asynccontextmanager
async def api_with(redis_url: str, settings: Settings, **changes: Any) -> AsyncIterator[Api]:
    if "enrolment_key" in changes:
        changes["enrolment_key"] = SecretStr(changes["enrolment_key"])
    async with opened(redis_url, settings.model_copy(update=changes)) as api:
        yield api


async def test_registering(api: Api) -> None:
    response = await api.client.post(REGISTER, json={"agent_id": "worker.1_a-B"})
    assert response.status_code == 201
    body = response.json()
    token = body.pop("token")
    assert len(token) == 64
    assert int(token, 16) >= 0
    assert body == {
        "agent_id": "worker.1_a-B",
        "role": "agent",
        "hub_ws_url": "ws://127.0.0.1:4000/ws",
        "hub_api_url": "http://127.0.0.1:4000",
        "default_repo": None,
    }
    mine = await api("GET", "/admin/tokens", token=token)
    assert [entry["token_prefix"] for entry in mine.json()["tokens"]] == [f"{token[:8]}..."]


async def test_an_id_is_given_once(api: Api) -> None:
    await api.client.post(REGISTER, json={"agent_id": "a"})
    response = await api.client.post(REGISTER, json={"agent_id": "a"})
    assert refused(response, 409, "agent_id already registered")["agent_id"] == "a"


async def test_the_default_repo_is_told(api: Api) -> None:
    await api.store.services.set_config("default_repo", "https://example.org/repo.git")
    response = await api.client.post(REGISTER, json={"agent_id": "a"})
    assert response.json()["default_repo"] == "https://example.org/repo.git"


@pytest.mark.parametrize(
    ("agent_id", "code"),
    [
        (None, "required"), ("", "required"), (5, "wrong_type"), (["a"], "wrong_type"), ("a" * 129, "too_long"),
        ("a b", "invalid_format"), ("a/b", "invalid_format"), ("ip:127.0.0.1", "invalid_format"),
        ("-a", "invalid_format"), (".a", "invalid_format"), ("a\n", "invalid_format"), ("ä", "invalid_format"),
        ("a\x00", "invalid_format"), ("broadcast", "reserved"), ("Whitelist", "reserved"), ("admin", "reserved"),
    ],
)  # fmt: skip
async def test_not_every_id_is_one(api: Api, agent_id: object, code: str) -> None:
    assert field_codes(await api.client.post(REGISTER, json={"agent_id": agent_id})) == {"agent_id": code}


async def test_the_longest_id_is_one(api: Api) -> None:
    assert (await api.client.post(REGISTER, json={"agent_id": "a" * 128})).status_code == 201


async def test_a_body_for_registering_is_small(api: Api) -> None:
    response = await api.client.post(REGISTER, json={"agent_id": "a", "padding": "x" * 20_000})
    refused(response, 413, "body_too_large")


class TestChosenTokens:
    """A client that may lose the answer chooses the token, and asks again."""

    async def test_the_same_registration_gets_the_same_answer(self, api: Api) -> None:
        body = {"agent_id": "a", "token": secrets.token_hex(32)}
        first, again = [await api.client.post(REGISTER, json=body) for _ in range(2)]
        assert (first.status_code, again.status_code) == (201, 201)
        assert first.json() == again.json()
        assert first.json()["token"] == body["token"]
        assert (await api("GET", "/api/tasks", token=body["token"])).status_code == 200

    async def test_it_opens_no_door(self, api: Api) -> None:
        token = secrets.token_hex(32)
        await api.client.post(REGISTER, json={"agent_id": "a", "token": token})
        other = {"agent_id": "a", "token": secrets.token_hex(32)}
        refused(await api.client.post(REGISTER, json=other), 409, "agent_id already registered")
        refused(await api.client.post(REGISTER, json={"agent_id": "b", "token": token}), 409, "token_exists")

    @pytest.mark.parametrize(
        ("token", "code"),
        [(5, "wrong_type"), ("", "invalid_format"), ("A" * 64, "invalid_format"), ("secret" * 10, "invalid_format"),
         ("0" * 64, "invalid_format"), ("0123456789abcdef" * 4 + "\n", "invalid_format")],
    )  # fmt: skip
    async def test_not_every_token_is_one_and_none_is_shown(self, api: Api, token: object, code: str) -> None:
        response = await api.client.post(REGISTER, json={"agent_id": "a", "token": token})
        assert field_codes(response) == {"token": code}
        assert "value" not in response.json()["errors"][0]


class TestWhoMayRegister:
    async def test_nobody_unknown_where_others_can_ask(self, redis_url: str, settings: Settings) -> None:
        async with api_with(redis_url, settings, host="0.0.0.0") as api:
            refused(await api.client.post(REGISTER, json={"agent_id": "a"}), 403, "enrolment_key_required")
            refused(await api("POST", REGISTER, {"agent_id": "a"}), 403, "enrolment_key_required")
            assert (await api("POST", REGISTER, {"agent_id": "a"}, token=api.admin)).status_code == 201

    async def test_nobody_through_a_foreign_page_or_a_proxy(self, api: Api) -> None:
        for headers in ({"host": "evil.example"}, {"x-forwarded-for": "203.0.113.9"}, {"forwarded": "for=1.2.3.4"}):
            response = await api.client.post(REGISTER, json={"agent_id": "a"}, headers=headers)
            refused(response, 403, "enrolment_key_required")

    async def test_nobody_from_another_machine(self, redis_url: str, settings: Settings) -> None:
        async with opened(redis_url, settings, client_address=("203.0.113.9", 1)) as api:
            response = await api.client.post(REGISTER, json={"agent_id": "a"})
            refused(response, 403, "enrolment_key_required")

    @pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
    async def test_holders_of_the_key(self, redis_url: str, settings: Settings, host: str) -> None:
        async with api_with(redis_url, settings, host=host, enrolment_key=KEY) as api:
            refused(await api.client.post(REGISTER, json={"agent_id": "a"}), 403, "enrolment_key_required")
            wrong = {"agent_id": "a", "enrolment_key": "x" * 30}
            refused(await api.client.post(REGISTER, json=wrong), 403, "enrolment_key_invalid")
            header = {"x-enrolment-key": KEY}
            by_header = await api.client.post(REGISTER, json={"agent_id": "a"}, headers=header)
            by_field = await api.client.post(REGISTER, json={"agent_id": "b", "enrolment_key": KEY})
            assert (by_header.status_code, by_field.status_code) == (201, 201)
            refused(
                await api.client.post(REGISTER, json={"agent_id": "a"}, headers=header),
                409,
                "agent_id already registered",
            )

    async def test_the_key_is_not_shown(self, redis_url: str, settings: Settings) -> None:
        async with api_with(redis_url, settings, enrolment_key=KEY) as api:
            body = {"agent_id": 5, "enrolment_key": 77}
            response = await api.client.post(REGISTER, json=body, headers={"x-enrolment-key": KEY})
            assert field_codes(response) == {"agent_id": "wrong_type", "enrolment_key": "wrong_type"}
            assert "value" not in response.json()["errors"][1]


class TestAdmins:
    """Ids in ADMIN_AGENTS are admins only if somebody trusted registered them."""

    async def test_not_by_open_registration(self, redis_url: str, settings: Settings) -> None:
        async with api_with(redis_url, settings, admin_agents="boss, chief") as api:
            body = (await api.client.post(REGISTER, json={"agent_id": "boss"})).json()
            assert body["role"] == "agent"
            refused(await api("POST", "/admin/tokens", {"agent_id": "x"}, token=body["token"]), 403, "admin_only")

    async def test_by_the_key(self, redis_url: str, settings: Settings) -> None:
        async with api_with(redis_url, settings, admin_agents="boss, chief", enrolment_key=KEY) as api:
            for agent_id, role in (("boss", "admin"), ("chief", "admin"), ("other", "agent")):
                response = await api.client.post(REGISTER, json={"agent_id": agent_id, "enrolment_key": KEY})
                assert response.json()["role"] == role

    async def test_by_an_admin(self, redis_url: str, settings: Settings) -> None:
        async with api_with(redis_url, settings, admin_agents="boss") as api:
            body = (await api("POST", REGISTER, {"agent_id": "boss"}, token=api.admin)).json()
            principal = await api.store.tokens.find(digest(body["token"]))
            assert principal is not None
            assert principal.role is Role.ADMIN
            assert (await api("POST", "/admin/tokens", {"agent_id": "x"}, token=body["token"])).status_code == 201


class TestAddresses:
    @pytest.mark.parametrize(
        ("host", "authority"),
        [
            ("localhost", "localhost:80"),
            ("localhost:8080", "localhost:8080"),
            ("[::1]:4000", "[::1]:4000"),
            ("127.0.0.1", "127.0.0.1:80"),
        ],
    )
    async def test_the_host_of_the_request(self, api: Api, host: str, authority: str) -> None:
        body = (await api.client.post(REGISTER, json={"agent_id": "a"}, headers={"host": host})).json()
        assert (body["hub_api_url"], body["hub_ws_url"]) == (f"http://{authority}", f"ws://{authority}/ws")

    @pytest.mark.parametrize(
        "host", ["evil/path", "a b", "user@evil", 'x"><script>', "[::1", "[zz]:1", "host:99999", "host:", "", "a\\b"]
    )
    async def test_garbage_is_not_repeated(self, redis_url: str, settings: Settings, host: str) -> None:
        async with api_with(redis_url, settings, enrolment_key=KEY) as api:
            headers = {"host": host, "x-enrolment-key": KEY}
            response = await api.client.post(REGISTER, json={"agent_id": "a"}, headers=headers)
            assert response.json()["hub_api_url"] == "http://127.0.0.1:4000"

    async def test_https_is_told_as_such(self, redis_url: str, settings: Settings) -> None:
        async with opened(redis_url, settings, base_url="https://localhost") as api:
            body = (await api.client.post(REGISTER, json={"agent_id": "a"})).json()
            assert (body["hub_api_url"], body["hub_ws_url"]) == ("https://localhost:443", "wss://localhost:443/ws")

    async def test_the_configured_address_wins(self, redis_url: str, settings: Settings) -> None:
        async with api_with(redis_url, settings, public_url="https://hub.example.org/agents/") as api:
            body = (await api.client.post(REGISTER, json={"agent_id": "a"})).json()
            assert body["hub_api_url"] == "https://hub.example.org/agents"
            assert body["hub_ws_url"] == "wss://hub.example.org/agents/ws"

    @pytest.mark.parametrize("url", ["hub.example.org", "ftp://hub", "https://", "https://hub/?a=1"])
    async def test_a_configured_address_must_be_one(self, api: Api, settings: Settings, url: str) -> None:
        with pytest.raises(StartupError, match="AGENTCOM_PUBLIC_URL"):
            create_app(api.store, settings.model_copy(update={"public_url": url}))
