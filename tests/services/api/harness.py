"""An API in process, on a real store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from agentcom.settings import Settings
from agentcom.store.store import Store
from agentcom.store.tokens import Role
from services.api.app import create_app
from services.api.auth import Authenticator
from tests.services.api.described import Described

LOCAL = "http://127.0.0.1:4000"


@dataclass(frozen=True)
class Api:
    """The API and what is behind it. Requests are made as the agent ``w1`` unless another token is given."""

    store: Store
    settings: Settings
    client: httpx.AsyncClient
    admin: str
    agent: str

    async def __call__(
        self, method: str, path: str, body: object = None, *, token: str | None = None, **options: Any
    ) -> httpx.Response:
        headers = {"authorization": f"Bearer {token or self.agent}", **options.pop("headers", {})}
        if body is not None:
            options["json"] = body
        return await self.client.request(method, path, headers=headers, **options)

    async def submit(self, **fields: Any) -> str:
        """Submits a task and returns its id."""
        response = await self("POST", "/api/tasks", {"description": "do it", **fields})
        assert response.status_code == 201, response.text
        return str(response.json()["task_id"])

    async def token(self, agent_id: str, *, role: Role = Role.AGENT) -> str:
        return await self.store.tokens.mint(agent_id, role=role)


@asynccontextmanager
async def opened(
    redis_url: str,
    settings: Settings,
    *,
    authenticator: Callable[[Store], Authenticator] | None = None,
    base_url: str = LOCAL,
    client_address: tuple[str, int] = ("127.0.0.1", 50_000),
) -> AsyncIterator[Api]:
    """An API with settings of the test's own."""
    async with Store(redis_url, settings) as store:
        app = create_app(store, settings, authenticator=authenticator(store) if authenticator else None)
        transport = httpx.ASGITransport(app, client=client_address, raise_app_exceptions=False)
        hooks = {"response": [Described(app.routes).check]}
        async with httpx.AsyncClient(transport=transport, base_url=base_url, event_hooks=hooks) as client:
            yield Api(
                store=store,
                settings=settings,
                client=client,
                admin=await store.tokens.mint("admin", role=Role.ADMIN),
                agent=await store.tokens.mint("w1", role=Role.AGENT),
            )


def refused(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The body of an error, which must be complete: code, sentence, JSON, request id."""
    assert response.status_code == status, f"{response.status_code} {response.text}"
    assert response.headers["content-type"] == "application/json; charset=utf-8"
    assert response.headers["x-request-id"]
    body: dict[str, Any] = response.json()
    assert body["error"] == code
    assert len(body["message"]) > 10
    return body


def field_codes(response: httpx.Response) -> dict[str, str]:
    """The failing fields of a 422 with their codes."""
    body = refused(response, 422, "validation_failed")
    for found in body["errors"]:
        assert found["detail"]
    return {found["field"]: found["error"] for found in body["errors"]}
