"""A service as a process: how it starts, what a signal does to it, and what it says when it cannot run."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets

from tests.support.eventually import eventually

PROGRAM = Path(__file__).with_name("runtime_program.py")
ROOT = PROGRAM.parents[2]


@dataclass
class Running:
    """A started program and what it has printed so far."""

    process: asyncio.subprocess.Process
    out: list[str] = field(default_factory=list)
    err: list[str] = field(default_factory=list)

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out if line.startswith("{")]

    def event(self, message: str) -> dict[str, Any]:
        found = [event for event in self.events if event["message"] == message]
        assert found, f"no {message!r} in {self.out} {self.err}"
        return found[0]

    async def port(self) -> int:
        await eventually(lambda: self.event("service_ready"))
        return int(self.event("http_listening")["port"])

    async def exit_code(self) -> int:
        async with asyncio.timeout(20):
            code = await self.process.wait()
        await eventually(lambda: all(reader.done() for reader in self.readers))
        return code

    readers: list[asyncio.Task[None]] = field(default_factory=list)


class Launcher:
    def __init__(self) -> None:
        self._running: list[Running] = []

    async def __call__(self, mode: str, **environment: str) -> Running:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(PROGRAM),
            mode,
            cwd=ROOT,
            env={
                **os.environ,
                "PYTHONPATH": f"{ROOT}:{ROOT / 'libs'}",
                "AGENTCOM_PORT": "0",
                "AGENTCOM_LOG_FORMAT": "json",
                **environment,
            },
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        running = Running(process)
        assert process.stdout
        assert process.stderr
        running.readers = [
            asyncio.create_task(_collect(process.stdout, running.out)),
            asyncio.create_task(_collect(process.stderr, running.err)),
        ]
        self._running.append(running)
        return running

    async def close(self) -> None:
        for running in self._running:
            if running.process.returncode is None:
                running.process.kill()
                await running.process.wait()
            await asyncio.gather(*running.readers)


async def _collect(stream: asyncio.StreamReader, lines: list[str]) -> None:
    while line := await stream.readline():
        lines.append(line.decode().rstrip("\n"))


@pytest.fixture
async def launch() -> AsyncIterator[Launcher]:
    launcher = Launcher()
    yield launcher
    await launcher.close()


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_lets_requests_finish_closes_sockets_and_exits_with_0(
    launch: Launcher, signum: signal.Signals
) -> None:
    program = await launch("http")
    port = await program.port()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
        request = asyncio.create_task(client.get("/slow", params={"seconds": "1"}))
        async with websockets.connect(f"ws://127.0.0.1:{port}/echo") as ws:
            await ws.send("hello")
            assert await ws.recv() == "hello"
            await eventually(lambda: "slow request running" in program.out)
            program.process.send_signal(signum)
            with pytest.raises(websockets.ConnectionClosed) as closed:
                await ws.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1012
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        response = await request
        assert (response.status_code, response.text) == (200, "finished")
    assert await program.exit_code() == 0
    assert program.event("service_stopping")["reason"] == signum.name
    assert program.out[-1] == "closed", "what the service opened is closed last"
    assert program.err == []


async def test_a_text_frame_that_is_no_text_is_no_event(launch: Launcher) -> None:
    program = await launch("http")
    async with websockets.connect(f"ws://127.0.0.1:{await program.port()}/echo") as ws:
        await ws.send(b"\xff\xfe", text=True)
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await ws.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1007
    await eventually(lambda: program.event("Invalid UTF-8 sequence received from client."))
    assert [event for event in program.events if "exception" in event or event["severity"] == "error"] == []


async def test_the_health_of_a_service_with_http(launch: Launcher) -> None:
    program = await launch("http")
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{await program.port()}") as client:
        for path in ("/health/live", "/health/ready"):
            response = await client.get(path)
            assert response.status_code == 200
            body = response.json()
            assert (body["service"], body["phase"], body["live"], body["ready"]) == ("program", "ready", True, True)
            assert body["components"]["http"]["restarts"] == 0
        assert int((await client.get("/frozen")).text) > 1000


async def test_a_service_without_http_answers_on_its_health_port(launch: Launcher) -> None:
    program = await launch("without-http", AGENTCOM_HEALTH_PORT="0")
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{await program.port()}") as client:
        response = await client.get("/health/ready")
        assert response.status_code == 200
        assert set(response.json()["components"]) == {"idle", "health"}
        for answer in (await client.get("/anything"), await client.post("/health/live")):
            assert (answer.status_code, answer.json()["error"]) == (404, "not_found")


async def test_a_part_that_does_not_stop_is_cancelled_at_the_deadline(launch: Launcher) -> None:
    program = await launch("stubborn", AGENTCOM_SHUTDOWN_TIMEOUT_MS="200")
    await eventually(lambda: program.event("service_ready"))
    program.process.send_signal(signal.SIGTERM)
    assert await program.exit_code() == 0
    assert program.event("drain_cut_short")["component"] == "stubborn"


async def test_a_second_signal_ends_the_drain(launch: Launcher) -> None:
    program = await launch("stubborn", AGENTCOM_SHUTDOWN_TIMEOUT_MS="600000")
    await eventually(lambda: program.event("service_ready"))
    program.process.send_signal(signal.SIGTERM)
    await eventually(lambda: program.event("service_stopping"))
    program.process.send_signal(signal.SIGTERM)
    assert await program.exit_code() == 0


async def test_a_signal_while_the_service_is_still_being_built(launch: Launcher) -> None:
    program = await launch("hang-in-build")
    await eventually(lambda: "building" in program.out)
    program.process.send_signal(signal.SIGTERM)
    assert await program.exit_code() == 0


async def test_a_port_in_use_is_one_clear_sentence(launch: Launcher) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        program = await launch("http", AGENTCOM_PORT=str(port))
        assert await program.exit_code() == 1
    assert program.err == [
        f"program: 127.0.0.1:{port} is already in use: stop what listens there, or choose another port with PORT=."
    ]


async def test_bad_settings_are_named(launch: Launcher) -> None:
    program = await launch("http", AGENTCOM_SWEEP_BATCH="many", AGENTCOM_ADMIN_TOKEN="short-secret")
    assert await program.exit_code() == 2
    assert any("sweep_batch" in line for line in program.err)
    assert any("admin_token" in line for line in program.err)
    assert "short-secret" not in "\n".join(program.err)
