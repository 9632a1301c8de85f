"""A client of the HTTP API, as operators and their programs use it."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from typing import Any, cast

import httpx

from agentcom_client import AsyncClient, HubError, HubUnreachable
from tests.support.eventually import eventually

_TIMEOUT_S = 15.0
_GIVE_UP_S = 120.0


class Operator(AsyncClient):
    """The hub's own client, and what only tests want. Use it as an async context manager."""

    def __init__(self, api_url: str, token: str) -> None:
        super().__init__(api_url, token=token, timeout=_TIMEOUT_S, trust_env=False)
        self.url = api_url

    async def __aenter__(self) -> Operator:
        return self

    async def request(self, method: str, path: str, body: object = None, **headers: str) -> httpx.Response:
        """One request as it is; raises httpx's errors when there is no answer."""
        return await self._http.request(method, path, json=body, headers=headers)

    async def submit_until_acknowledged(self, description: str, **fields: Any) -> str:
        """Submits a task as a careful program does: with a key, and again until it is answered."""
        fields = {"idempotency_key": secrets.token_hex(16), **fields}
        deadline = time.monotonic() + _GIVE_UP_S
        while True:
            assert time.monotonic() < deadline, f"no answer to a submission for {_GIVE_UP_S:g} s"
            try:
                return await self.submit(description, **fields)
            except HubError as error:
                if error.status not in {429, 503}:
                    raise
            except HubUnreachable:
                pass
            await asyncio.sleep(random.uniform(0.05, 0.2))

    async def wait_for(self, task_id: str, status: str, *, timeout: float = 20.0) -> dict[str, Any]:
        """The task, once it has this status; which of its fields are null is for the test to know."""

        async def reached() -> dict[str, Any]:
            task = await self.task(task_id)
            assert task["status"] == status, f"{task_id} is {task['status']}, not {status}: {task['history']}"
            return cast(dict[str, Any], task)

        return await eventually(reached, timeout=timeout)
