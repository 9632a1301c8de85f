"""The real sidecar program against the real hub."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from tests.support.agent import at_once
from tests.support.eventually import eventually
from tests.support.scenario import Scenario

pytestmark = pytest.mark.e2e

SLEEP = ("sh", "-c", 'echo $$ >> "$0"; exec sleep 300')


def pids_in(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().split()] if path.exists() else []


async def test_a_sidecar_runs_its_agent_and_delivers_the_result(scenario: Scenario) -> None:
    code = 'import json,sys; t=json.load(sys.stdin); print(t["description"].upper())'
    sidecar = await scenario.sidecar([sys.executable, "-c", code])
    tasks = [await scenario.submit(f"say {n}") for n in range(3)]
    done = [await scenario.completed(task_id) for task_id in tasks]
    assert [task["result"]["output"].strip() for task in done] == ["SAY 0", "SAY 1", "SAY 2"]
    assert all(task["generation"] == 1 for task in done)
    await eventually(lambda: sidecar.outbox() == [])
    assert await sidecar.stop() == 0


async def test_a_failing_agent_ends_in_the_dead_letters(scenario: Scenario) -> None:
    await scenario.sidecar(["sh", "-c", "echo nothing works >&2; exit 3"])
    task_id = await scenario.submit(max_retries=2)
    task = await scenario.operator.wait_for(task_id, "dead_letter")
    assert task["retry_count"] == 2
    assert "nothing works" in task["last_error"]


async def test_cancelling_a_task_stops_the_agent_process(scenario: Scenario, tmp_path: Path) -> None:
    started = tmp_path / "started"
    sidecar = await scenario.sidecar([*SLEEP, str(started)])
    task_id = await scenario.submit()
    await eventually(lambda: len(pids_in(started)) == 1)
    assert await scenario.operator.cancel(task_id) == "cancelling"
    task = await scenario.operator.wait_for(task_id, "cancelled")
    assert [entry["event"] for entry in task["history"]][:2] == ["cancelled", "cancel_requested"]
    (pid,) = pids_in(started)
    await eventually(lambda: not psutil.pid_exists(pid))
    assert len(sidecar.logged("task_cancelling")) == 1


async def test_a_frozen_sidecar_s_late_completion_is_refused(scenario: Scenario, tmp_path: Path) -> None:
    """Its agent finishes while it is frozen past its deadline; by the time it can tell, somebody else has done it."""
    finish = tmp_path / "finish"
    waiting = ("sh", "-c", 'touch "$0.started"; while [ ! -e "$0" ]; do sleep 0.05; done; echo late', str(finish))
    frozen = await scenario.sidecar(waiting)
    task_id = await scenario.submit()
    await eventually((tmp_path / "finish.started").exists)
    other = await scenario.agent(work=at_once)
    os.kill(frozen.pid, signal.SIGSTOP)
    try:
        finish.touch()
        task = await scenario.completed(task_id)
    finally:
        os.kill(frozen.pid, signal.SIGCONT)
    assert task["assigned_to"] == other.id
    assert task["generation"] > 1
    await eventually(lambda: len(frozen.refused()) == 1, timeout=20, message=frozen.console())
    refused = json.loads(frozen.refused()[0].read_text())
    assert task_id in json.dumps(refused)
    (told,) = frozen.logged("report_refused")
    assert told["code"] in {"stale_generation", "invalid_state"}
    assert (await scenario.operator.task(task_id)) == task
    # It is of use again afterwards.
    await other.stop()
    again = await scenario.completed(await scenario.submit())
    assert again["result"]["output"].strip() == "late"


async def test_of_two_sidecars_with_one_id_the_newer_one_stays(scenario: Scenario, tmp_path: Path) -> None:
    started = tmp_path / "started"
    agent_id = f"twin-{scenario.capability}"
    older = await scenario.sidecar([*SLEEP, str(started)], agent_id=agent_id, gateway=0)
    task_id = await scenario.submit()
    await eventually(lambda: len(pids_in(started)) == 1)
    newer = await scenario.sidecar(["sh", "-c", "echo newer"], agent_id=agent_id, gateway=1)
    assert await older.wait() == 78
    task = await scenario.completed(task_id)
    assert task["result"]["output"].strip() == "newer"
    assert task["generation"] > 1
    (pid,) = pids_in(started)
    await eventually(lambda: not psutil.pid_exists(pid))
    assert newer.logged("ws_close") == []
