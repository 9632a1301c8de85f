"""The whole way under the real pm2, installed from npm for the occasion."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.eventually import eventually_sync
from tests.support.machine import LocalHub, Machine, new_name

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

INSTALL_TIMEOUT_S = 300


@pytest.fixture(scope="module")
def pm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the program."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    folder = tmp_path_factory.mktemp("npm")
    options = ["--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder)]
    installed = subprocess.run(
        ["npm", "install", *options, "pm2@7"], capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S
    )
    if installed.returncode != 0:
        pytest.skip(f"pm2 cannot be installed here: {installed.stderr[-500:]}")
    return folder / "node_modules" / ".bin"


@pytest.fixture
def with_pm2(machine: Machine, pm2: Path) -> Iterator[Machine]:
    """A machine with pm2 on its PATH, and a daemon of its own that ends with the test."""
    node = str(Path(str(shutil.which("node"))).parent)
    machine.settings["PATH"] = os.pathsep.join([str(machine.bin), str(pm2), node, "/usr/bin", "/bin"])
    yield machine
    subprocess.run([pm2 / "pm2", "kill"], env=machine.environment(), capture_output=True, timeout=60)


def dump(machine: Machine) -> str:
    path = machine.home / ".pm2" / "dump.pm2"
    return path.read_text() if path.exists() else ""


def process_of(machine: Machine) -> dict[str, object]:
    (agent,) = json.loads(machine.run("status", "--json").stdout)["agents"]
    found: dict[str, object] = agent
    return found


def test_from_nothing_to_a_killed_sidecar_that_works_on(local_hub: LocalHub, with_pm2: Machine) -> None:
    machine, name = with_pm2, new_name()
    began = time.monotonic()
    options = ["--hub", local_hub.url, "--name", name, "--wake-command", machine.agent, "--no-repo"]
    added = machine.run("add-agent", *options, AGENTCOM_ADMIN_TOKEN=local_hub.admin_token_file.read_text().strip())
    assert added.returncode == 0, added.stdout + added.stderr
    assert "is ready and working" in added.stdout
    assert time.monotonic() - began < 120
    token = machine.config(name)["token"]
    admin_token = local_hub.admin_token_file.read_text().strip()
    pm2_files = b"".join(path.read_bytes() for path in (machine.home / ".pm2").rglob("*") if path.is_file())
    assert f"agentcom-{name}".encode() in pm2_files
    assert token.encode() not in pm2_files
    assert admin_token.encode() not in pm2_files

    first = process_of(machine)
    assert (first["process"], first["process_manager"], first["problems"]) == ("running", "pm2", [])
    slow = machine.run("submit", "take your time", "--target", name)
    task_id = slow.stdout.strip()
    eventually_sync((machine.home / f"seen-{task_id}").exists, timeout=30)
    os.kill(int(str(first["pid"])), signal.SIGKILL)

    def restarted() -> bool:
        now = process_of(machine)
        return now["connected"] is True and now["pid"] not in {None, first["pid"]} and now["task"] == task_id

    eventually_sync(restarted, timeout=60)
    with local_hub.client() as client:
        client.post(f"/api/tasks/{task_id}/cancel").raise_for_status()
        done = machine.run("submit", "after the crash", "--target", name, "--wait", "--timeout", "60")
        assert (done.returncode, done.stdout) == (0, f"done by {name}\n"), done.stderr

        # A sidecar whose token is refused stays down instead of starting again and again.
        client.delete(f"/admin/tokens/{name}").raise_for_status()
    eventually_sync(lambda: process_of(machine)["process"] == "failed", timeout=60)
    assert process_of(machine)["restarts"] == 1, "it was started again, though not even that can help"

    removed = machine.run("remove-agent", name, "--force")
    assert removed.returncode == 0, removed.stderr
    assert f"agentcom-{name}" not in dump(machine), "a reboot would bring it back"
    assert not [process for process in machine.processes() if "agentcom_sidecar" in " ".join(process.cmdline())]


def test_killed_while_pm2_is_started_it_is_finished_with_one_process(local_hub: LocalHub, with_pm2: Machine) -> None:
    machine, name = with_pm2, new_name()
    options = ["--hub", local_hub.url, "--name", name, "--wake-command", machine.agent, "--no-repo"]
    process = machine.spawn("add-agent", *options, "--process-manager", "pm2")
    assert process.stdout is not None
    assert any(line.startswith("[5/6] ") for line in process.stdout)
    process.kill()
    process.wait()
    resumed = machine.run("add-agent", "--resume", "--name", name)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    running = [each for each in machine.processes() if "agentcom_sidecar" in " ".join(each.cmdline())]
    assert len(running) == 1

    moved = machine.run("add-agent", "--resume", "--name", name, "--process-manager", "none")
    assert moved.returncode == 0, moved.stdout + moved.stderr
    assert process_of(machine)["process_manager"] == "none"
    assert not [each for each in machine.processes() if "agentcom_sidecar" in " ".join(each.cmdline())]
