"""``submit``, ``status``, ``logs``, ``doctor`` and ``remove-agent`` with an agent that runs."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.onboarding.test_add_agent import make_repository
from tests.support.eventually import eventually_sync
from tests.support.machine import LocalHub, Machine, Meddler, new_name

pytestmark = pytest.mark.e2e


@dataclass
class Worker:
    """An agent whose sidecar runs."""

    name: str
    machine: Machine
    hub: LocalHub

    def submit(self, *arguments: object, **settings: str) -> subprocess.CompletedProcess[str]:
        return self.machine.run("submit", "--agent", self.name, "--target", self.name, *arguments, **settings)

    def task(self, task_id: str) -> dict[str, Any]:
        with self.hub.client() as client:
            found: dict[str, Any] = client.get(f"/api/tasks/{task_id}").json()
        return found


@pytest.fixture(scope="module")
def worker(local_hub: LocalHub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    machine = Machine(tmp_path_factory.mktemp("worker"))
    name = new_name()
    try:
        added = machine.add_agent(local_hub, "--no-repo", "--name", name)
        assert added.returncode == 0, added.stdout + added.stderr
        process = machine.spawn("run", "--config", machine.folder(name) / "config.json")
        assert process.stdout is not None
        assert any('"message": "identified"' in line for line in process.stdout)
        yield Worker(name, machine, local_hub)
    finally:
        machine.clean_up()


# -- submit ----------------------------------------------------------------------------------------------------------


def test_waiting_for_a_task_shows_its_way_and_gives_its_result(worker: Worker) -> None:
    text = 'grüße 🛸 "; touch /tmp/pwned-by-submit; $(id) `id`'
    done = worker.submit(text, "--wait")
    assert (done.returncode, done.stdout) == (0, f"done by {worker.name}\n"), done.stderr
    task_id = done.stderr.split(":")[0]
    assert f"{task_id}: completed" in done.stderr
    assert json.loads((worker.machine.home / f"seen-{task_id}").read_text())["description"] == text
    assert not Path("/tmp/pwned-by-submit").exists()


def test_a_description_of_100_kb_arrives_byte_for_byte(worker: Worker) -> None:
    text = '"; touch /tmp/pwned-by-file; $(id) `id` ${TASK_ID} %s \\\u2028\t\r\n' + "👩‍👩‍👧‍👦" * 4000
    assert len(text.encode()) > 100_000
    path = worker.machine.home / "long description.txt"
    path.write_bytes(text.encode())
    done = worker.submit("--file", path, "--wait", "--json")
    assert done.returncode == 0, done.stderr
    task = json.loads(done.stdout)
    assert task["description"] == text
    assert json.loads((worker.machine.home / f"seen-{task['id']}").read_bytes())["description"] == text
    assert not Path("/tmp/pwned-by-file").exists()


def test_a_task_that_fails_fails_the_command(worker: Worker) -> None:
    done = worker.submit("please fail", "--wait", "--max-retries", "0", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["status"] == "dead_letter"
    assert "it cannot be done" in done.stderr


def test_everything_about_a_task_can_be_said(worker: Worker) -> None:
    (worker.machine.home / "metadata.json").write_text('{"a": [1]}')
    options = ["--priority", "high", "--capability", "code", "--metadata", "@metadata.json", "--max-retries", "2"]
    done = worker.machine.run("submit", "-", *options, "--agent", worker.name, stdin="from stdin\nin lines")
    assert done.returncode == 0, done.stderr
    task = worker.task(done.stdout.strip())
    assert task["description"] == "from stdin\nin lines"
    assert (task["priority"], task["needed_capabilities"]) == (1, ["code"])
    assert (task["metadata"], task["max_retries"], task["target_agent"]) == ({"a": [1]}, 2, None)


def test_the_same_key_gives_the_same_task(worker: Worker) -> None:
    first, second = (worker.submit("once", "--idempotency-key", worker.name, "--json") for _ in range(2))
    assert json.loads(first.stdout)["task_id"] == json.loads(second.stdout)["task_id"]


def test_waiting_for_an_agent_that_is_away_says_so(worker: Worker) -> None:
    asked = ["submit", "x", "--agent", worker.name, "--target", "somebody-else", "--wait", "--timeout", "1"]
    done = worker.machine.run(*asked)
    assert done.returncode == 4
    assert "somebody-else is not connected" in done.stderr
    assert "is not connected" not in worker.submit("x", "--wait").stderr


def test_giving_up_waiting_leaves_the_task(worker: Worker) -> None:
    process = worker.machine.spawn("submit", "take your time", "--wait", "--target", worker.name)
    assert process.stdout is not None
    task_id = process.stdout.readline().split(":")[0]
    assert any("assigned" in line for line in process.stdout)
    process.send_signal(signal.SIGINT)
    rest = process.stdout.read()
    assert process.wait(30) == 130
    assert "goes on without us" in rest
    assert worker.task(task_id)["status"] == "assigned"

    behind = worker.submit("waits its turn", "--wait", "--timeout", "0.5")
    assert behind.returncode == 4
    with worker.hub.client() as client:
        client.post(f"/api/tasks/{task_id}/cancel").raise_for_status()
    eventually_sync(lambda: worker.task(task_id)["status"] == "cancelled")
    eventually_sync(lambda: worker.task(behind.stderr.split(":")[0])["status"] == "completed", timeout=30)


def test_a_cancelled_task_has_an_exit_code_of_its_own(worker: Worker) -> None:
    process = worker.machine.spawn("submit", "nobody can", "--capability", "unknown-art", "--wait")
    assert process.stdout is not None
    task_id = process.stdout.readline().split(":")[0]
    with worker.hub.client() as client:
        client.post(f"/api/tasks/{task_id}/cancel").raise_for_status()
    process.stdout.read()
    assert process.wait(30) == 3


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["x", "--description", "y"], 2),
        ([], 2),
        (["x", "--metadata", "[1]"], 2),
        (["x", "--hub", "http://127.0.0.1:9"], 2),
        (["x", "--priority", "critical"], 2),
    ],
)
def test_a_submission_that_makes_no_sense_is_refused(worker: Worker, arguments: list[str], code: int) -> None:
    assert worker.machine.invoke("submit", *arguments).exit_code == code


def test_what_went_wrong_at_the_hub_has_its_exit_code(worker: Worker) -> None:
    refused = worker.machine.run("submit", "x", "--hub", worker.hub.url, "--json", AGENTCOM_TOKEN="0" * 64)
    assert (refused.returncode, json.loads(refused.stdout)["error"]) == (77, "unauthorized")
    away = worker.machine.run("submit", "x", "--hub", "http://127.0.0.1:9", "--json", AGENTCOM_TOKEN="0" * 64)
    assert (away.returncode, json.loads(away.stdout)["error"]) == (69, "hub_unreachable")
    too_long = worker.submit("x" * 10_001)
    assert too_long.returncode == 1
    assert "description" in too_long.stderr


# -- status, logs, doctor --------------------------------------------------------------------------------------------


def test_an_agent_that_is_well_is_called_so(worker: Worker) -> None:
    status = worker.machine.run("status", "--json")
    assert status.returncode == 0, status.stdout
    (agent,) = json.loads(status.stdout)["agents"]
    assert (agent["agent_id"], agent["connected"], agent["problems"]) == (worker.name, True, [])
    assert agent["pid"] in {process.pid for process in worker.machine.processes()}

    doctor = worker.machine.run("doctor", "--json")
    assert doctor.returncode == 0, doctor.stdout
    findings = json.loads(doctor.stdout)["findings"]
    checks = {finding["check"] for finding in findings if finding["level"] == "ok"}
    assert {"setup", "permissions", "configuration", "hub", "clock", "token", "connection", "process", "wake"} <= checks

    logs = worker.machine.run("logs", "--json", "-n", "1000")
    assert "identified" in {json.loads(line)["message"] for line in logs.stdout.splitlines()}
    readable = worker.machine.run("logs", "-n", "1000")
    assert "identified hub_features=" in readable.stdout


def test_doctor_finds_what_is_wrong(local_hub: LocalHub, machine: Machine) -> None:
    name = new_name()
    assert machine.add_agent(local_hub, "--no-repo", "--name", name).returncode == 0
    config_path = machine.folder(name) / "config.json"
    config_path.write_text(json.dumps({**machine.config(name), "token": "0" * 64}))
    config_path.chmod(0o644)
    machine.agent.unlink()
    doctor = machine.run("doctor", "--json")
    assert doctor.returncode == 1
    problems = {
        finding["check"]: finding for finding in json.loads(doctor.stdout)["findings"] if finding["level"] == "problem"
    }
    assert set(problems) == {"permissions", "token", "process", "wake"}
    assert problems["permissions"]["advice"] == f"chmod 600 {config_path}"
    shown = machine.run("doctor")
    assert f"{name} has 4 problems." in shown.stdout


def test_without_agents_the_commands_say_so(machine: Machine) -> None:
    assert machine.invoke("status").exit_code == 0
    for command in ("doctor", "logs"):
        done = machine.invoke(command)
        assert (done.exit_code, "There is no agent" in done.stderr) == (1, True)


# -- remove-agent ----------------------------------------------------------------------------------------------------


def test_a_removed_agent_leaves_nothing(local_hub: LocalHub, machine: Machine) -> None:
    name = new_name()
    assert machine.add_agent(local_hub, "--no-repo", "--name", name).returncode == 0
    token = machine.config(name)["token"]
    done = machine.run("remove-agent", name, "--json")
    assert (done.returncode, json.loads(done.stdout)["removed"]) == (0, True), done.stderr
    assert list((machine.home / ".agentcom").iterdir()) == []
    assert machine.run("submit", "x", "--hub", local_hub.url, AGENTCOM_TOKEN=token).returncode == 77
    again = machine.run("remove-agent", name)
    assert again.returncode == 1


def test_the_only_copy_of_the_token_stays_until_it_is_revoked(local_hub: LocalHub, machine: Machine) -> None:
    name = new_name()
    assert machine.add_agent(local_hub, "--no-repo", "--name", name).returncode == 0
    with Meddler(local_hub) as proxy:
        proxy.rules["DELETE", "/admin/tokens"] = 403
        refused = machine.run("remove-agent", name, "--hub", proxy.url)
    assert refused.returncode == 77
    assert "nothing was removed" in refused.stderr
    away = machine.run("remove-agent", name, "--hub", "http://127.0.0.1:9")
    assert away.returncode == 69
    assert machine.run("submit", "still valid", "--agent", name).returncode == 0
    with local_hub.client() as client:
        client.delete(f"/admin/tokens/{name}").raise_for_status()
    revoked_elsewhere = machine.run("remove-agent", name)
    assert revoked_elsewhere.returncode == 0, revoked_elsewhere.stderr


@pytest.mark.slow
def test_work_that_nobody_else_has_is_not_deleted(local_hub: LocalHub, machine: Machine) -> None:
    name, origin = new_name(), make_repository(machine.home / "origin")
    assert machine.add_agent(local_hub, "--repo", origin, "--name", name).returncode == 0
    repo = machine.folder(name) / "repo"
    remove = ["remove-agent", name]
    (repo / "work").write_text("hours of it")
    uncommitted = machine.run(*remove)
    assert uncommitted.returncode == 1
    assert "not committed" in uncommitted.stderr
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    subprocess.run(["git", "-C", str(repo), "add", "."], check=True)
    subprocess.run(["git", "-C", str(repo), *identity, "commit", "-q", "-m", "work"], check=True)
    unpushed = machine.run(*remove)
    assert unpushed.returncode == 1
    assert "1 commit that no remote has" in unpushed.stderr
    assert machine.run("submit", "still valid", "--agent", name).returncode == 0
    forced = machine.run(*remove, "--force")
    assert forced.returncode == 0, forced.stderr
    assert not machine.folder(name).exists()


def test_a_sidecar_that_somebody_runs_is_not_pulled_away(worker: Worker) -> None:
    """Not even its token is touched: the other tests still have their agent."""
    done = worker.machine.run("remove-agent", worker.name, "--force", "--json")
    assert (done.returncode, json.loads(done.stdout)["error"]) == (1, "still_running")
    assert "stop it first" in done.stderr
    assert worker.submit("go on", "--wait").returncode == 0
