"""A client of the HTTP API, as operators and their programs use it."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from typing import Any

import httpx

from tests.support.eventually import eventually

_TIMEOUT_S = 15.0
_GIVE_UP_S = 120.0


class Operator:
    """Submits tasks and looks after them. Use it as an async context manager."""

    def __init__(self, api_url: str, token: str) -> None:
        self.url = api_url
        self._client = httpx.AsyncClient(
            base_url=api_url, headers={"authorization": f"Bearer {token}"}, timeout=_TIMEOUT_S, trust_env=False
        )

    async def __aenter__(self) -> Operator:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def request(self, method: str, path: str, body: object = None, **headers: str) -> httpx.Response:
        """Any request; raises httpx's errors when there is no answer."""
        return await self._client.request(method, path, json=body, headers=headers)

    async def _answer(self, method: str, path: str, body: object = None) -> Any:
        response = await self.request(method, path, body)
        assert response.is_success, f"{method} {path}: {response.status_code} {response.text}"
        return response.json()

    async def register(self, agent_id: str) -> str:
        """Registers an agent and returns its token."""
        return str((await self._answer("POST", "/api/onboard/register", {"agent_id": agent_id}))["token"])

    async def revoke(self, agent_id: str) -> None:
        """Revokes all tokens of an agent."""
        await self._answer("DELETE", f"/admin/tokens/{agent_id}")

    async def submit(self, description: str = "do it", **fields: Any) -> str:
        """Submits a task and returns its id."""
        return str((await self._answer("POST", "/api/tasks", {"description": description, **fields}))["task_id"])

    async def submit_until_acknowledged(self, description: str, **fields: Any) -> str:
        """Submits a task as a careful program does: with a key, and again until it is answered."""
        key = secrets.token_hex(16)
        deadline = time.monotonic() + _GIVE_UP_S
        while True:
            assert time.monotonic() < deadline, f"no answer to a submission for {_GIVE_UP_S:g} s"
            try:
                body = {"description": description, "idempotency_key": key, **fields}
                response = await self.request("POST", "/api/tasks", body)
                if response.is_success:
                    return str(response.json()["task_id"])
                assert response.status_code in {429, 503}, f"submit: {response.status_code} {response.text}"
            except httpx.TransportError:
                pass
            await asyncio.sleep(random.uniform(0.05, 0.2))

    async def task(self, task_id: str) -> dict[str, Any]:
        """A task as the API shows it."""
        answer: dict[str, Any] = await self._answer("GET", f"/api/tasks/{task_id}")
        return answer

    async def cancel(self, task_id: str) -> dict[str, Any]:
        answer: dict[str, Any] = await self._answer("POST", f"/api/tasks/{task_id}/cancel")
        return answer

    async def retry(self, task_id: str) -> None:
        """Retries a dead letter."""
        await self._answer("POST", f"/api/tasks/{task_id}/retry")

    async def agent_state(self, agent_id: str) -> dict[str, Any]:
        """What the hub knows of a connected agent."""
        answer: dict[str, Any] = await self._answer("GET", f"/api/agents/{agent_id}/state")
        return answer

    async def wait_for(self, task_id: str, status: str, *, timeout: float = 20.0) -> dict[str, Any]:
        """The task, once it has this status."""

        async def reached() -> dict[str, Any]:
            task = await self.task(task_id)
            assert task["status"] == status, f"{task_id} is {task['status']}, not {status}: {task['history']}"
            return task

        return await eventually(reached, timeout=timeout)
