"""``agentcom tasks``, ``agents``, ``messages``, ``tokens`` and ``config`` against a real hub."""

from __future__ import annotations

import asyncio
import json

import pytest
from typer.testing import CliRunner, Result

from services.local.cli import app
from tests.client.test_client import WholeHub


async def agentcom(hub: WholeHub, *arguments: str, token: str | None = None, code: int = 0) -> str:
    """What the command prints."""

    def run() -> Result:
        environment = {"AGENTCOM_TOKEN": token or hub.admin, "AGENTCOM_URL": hub.api_url, "COLUMNS": "200"}
        return CliRunner().invoke(app, list(arguments), env=environment)

    result = await asyncio.to_thread(run)
    assert result.exit_code == code, result.output
    return result.output


async def test_operators_look_after_tasks(redis_url: str, namespace: str) -> None:
    async with WholeHub(redis_url, namespace) as hub:
        metadata = ["--metadata", '{"a": 1}']
        submit = ["tasks", "submit", "[bold] work", "--agent", "w1", "--priority", "low", *metadata]
        task_id = (await agentcom(hub, *submit)).strip()
        listed = await agentcom(hub, "tasks", "list")
        assert task_id in listed
        assert "[bold] work" in listed
        shown = json.loads(await agentcom(hub, "tasks", "show", task_id))
        assert (shown["metadata"], shown["target_agent"], shown["priority"]) == ({"a": 1}, "w1", 3)
        assert await agentcom(hub, "tasks", "cancel", task_id, "--reason", "no") == "cancelled\n"
        assert "No dead letter" in await agentcom(hub, "tasks", "retry", task_id, code=1)
        page = json.loads(await agentcom(hub, "tasks", "list", "--status", "cancelled", "--json"))
        assert [task["id"] for task in page["tasks"]] == [task_id]


async def test_waiting_for_a_task(redis_url: str, namespace: str) -> None:
    async with WholeHub(redis_url, namespace) as hub:
        worker = await hub.agent("w1")
        waiting = asyncio.create_task(agentcom(hub, "tasks", "submit", "do it", "--wait", "--timeout", "20"))
        await worker.finish(await worker.until("task_assign"), result={"n": 1})
        assert '"n": 1' in await waiting
        assert "w1" in await agentcom(hub, "agents")


async def test_messages_tokens_and_settings(redis_url: str, namespace: str) -> None:
    async with WholeHub(redis_url, namespace) as hub:
        await hub.token("w1")
        sent = (await agentcom(hub, "messages", "send", "hello", "--to", "w1")).strip()
        assert sent in await agentcom(hub, "messages", "list")
        token = (await agentcom(hub, "tokens", "create", "op", "--role", "operator")).strip()
        assert "operator" in await agentcom(hub, "tokens", "list")
        assert await agentcom(hub, "config", "set", "default-repo", '{"url": "u"}', token=token)
        assert json.loads(await agentcom(hub, "config", "get", "default-repo"))["default_repo"] == "u"
        assert "1 revoked" in await agentcom(hub, "tokens", "revoke", "op")


@pytest.mark.parametrize(
    "arguments", [("config", "set", "default-repo", "[1]"), ("tasks", "submit", "x", "--metadata", "{")]
)
async def test_what_is_no_json_object_is_said(redis_url: str, namespace: str, arguments: tuple[str, ...]) -> None:
    async with WholeHub(redis_url, namespace) as hub:
        assert "JSON" in await agentcom(hub, *arguments, code=2)
