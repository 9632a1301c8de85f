"""SIGKILL at every line that ``add-agent`` shows: whatever was under way, ``--resume`` finishes it."""

from __future__ import annotations

import signal
import subprocess

import pytest

from tests.e2e.onboarding.test_add_agent import make_repository
from tests.support.machine import LocalHub, Machine, new_name

pytestmark = pytest.mark.e2e


def kill_at(process: subprocess.Popen[str], *, step: int, done: bool) -> str:
    """SIGKILL as soon as the line is shown; returns what was shown until then."""
    assert process.stdout is not None
    shown = []
    for line in process.stdout:
        shown.append(line)
        if line.startswith(f"[{step}/6]") and line.rstrip().endswith("...") is not done:
            process.send_signal(signal.SIGKILL)
            break
    process.wait(30)
    assert process.returncode == -signal.SIGKILL, "".join(shown)
    return "".join(shown)


def test_killed_at_one_line_after_the_other_it_is_finished_in_the_end(local_hub: LocalHub, machine: Machine) -> None:
    name, origin = new_name(), make_repository(machine.home / "origin")
    first = ["add-agent", *machine.add_agent_options(local_hub), "--repo", origin, "--name", name]
    resume = ["add-agent", "--resume", "--name", name]
    for step in range(1, 7):
        for done in (False, True):
            begun = (machine.folder(name) / ".onboard-progress.json").exists()
            kill_at(machine.spawn(*(resume if begun else first)), step=step, done=done)
    finished = machine.run(*resume)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert_one_agent(local_hub, machine, name)


@pytest.mark.slow
@pytest.mark.parametrize("done", [False, True], ids=["begins", "is-done"])
@pytest.mark.parametrize("step", range(1, 7))
def test_killed_once_at(local_hub: LocalHub, machine: Machine, step: int, done: bool) -> None:
    name, origin = new_name(), make_repository(machine.home / "origin")
    first = ["add-agent", *machine.add_agent_options(local_hub), "--repo", origin, "--name", name]
    kill_at(machine.spawn(*first), step=step, done=done)
    begun = (machine.folder(name) / ".onboard-progress.json").exists()
    finished = machine.run(*(["add-agent", "--resume", "--name", name] if begun else first))
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert_one_agent(local_hub, machine, name)


def assert_one_agent(hub: LocalHub, machine: Machine, name: str) -> None:
    """Registered once, checked, and nothing of the crashes left."""
    with hub.client() as client:
        tokens = [row for row in client.get("/admin/tokens").json()["tokens"] if row["agent_id"] == name]
        tasks = [task for task in client.get("/api/tasks").json()["tasks"] if task["target_agent"] == name]
    assert len(tokens) == 1
    assert tokens[0]["token_prefix"] == machine.config(name)["token"][:8] + "..."
    assert {task["status"] for task in tasks} == {"completed"}
    assert (machine.folder(name) / "repo" / ".git").is_dir()
    assert not list(machine.folder(name).glob("*partial*"))
    assert not list(machine.folder(name).glob("*.tmp"))
    assert machine.processes() == []
