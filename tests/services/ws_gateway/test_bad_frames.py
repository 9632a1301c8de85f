"""Frames that are not what they should be, and requests that are no WebSocket."""

from __future__ import annotations

import contextlib

import httpx
import orjson
import pytest
import structlog
import websockets
from websockets.asyncio.client import connect

from services.runtime.websocket_protocol import MAX_FRAGMENTS
from tests.services.ws_gateway.support import GatewayHub
from tests.support.eventually import eventually

ENOUGH = 10


@pytest.mark.parametrize("identified", [True, False])
async def test_bad_frames_are_answered_and_the_socket_stays_open(hub: GatewayHub, identified: bool) -> None:
    client = await hub.agent("a1") if identified else await hub.stranger()
    assert (await client.ask("{nonsense"))["error"] == "invalid_json"
    for bad in (b"\x00\x01", "[1]", '"x"', "5", "null", "{}", '{"type":"make_tea"}', '{"type":"status"}'):
        reply = await client.ask(bad)
        assert reply["error"] == "validation_failed"
        assert reply["errors"]
    assert (await client.ask({"type": "ping"}))["type"] == ("pong" if identified else "error")


async def test_the_tenth_bad_frame_closes_the_socket_and_the_agent_has_to_wait(hub: GatewayHub) -> None:
    token = await hub.token("a1")
    client = await hub.agent("a1", token=token)
    for _ in range(ENOUGH):
        await client.send("[]")
    assert (await client.closed())[0] == 1008
    assert [frame["error"] for frame in client.passed] == ["validation_failed"] * (ENOUGH - 1)
    await hub.gateway.departures.settled()
    again = await hub.stranger()
    await again.send({"type": "identify", "agent_id": "a1", "token": token})
    code, reason = await again.closed()
    assert (code, "cooldown" in reason) == (1008, True)


async def test_a_strangers_bad_frames_punish_nobody(hub: GatewayHub) -> None:
    token = await hub.token("a1")
    client = await hub.stranger()
    await client.ask({"type": "identify", "agent_id": "a1", "token": "wrong"})
    for _ in range(ENOUGH):
        await client.send(b"")
    assert (await client.closed())[0] == 1008
    await hub.agent("a1", token=token)


async def test_a_huge_frame_closes_the_socket(redis_url: str, namespace: str) -> None:
    async with GatewayHub(redis_url, namespace, max_frame_bytes=5_000) as hub:
        client = await hub.agent("a1")
        assert (await client.ask({"type": "ping", "padding": "x" * 4_900}))["type"] == "pong"
        with structlog.testing.capture_logs() as logs:
            await client.send({"type": "ping", "padding": "x" * 5_001})
            assert (await client.closed())[0] == 1009
            await eventually(lambda: [line for line in logs if line["event"] == "session_ended"] != [])
        (line,) = [line for line in logs if line["event"] == "session_ended"]
        assert (line["closed_by"], line["close_code"]) == ("hub", 1009)


async def test_a_message_may_come_in_pieces(hub: GatewayHub) -> None:
    client = await hub.agent("a1")
    for _ in range(2):
        text = '{"type":"ping"}'
        pieces = [*text, *[""] * (MAX_FRAGMENTS - len(text) - 1)]  # and one that ends it
        await client.socket.send(pieces)
        assert (await client.receive())["type"] == "pong"


@pytest.mark.parametrize("piece", ["", b""])
async def test_a_message_in_too_many_pieces_closes_the_socket(hub: GatewayHub, piece: str | bytes) -> None:
    client = await hub.agent("a1")
    with contextlib.suppress(websockets.ConnectionClosed):
        await client.socket.send([piece] * (MAX_FRAGMENTS + 1))
    assert (await client.closed())[0] == 1009


async def test_a_text_frame_that_is_no_text_closes_the_socket(hub: GatewayHub) -> None:
    client = await hub.agent("a1")
    await client.socket.send(b"\xff\xfe", text=True)
    assert (await client.closed())[0] == 1007

    async def gone() -> bool:
        return await hub.agent_ids() == []

    await eventually(gone)


async def test_compression_is_not_offered(hub: GatewayHub) -> None:
    client = await hub.stranger(compression="deflate")
    assert client.socket.protocol.extensions == []


async def test_a_plain_request_is_told_to_upgrade(hub: GatewayHub) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{hub.port}", trust_env=False) as http:
        response = await http.get("/ws")
        assert response.status_code == 426
        assert response.headers["upgrade"] == "websocket"
        assert response.json()["error"] == "upgrade_required"
        assert (await http.get("/health/live")).status_code == 200


@pytest.mark.parametrize("path", ["/other", "/dashboard"])
async def test_only_one_path_is_for_agents(hub: GatewayHub, path: str) -> None:
    with pytest.raises(websockets.InvalidStatus) as refusal:
        await connect(hub.url + path, proxy=None)
    response = refusal.value.response
    assert (response.status_code, response.headers["content-type"]) == (404, "application/json; charset=utf-8")
    assert orjson.loads(response.body or b"")["error"] == "not_found"
