"""The API as a process, on real sockets."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import orjson
import pytest

from agentcom.settings import Settings
from agentcom.store.store import Store
from tests.support.eventually import eventually
from tests.support.hub import ServiceProcess

ROOT = Path(__file__).parents[3]


@pytest.fixture
async def store(redis_url: str, namespace: str) -> AsyncIterator[Store]:
    async with Store(redis_url, Settings(namespace=namespace)) as opened:
        yield opened


@pytest.fixture
def process(redis_url: str, namespace: str, tmp_path: Path) -> Iterator[ServiceProcess]:
    settings = {
        "AGENTCOM_REDIS_URL": redis_url,
        "AGENTCOM_NAMESPACE": namespace,
        "AGENTCOM_DATA_DIR": str(tmp_path / "data"),
        "AGENTCOM_LOG_FORMAT": "json",
        "AGENTCOM_LOG_LEVEL": "debug",
        "AGENTCOM_MAX_BODY_BYTES": "200000",
    }
    made = ServiceProcess("api", 0, folder=tmp_path, settings=settings)
    yield made
    made.kill()


@pytest.fixture
async def client(process: ServiceProcess) -> AsyncIterator[httpx.AsyncClient]:
    await process.start()
    async with httpx.AsyncClient(base_url=process.url, trust_env=False, timeout=30) as client:
        yield client


async def exchange(process: ServiceProcess, *pieces: bytes) -> bytes:
    """Writes bytes as they are and reads until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", process.port)
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
    answer = await asyncio.wait_for(reader.read(), 30)
    writer.close()
    return answer


async def test_from_start_to_end(
    process: ServiceProcess, client: httpx.AsyncClient, tmp_path: Path, store: Store
) -> None:
    token = (tmp_path / "data" / "admin.token").read_text().strip()
    created = await client.post("/api/tasks", json={"description": "x"}, headers={"authorization": f"Bearer {token}"})
    assert created.status_code == 201
    headers = created.headers
    assert headers["date"]
    assert headers["vary"] == "accept-encoding"
    assert headers["cache-control"] == "max-age=0, private, must-revalidate"
    assert headers["content-type"] == "application/json; charset=utf-8"
    assert int(headers["content-length"]) == len(created.content)
    assert "server" not in headers

    async def seen() -> None:
        body = (await client.get("/health")).json()
        assert body["services"]["api"][0]["live"]

    await eventually(seen)
    assert (await client.get("/health/ready")).status_code == 200
    process.terminate()
    assert await process.wait() == 0
    assert await store.services.beats(live_within_ms=60_000) == []
    assert process.defects() == []
    # The place of the token is said, the token never.
    (said,) = process.logged("admin_created")
    assert said["written_to"] == str(tmp_path / "data" / "admin.token")
    assert token not in process.output()


async def test_the_access_log(process: ServiceProcess, client: httpx.AsyncClient) -> None:
    await client.get("/health?token=abc123", headers={"x-request-id": "mine"})
    await client.get("/nothing")

    def logged() -> None:
        lines = {line["path"]: line for line in process.logged("http_request")}
        assert {"/health", "/nothing"} <= lines.keys()
        line = lines["/health"]
        assert (line["method"], line["status"], line["request_id"]) == ("GET", 200, "mine")
        assert isinstance(line["duration_ms"], float)
        assert (lines["/nothing"]["status"], lines["/nothing"]["severity"]) == (404, "info")

    await eventually(logged)
    assert "abc123" not in process.output()


async def test_an_unwanted_body_is_answered_before_the_connection_closes(
    process: ServiceProcess, client: httpx.AsyncClient, tmp_path: Path
) -> None:
    start = b"POST /api/tasks HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    chunk = b"186a0\r\n" + b"x" * 100_000 + b"\r\n"
    token = (tmp_path / "data" / "admin.token").read_bytes().strip()
    for authorization, status, code in (
        (b"authorization: Bearer " + token + b"\r\n", b"413", "body_too_large"),
        (b"", b"401", "unauthorized"),
    ):
        head = start + authorization
        for answer in (
            await exchange(process, head + b"content-length: 300000\r\n\r\n", b"x" * 300_000),
            await exchange(process, head + b"expect: 100-continue\r\ncontent-length: 900000000\r\n\r\n"),
            await exchange(process, head + b"transfer-encoding: chunked\r\n\r\n", chunk, chunk, chunk, b"0\r\n\r\n"),
        ):
            answered, _, body = answer.partition(b"\r\n\r\n")
            assert answered.startswith(b"HTTP/1.1 " + status)
            assert b"connection: close" in answered.lower()
            assert orjson.loads(body)["error"] == code
    assert (await client.get("/health")).status_code == 200


async def test_a_client_that_leaves_in_the_middle_is_no_event(
    process: ServiceProcess, client: httpx.AsyncClient
) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", process.port)
    writer.write(b"POST /api/onboard/register HTTP/1.1\r\nhost: x\r\ncontent-length: 50\r\n\r\n{")
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    await eventually(lambda: len(process.logged("http_client_gone")) == 1)
    assert process.defects() == []


async def test_header_injection_stays_outside(process: ServiceProcess, client: httpx.AsyncClient) -> None:
    answer = await exchange(
        process,
        b"GET /api/tasks/x%0d%0aset-cookie:%20a=b HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
        b"x-request-id: a\tb\r\n\r\n",
    )
    head = answer.partition(b"\r\n\r\n")[0].lower()
    assert b"set-cookie" not in head
    assert head.count(b"x-request-id") == 1
    assert b"a\tb" not in head


async def test_head_is_answered_like_get_without_a_body(process: ServiceProcess, client: httpx.AsyncClient) -> None:
    answer = await exchange(
        process, b"HEAD /api/schemas HTTP/1.1\r\nhost: x\r\n\r\n", b"GET /nope HTTP/1.0\r\nhost: x\r\n\r\n"
    )
    first, second, body = answer.split(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 200")
    assert second.startswith(b"HTTP/1.1 404")
    assert orjson.loads(body)["error"] == "not_found"
    whole = await client.get("/api/schemas")
    assert f"content-length: {len(whole.content)}".encode() in first.lower()
    assert (await client.head("/health/live")).status_code == 200


async def test_websockets_are_not_served(process: ServiceProcess, client: httpx.AsyncClient) -> None:
    upgrade = (
        b"GET /ws HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
        b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    head, _, body = (await exchange(process, upgrade)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 404")
    assert b"x-request-id: " in head.lower()
    assert orjson.loads(body)["error"] == "not_found"
    assert process.defects() == []


async def test_start_up_says_that_registration_is_closed(process: ServiceProcess) -> None:
    process.settings["AGENTCOM_HOST"] = "0.0.0.0"
    await process.start()
    (line,) = process.logged("registration_closed")
    assert line["severity"] == "warning"
    assert "AGENTCOM_ENROLMENT_KEY" in str(line["reason"])
    async with httpx.AsyncClient(base_url=process.url, trust_env=False) as client:
        answer = await client.post("/api/onboard/register", json={"agent_id": "a"})
    assert (answer.status_code, answer.json()["error"]) == (403, "enrolment_key_required")


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [("AGENTCOM_PUBLIC_URL", "hub.example.org", 1), ("AGENTCOM_ENROLMENT_KEY", "short", 2)],
)
def test_settings_that_make_no_sense_are_said_in_a_sentence(
    redis_url: str, namespace: str, name: str, value: str, code: int
) -> None:
    environment = {"PATH": "", "AGENTCOM_REDIS_URL": redis_url, "AGENTCOM_NAMESPACE": namespace, "PORT": "0"}
    done = subprocess.run(
        [sys.executable, "-m", "services.api"],
        cwd=ROOT,
        env={**environment, name: value},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == code
    assert done.stderr.startswith("api: ")
    assert name.removeprefix("AGENTCOM_").lower() in done.stderr.lower()
    assert len(done.stderr.splitlines()) == 1
