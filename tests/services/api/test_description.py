"""What the API says of itself is complete, and true: every response of the other tests is held against it."""

from __future__ import annotations

import re
from typing import Any

import httpx
import jsonschema_rs
import pytest

from agentcom.wire.frames import FrameKind
from services.api.openapi.operations import OPERATIONS
from services.api.routing import Endpoint
from services.api.schemas import Schema
from tests.services.api.described import Described
from tests.services.api.harness import Api


@pytest.fixture
async def document(api: Api) -> dict[str, Any]:
    response = await api.client.get("/openapi.json")
    assert response.status_code == 200
    found: dict[str, Any] = response.json()
    return found


async def test_every_route_is_described(document: dict[str, Any]) -> None:
    described = {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods}
    assert described - OPERATIONS.keys() == set()
    assert len(described) > 40


async def test_it_is_openapi(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    identifiers = [operation["operationId"] for methods in document["paths"].values() for operation in methods.values()]
    assert len(identifiers) == len(set(identifiers))
    for schema in document["components"]["schemas"].values():
        jsonschema_rs.meta.validate(schema)
    references = set(re.findall(r'"#/components/schemas/([^"]+)"', str(document).replace("'", '"')))
    assert references <= document["components"]["schemas"].keys()


async def test_an_undescribed_answer_fails(api: Api) -> None:
    """The check that all other tests rely on can fail."""
    app_routes = [route for route in _routes(api) if isinstance(route, Endpoint)]
    described = Described(list(app_routes))
    request = httpx.Request("GET", "http://x/api/tasks/stats")
    with pytest.raises(jsonschema_rs.ValidationError):
        await described.check(httpx.Response(200, json={"by_status": 1}, request=request))
    with pytest.raises(AssertionError, match="not described"):
        await described.check(httpx.Response(418, json={}, request=request))


def _routes(api: Api) -> list[Any]:
    app: Any = api.client._transport.app  # type: ignore[attr-defined]
    return list(app.routes)


async def test_bodies_come_from_the_schemas_that_check_them(document: dict[str, Any]) -> None:
    submission = document["components"]["schemas"]["post_task"]
    assert submission["required"] == ["description"]
    assert submission["properties"]["priority"]["enum"] == ["urgent", "high", "normal", "low", None]
    body = document["paths"]["/api/tasks"]["post"]["requestBody"]
    assert body["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/post_task"}
    assert document["paths"]["/api/tasks"]["post"]["x-rate-limit"] == "heavy"


async def test_the_page_needs_nothing_from_elsewhere(api: Api) -> None:
    response = await api.client.get("/docs")
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert not re.search(r"(?:src|href)='?https?:|<script", response.text)
    assert "/api/tasks/{task_id}/retry" in response.text
    assert "<code>needed_capabilities</code>" in response.text


async def test_the_links_of_the_page_lead_to_something_visible(api: Api) -> None:
    """Browsers open what is closed around the target of a link, but not the target itself."""
    page = (await api.client.get("/docs")).text
    wanted = set(re.findall(r"href='#([^']+)'", page))
    assert {"Task", "Error", "post_task", "tag-tasks", "shapes"} <= wanted
    assert wanted <= set(re.findall(r"<(?:div|h2) id='?([\w-]+)'?>", page))


async def test_the_fields_of_frames_and_bodies(api: Api) -> None:
    schemas = (await api.client.get("/api/schemas")).json()["schemas"]
    frames = {frame["type"]: frame for frame in schemas["websocket"]}
    assert frames.keys() == set(FrameKind)
    assert frames["task_complete"]["required_fields"] == [
        {"name": "type", "type": "string"},
        {"name": "generation", "type": "integer"},
        {"name": "task_id", "type": "string"},
    ]
    bodies = {body["key"]: body for body in schemas["http"]}
    assert bodies.keys() >= {
        "post_message",
        "put_heartbeat_interval",
        "put_mailbox_retention",
        "post_channel",
        "post_channel_publish",
        "post_mailbox_ack",
        "post_admin_token",
        "post_admin_push_task",
        "post_task",
        "post_onboard_register",
        "put_default_repo",
    }
    assert bodies["put_heartbeat_interval"]["required_fields"] == [
        {"name": "heartbeat_interval_ms", "type": "positive_integer"}
    ]
    assert {"name": "needed_capabilities", "type": "array<string>"} in bodies["post_task"]["optional_fields"]


def test_a_schema_can_be_closed() -> None:
    assert Schema(optional={}, closed=True).check({"a": 1})[0]["error"] == "unknown_value"
    assert Schema(optional={}).check({"a": 1}) == []
