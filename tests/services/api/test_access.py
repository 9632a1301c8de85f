"""Who may use which route. Every route must be in the table: one that nobody thought of fails here."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest
from starlette.routing import Route

from agentcom.settings import Settings
from agentcom.store.store import Store
from agentcom.store.tokens import Role
from services.api.app import create_app
from services.api.auth import Access
from services.api.routing import Endpoint
from services.runtime import StartupError, Supervisor, health_routes
from tests.services.api.harness import Api, opened, refused

OPEN, LOCAL, TOKEN, OPERATOR, ADMIN = Access.OPEN, Access.LOCAL, Access.TOKEN, Access.OPERATOR, Access.ADMIN

POLICY = {
    "GET /health": OPEN,
    "GET /openapi.json": OPEN,
    "GET /docs": OPEN,
    "GET /api/schemas": OPEN,
    "POST /api/onboard/register": OPEN,  # decides by the enrolment key, and by where the request comes from
    "GET /api/agents": LOCAL,
    "GET /api/agents/states": TOKEN,
    "GET /api/agents/{agent_id}/state": TOKEN,
    "GET /api/agents/{agent_id}/subscriptions": LOCAL,
    "POST /api/message": TOKEN,
    "GET /api/messages": TOKEN,
    "GET /api/messages/{message_id}": TOKEN,
    "GET /api/mailbox/{agent_id}": TOKEN,
    "POST /api/mailbox/{agent_id}/ack": TOKEN,
    "POST /api/mailbox/evict": OPERATOR,
    "GET /api/threads/{message_id}": TOKEN,
    "GET /api/threads/{message_id}/replies": TOKEN,
    "GET /api/threads/{message_id}/root": TOKEN,
    "GET /api/channels": LOCAL,
    "POST /api/channels": TOKEN,
    "GET /api/channels/{channel}": LOCAL,
    "DELETE /api/channels/{channel}": TOKEN,
    "POST /api/channels/{channel}/subscribe": TOKEN,
    "POST /api/channels/{channel}/unsubscribe": TOKEN,
    "POST /api/channels/{channel}/publish": TOKEN,
    "GET /api/channels/{channel}/history": LOCAL,
    "POST /api/channels/{channel}/members": TOKEN,  # the channel's creator
    "DELETE /api/channels/{channel}/members/{agent_id}": TOKEN,  # the channel's creator, or the member itself
    "POST /api/tasks": TOKEN,
    "POST /api/tasks/bulk": TOKEN,
    "GET /api/tasks": TOKEN,
    "GET /api/tasks/dead-letter": TOKEN,
    "GET /api/tasks/stats": TOKEN,
    "GET /api/tasks/{task_id}": TOKEN,
    "POST /api/tasks/{task_id}/retry": TOKEN,
    "POST /api/tasks/{task_id}/cancel": TOKEN,  # its submitter, or an operator
    "GET /api/config/heartbeat-interval": TOKEN,
    "PUT /api/config/heartbeat-interval": OPERATOR,
    "GET /api/config/mailbox-retention": TOKEN,
    "PUT /api/config/mailbox-retention": OPERATOR,
    "GET /api/config/default-repo": LOCAL,
    "PUT /api/config/default-repo": OPERATOR,
    "GET /api/config/alert-thresholds": TOKEN,
    "PUT /api/config/alert-thresholds": OPERATOR,
    "GET /api/analytics/summary": LOCAL,
    "GET /api/analytics/agents": LOCAL,
    "GET /api/analytics/agents/{agent_id}/hourly": LOCAL,
    "POST /admin/tokens": ADMIN,
    "GET /admin/tokens": TOKEN,  # all for admins, their own for others
    "DELETE /admin/tokens/{agent_id}": TOKEN,  # all for admins, their own for others
    "GET /api/admin/audit": ADMIN,
    "POST /api/admin/reset": ADMIN,
    "PUT /api/admin/log-level": OPERATOR,
    "POST /api/admin/push-task": OPERATOR,
    "GET /api/admin/rate-limits": OPERATOR,
    "PUT /api/admin/rate-limits/{agent_id}": OPERATOR,
    "DELETE /api/admin/rate-limits/{agent_id}": OPERATOR,
    "GET /api/admin/rate-limits/whitelist": OPERATOR,
    "PUT /api/admin/rate-limits/whitelist": OPERATOR,
    "POST /api/admin/rate-limits/whitelist": OPERATOR,
    "DELETE /api/admin/rate-limits/whitelist/{agent_id}": OPERATOR,
}
#: For orchestrators on the same network; they say which component runs, and nothing else.
UNGUARDED = {"/health/live", "/health/ready"}
#: Answered before the caller is known to be let in: these look at who asks on their own.
DECIDES_ITSELF = {
    "POST /api/onboard/register",
    "DELETE /admin/tokens/{agent_id}",
    "GET /api/mailbox/{agent_id}",
    "POST /api/mailbox/{agent_id}/ack",
}
ALLOWED: dict[Access, set[Role | None]] = {
    OPEN: {None, Role.AGENT, Role.OPERATOR, Role.ADMIN},
    LOCAL: {Role.AGENT, Role.OPERATOR, Role.ADMIN},
    TOKEN: {Role.AGENT, Role.OPERATOR, Role.ADMIN},
    OPERATOR: {Role.OPERATOR, Role.ADMIN},
    ADMIN: {Role.ADMIN},
}


@pytest.fixture
def settings(namespace: str, tmp_path: Path) -> Settings:
    """A hub that other machines can reach, so that nothing is open because it is local."""
    return Settings(namespace=namespace, data_dir=tmp_path, host="0.0.0.0", enrolment_key="k" * 16)


def endpoints(store: Store, settings: Settings) -> list[Endpoint]:
    supervisor = Supervisor("test")
    routes = create_app(store, settings, more_routes=health_routes(supervisor)).routes
    others = {route.path for route in routes if isinstance(route, Route)}
    assert others == UNGUARDED
    guarded = [route for route in routes if isinstance(route, Endpoint)]
    assert len(guarded) + len(others) == len(routes)
    return guarded


async def test_every_route_has_its_policy(store: Store, settings: Settings) -> None:
    found = {f"{route.method} {route.path}": route.access for route in endpoints(store, settings)}
    assert found == {name: POLICY.get(name) for name in found}


async def test_what_operators_and_admins_change_is_in_the_log(store: Store, settings: Settings) -> None:
    unlogged = {
        f"{route.method} {route.path}"
        for route in endpoints(store, settings)
        if route.access in {OPERATOR, ADMIN} and route.method != "GET" and not route.audited
    }
    assert unlogged == set()


async def test_the_gate_keeps_the_policy(redis_url: str, settings: Settings) -> None:
    """Every route is asked with every kind of token and without one; an empty body changes nothing."""
    async with opened(redis_url, settings, client_address=("10.0.0.9", 1)) as api:
        tokens = {role: await api.token(f"t-{role}", role=role) for role in Role}
        for route in endpoints(api.store, settings):
            name, access = f"{route.method} {route.path}", route.access
            if name in DECIDES_ITSELF:
                continue
            method, path = route.method, re.sub(r"\{\w+\}", "x1", route.path)
            for role in (None, *Role):
                if name == "POST /api/admin/reset" and role is Role.ADMIN:
                    continue
                headers = {} if role is None else {"authorization": f"Bearer {tokens[role]}"}
                response = await api.client.request(method, path, headers=headers)
                if role in ALLOWED[access]:
                    assert response.status_code not in {401, 403, 500}, f"{name} as {role}: {response.text}"
                elif role is None:
                    refused(response, 401, "unauthorized")
                else:
                    refused(response, 403, "admin_only" if access is ADMIN else "operator_only")


async def test_reads_may_be_made_public(redis_url: str, settings: Settings) -> None:
    public = settings.model_copy(update={"public_reads": True})
    async with opened(redis_url, public, client_address=("10.0.0.9", 1)) as api:
        assert (await api.client.get("/api/agents")).status_code == 200
        refused(await api.client.get("/api/tasks"), 401, "unauthorized")


async def test_an_agent_revokes_its_own_tokens_and_no_others(api: Api) -> None:
    refused(await api("DELETE", "/admin/tokens/w2"), 403, "admin_only")
    operator = await api.token("op", role=Role.OPERATOR)
    refused(await api("DELETE", "/admin/tokens/w2", token=operator), 403, "admin_only")
    assert (await api("DELETE", "/admin/tokens/w1")).json() == {"status": "revoked", "agent_id": "w1", "revoked": 1}
    refused(await api("GET", "/api/tasks"), 401, "unauthorized")


async def test_an_operator_cancels_the_tasks_of_others(api: Api) -> None:
    task_id = await api.submit()
    operator = await api.token("op", role=Role.OPERATOR)
    response = await api("POST", f"/api/tasks/{task_id}/cancel", {}, token=operator)
    assert response.json() == {"status": "cancelled", "task_id": task_id}


class TestTheLog:
    async def test_it_says_who_did_what_and_when(self, api: Api) -> None:
        before = await api.store.services.now()
        minted = await api("POST", "/admin/tokens", {"agent_id": "a"}, token=api.admin, headers={"x-request-id": "r1"})
        assert minted.status_code == 201
        await api("DELETE", "/admin/tokens/a", token=api.admin)
        page = (await api("GET", "/api/admin/audit", token=api.admin)).json()
        assert (page["count"], page["cursor"]) == (2, None)
        revoked, made = page["entries"]
        assert before <= made.pop("at") <= revoked["at"]
        assert made == {
            "actor": "admin",
            "role": "admin",
            "action": "POST /admin/tokens",
            "target": {},
            "body": {"agent_id": "a"},
            "remote": "127.0.0.1",
            "request_id": "r1",
        }
        assert (revoked["action"], revoked["target"]) == ("DELETE /admin/tokens/{agent_id}", {"agent_id": "a"})
        assert minted.json()["token"] not in str(page)

    async def test_what_was_refused_is_not_in_it(self, api: Api) -> None:
        await api("POST", "/admin/tokens", {"agent_id": "a b"}, token=api.admin)
        await api("POST", "/admin/tokens", {"agent_id": "a"})
        assert (await api("GET", "/api/admin/audit", token=api.admin)).json()["entries"] == []

    async def test_pages_go_back_in_time(self, api: Api) -> None:
        for number in range(5):
            await api("POST", "/admin/tokens", {"agent_id": f"a{number}"}, token=api.admin)
        seen: list[str] = []
        cursor: str | None = ""
        while cursor is not None:
            query = f"?limit=2&cursor={cursor}" if cursor else "?limit=2"
            page = (await api("GET", f"/api/admin/audit{query}", token=api.admin)).json()
            seen += [entry["body"]["agent_id"] for entry in page["entries"]]
            cursor = page["cursor"]
        assert seen == ["a4", "a3", "a2", "a1", "a0"]
        refused(await api("GET", "/api/admin/audit?cursor=x", token=api.admin), 422, "invalid_cursor")

    async def test_secrets_and_long_bodies_are_not_kept(self, api: Api) -> None:
        body = {"agent_id": "a", "token": "very-secret", "note": "n" * 5_000}
        assert (await api("POST", "/admin/tokens", body, token=api.admin)).status_code == 201
        text = (await api("GET", "/api/admin/audit", token=api.admin)).text
        assert "very-secret" not in text
        assert len(text) < 3_000


@pytest.mark.parametrize(
    ("peer", "forwarded", "identity"),
    [
        ("203.0.113.5", None, "ip:203.0.113.5"),
        ("203.0.113.5", "198.51.100.1", "ip:203.0.113.5"),  # nobody we trust wrote that
        ("10.0.0.1", "198.51.100.1", "ip:198.51.100.1"),
        ("10.0.0.1", "1.2.3.4, 198.51.100.1", "ip:198.51.100.1"),  # what stands before may be made up
        ("10.0.0.1", "198.51.100.1, 10.0.0.7", "ip:198.51.100.1"),
        ("10.0.0.1", "nonsense", "ip:10.0.0.1"),
        ("10.0.0.1", None, "ip:10.0.0.1"),
        ("2001:db8:1:2:3::4", None, "ip:2001:db8:1:2::"),
        ("::ffff:203.0.113.5", None, "ip:203.0.113.5"),
    ],
)
async def test_whose_bucket_an_open_route_uses(
    redis_url: str, settings: Settings, peer: str, forwarded: str | None, identity: str
) -> None:
    # One token a minute, so that the bucket is still there when it is looked for: a full one is forgotten.
    update = {"trusted_proxies": "10.0.0.0/24", "public_reads": True, "rate_light": 1}
    chosen = settings.model_copy(update=update)
    async with opened(redis_url, chosen, client_address=(peer, 1)) as api:
        headers = {} if forwarded is None else {"x-forwarded-for": forwarded}
        assert (await api.client.get("/api/agents", headers=headers)).status_code == 200
        assert await api.store.blocking.exists(api.store.keys.bucket("http", "light", identity)) == 1


async def test_trusted_proxies_must_be_addresses(store: Store, settings: Settings) -> None:
    with pytest.raises(StartupError, match="AGENTCOM_TRUSTED_PROXIES"):
        create_app(store, settings.model_copy(update={"trusted_proxies": "proxy.example"}))


async def test_a_plain_client_sees_the_refusal_with_a_hint(redis_url: str, settings: Settings) -> None:
    async with opened(redis_url, settings, client_address=("10.0.0.9", 1)) as api:
        response: httpx.Response = await api.client.get("/api/agents")
        assert "Bearer" in refused(response, 401, "unauthorized")["hint"]


@pytest.mark.parametrize("written", ["Bearer {}", "bearer {}", "BEARER   {}"])
async def test_the_scheme_may_be_in_any_case(api: Api, written: str) -> None:
    headers = {"authorization": written.format(api.agent)}
    assert (await api.client.get("/api/tasks", headers=headers)).status_code == 200
    refused(await api.client.get("/api/tasks", headers={"authorization": f"bearer{api.agent}"}), 401, "unauthorized")


class TestHead:
    @pytest.mark.parametrize("path", ["/api/tasks", "/api/schemas", "/docs", "/api/tasks/task-0", "/api/tasks?limit=x"])
    async def test_it_has_the_head_of_get(self, api: Api, path: str) -> None:
        whole, head = await api("GET", path), await api("HEAD", path)
        assert (head.status_code, head.content) == (whole.status_code, b"")
        for name in ("content-type", "content-length", "cache-control", "vary"):
            assert head.headers[name] == whole.headers[name]
        assert head.headers["x-request-id"]

    async def test_health_has_one(self, api: Api) -> None:
        assert (await api.client.head("/health")).status_code == 200

    async def test_it_is_let_in_like_get(self, api: Api) -> None:
        assert (await api.client.head("/api/tasks")).status_code == 401
        assert (await api("HEAD", "/api/admin/audit")).status_code == 403

    async def test_where_there_is_no_get_there_is_none(self, api: Api) -> None:
        response = await api("HEAD", "/api/onboard/register")
        assert (response.status_code, response.content) == (404, b"")

    async def test_it_takes_from_the_bucket_of_get(self, redis_url: str, settings: Settings) -> None:
        async with opened(redis_url, settings.model_copy(update={"rate_light": 1})) as api:
            assert [(await api("HEAD", "/api/tasks")).status_code for _ in range(2)] == [200, 429]
