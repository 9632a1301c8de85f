"""The real program killed, cut off and refused at the bad moments: one run of the agent, one report that counts."""

import asyncio
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sidecar_support.eventually import eventually
from sidecar_support.hub import Hub
from sidecar_support.program import Program

Make = Callable[..., Program]


def slow_agent(folder: Path) -> list[str]:
    """Notes each run, works until the file ``go`` is there, prints."""
    script = f"echo run >> {folder}/runs; echo begin; while [ ! -e {folder}/go ]; do sleep 0.02; done; echo end"
    return ["/bin/sh", "-c", script]


def runs(folder: Path) -> int:
    path = folder / "runs"
    return len(path.read_text().splitlines()) if path.exists() else 0


async def started(sidecar: Program, hub: Hub) -> Program:
    await sidecar.start()
    await eventually(lambda: hub.connected, what=sidecar.console())
    return sidecar


async def delivered_once(sidecar: Program, hub: Hub, *, kind: str = "task_complete") -> dict[str, Any]:
    await eventually(lambda: hub.settled and not sidecar.outbox() and sidecar.task_in_hand() is None)
    assert [report["type"] for report in hub.settled] == [kind]
    return hub.settled[0]


async def test_agent_that_outlives_a_killed_sidecar_is_adopted(hub: Hub, program: Make, tmp_path: Path) -> None:
    sidecar = await started(program(slow_agent(tmp_path)), hub)
    await hub.assign("task-1", generation=2)
    await eventually(lambda: runs(tmp_path))
    await sidecar.kill()
    await started(sidecar, hub)
    await eventually(lambda: hub.seen("task_recovering", task_id="task-1", generation=2, last_status="running"))
    progress = len(hub.seen("task_progress"))
    await eventually(lambda: len(hub.seen("task_progress")) > progress)
    (tmp_path / "go").touch()
    report = await delivered_once(sidecar, hub)
    assert report["result"]["output"] == "begin\nend\n"
    assert runs(tmp_path) == 1


async def test_agent_works_on_without_the_sidecar_if_so_configured(hub: Hub, program: Make, tmp_path: Path) -> None:
    sidecar = await started(program(slow_agent(tmp_path), stop_agent_on_exit=False), hub)
    await hub.assign("task-1")
    await eventually(lambda: runs(tmp_path))
    assert await sidecar.stop() == 0
    (tmp_path / "go").touch()
    await started(sidecar, hub)
    report = await delivered_once(sidecar, hub)
    assert report["result"]["output"] == "begin\nend\n"
    assert runs(tmp_path) == 1


async def test_agent_that_ended_while_the_sidecar_was_down(hub: Hub, program: Make, tmp_path: Path) -> None:
    sidecar = await started(program(slow_agent(tmp_path)), hub)
    await hub.assign("task-1")
    await eventually(lambda: runs(tmp_path))
    await sidecar.kill()
    (tmp_path / "go").touch()
    await eventually((sidecar.folder / "data" / "runs" / "task-1" / "ended.json").exists)
    await sidecar.start()
    report = await delivered_once(sidecar, hub)
    assert report["result"]["output"] == "begin\nend\n"
    assert runs(tmp_path) == 1


async def test_result_that_appeared_while_the_sidecar_was_down(hub: Hub, program: Make, tmp_path: Path) -> None:
    sidecar = await started(program(None), hub)
    await hub.assign("task-1")
    await eventually(lambda: sidecar.logged("wake_skipped"))
    await sidecar.kill()
    (tmp_path / "results" / "task-1.json").write_text('{"status":"success","output":"meanwhile"}')
    await sidecar.start()
    report = await delivered_once(sidecar, hub)
    assert report["result"]["output"] == "meanwhile"


async def test_agent_killed_with_the_sidecar_is_not_run_again(hub: Hub, program: Make, tmp_path: Path) -> None:
    sidecar = await started(program(slow_agent(tmp_path)), hub)
    await hub.assign("task-1")
    await eventually(lambda: runs(tmp_path))
    await sidecar.kill()
    began = json.loads((tmp_path / "data" / "runs" / "task-1" / "began.json").read_text())
    os.killpg(began["pid"], signal.SIGKILL)
    await sidecar.start()
    report = await delivered_once(sidecar, hub, kind="task_failed")
    assert report["error"].startswith("agent_lost: ")
    assert runs(tmp_path) == 1


async def test_accepted_task_whose_agent_never_started_is_started(hub: Hub, program: Make, tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    hub.generations["task-1"] = 7
    task = {"task_id": "task-1", "generation": 3, "description": "d", "metadata": {}, "phase": "accepted"}
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "journal.json").write_text(json.dumps({"version": 1, "task": task}))
    sidecar = await started(program(slow_agent(tmp_path)), hub)
    report = await delivered_once(sidecar, hub)
    assert hub.seen("task_recovering", task_id="task-1", generation=3)
    assert report["generation"] == 7
    assert runs(tmp_path) == 1


async def test_task_given_to_somebody_else_is_stopped_and_dropped(hub: Hub, program: Make, tmp_path: Path) -> None:
    sidecar = await started(program(["/bin/sh", "-c", f"echo $$ > {tmp_path}/pid; exec sleep 600"]), hub)
    await hub.assign("task-1")
    await eventually(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip())
    hub.answer_recovering = "task_reassign"
    hub.cut()
    await eventually(lambda: sidecar.logged("recovery_reassigned"))
    await eventually(lambda: not list((tmp_path / "data" / "runs").iterdir()))
    with pytest.raises(ProcessLookupError):
        os.killpg(os.getpgid(int((tmp_path / "pid").read_text())), 0)
    assert sidecar.task_in_hand() is None
    await hub.assign("task-2")
    await eventually(lambda: hub.seen("task_accepted", task_id="task-2"))
    assert not hub.settled


async def test_killed_between_report_and_acknowledgement(hub: Hub, program: Make, tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    hub.ack_reports = False
    sidecar = await started(program(slow_agent(tmp_path)), hub)
    await hub.assign("task-1")
    await eventually(lambda: hub.seen("task_complete"))
    await sidecar.kill()
    assert len(sidecar.outbox()) == 1
    hub.ack_reports = True
    await sidecar.start()
    await delivered_once(sidecar, hub)
    assert runs(tmp_path) == 1


async def test_unacknowledged_report_is_sent_again_on_a_timer(hub: Hub, program: Make, tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    hub.ack_reports = False
    sidecar = await started(program(slow_agent(tmp_path)), hub)
    await hub.assign("task-1")
    await eventually(lambda: len(hub.seen("task_complete")) >= 2)
    hub.ack_reports = True
    await delivered_once(sidecar, hub)
    assert hub.connections == 1


async def test_hub_away_while_the_agent_finishes(hub: Hub, program: Make, tmp_path: Path) -> None:
    sidecar = await started(program(slow_agent(tmp_path)), hub)
    await hub.assign("task-1")
    await eventually(lambda: runs(tmp_path))
    await hub.stop()
    (tmp_path / "go").touch()
    await eventually(lambda: len(sidecar.outbox()) == 1)
    assert len(sidecar.logged("ws_connecting")) >= 1
    await hub.start()
    await delivered_once(sidecar, hub)
    assert runs(tmp_path) == 1


@pytest.mark.parametrize("modern", [True, False])
async def test_stale_completion_is_kept_and_answers_the_next_assignment(
    hub: Hub, program: Make, tmp_path: Path, modern: bool
) -> None:
    (tmp_path / "go").touch()
    hub.modern, hub.refuse_with = modern, "stale_generation"
    sidecar = await started(program(slow_agent(tmp_path)), hub)
    await hub.assign("task-1", generation=1)
    await eventually(lambda: len(sidecar.refused()) == 1 and not sidecar.outbox())
    assert len(sidecar.logged("report_refused")) == 1
    await sidecar.kill()
    hub.refuse_with = None
    await started(sidecar, hub)
    await hub.assign("task-1", generation=3)
    report = await delivered_once(sidecar, hub)
    assert (report["generation"], report["result"]["output"]) == (3, "begin\nend\n")
    assert runs(tmp_path) == 1


async def test_finally_refused_report_is_kept_aside_and_the_next_task_runs(hub: Hub, program: Make) -> None:
    hub.refuse_with = "not_found"
    sidecar = await started(program(["/bin/sh", "-c", "exit 1"]), hub)
    await hub.assign("task-1")
    await eventually(lambda: [path.name for path in sidecar.refused()] == ["000000000001-task-1-1.not_found.json"])
    hub.refuse_with = None
    await hub.assign("task-2")
    assert (await delivered_once(sidecar, hub, kind="task_failed"))["task_id"] == "task-2"


async def test_older_hub_is_asked_only_after_a_restart(hub: Hub, program: Make, tmp_path: Path) -> None:
    hub.modern = False
    sidecar = await started(program(slow_agent(tmp_path)), hub)
    await hub.assign("task-1")
    await eventually(lambda: runs(tmp_path))
    hub.cut()
    await eventually(lambda: len(hub.seen("identify")) == 2 and hub.connected)
    await eventually(lambda: hub.seen("task_progress"))
    assert not hub.seen("task_recovering")
    await sidecar.kill()
    await started(sidecar, hub)
    await eventually(lambda: hub.seen("task_recovering"))
    (tmp_path / "go").touch()
    await delivered_once(sidecar, hub)
    assert runs(tmp_path) == 1


async def test_killed_while_cancelling_still_reports_the_cancellation(hub: Hub, program: Make, tmp_path: Path) -> None:
    script = f"trap '' TERM; touch {tmp_path}/runs; while :; do sleep 0.05; done"
    sidecar = await started(program(["/bin/sh", "-c", script], kill_grace_ms=1000), hub)
    await hub.assign("task-1")
    await eventually((tmp_path / "runs").exists)
    await hub.send({"type": "task_cancel", "task_id": "task-1", "generation": 1, "reason": "operator"})
    await eventually(lambda: (sidecar.task_in_hand() or {}).get("phase") == "cancelling")
    await sidecar.kill()
    await sidecar.start()
    await delivered_once(sidecar, hub, kind="task_cancelled")


@pytest.mark.parametrize("delay", [0.0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.15])
async def test_killed_at_any_moment_runs_once_and_reports_once(
    hub: Hub, program: Make, tmp_path: Path, delay: float
) -> None:
    """From before the assignment is read to after the report is acknowledged."""
    (tmp_path / "go").touch()
    sidecar = await started(program(slow_agent(tmp_path)), hub)
    await hub.assign("task-1")
    await asyncio.sleep(delay)
    await sidecar.kill()
    await sidecar.start()
    await delivered_once(sidecar, hub)
    assert runs(tmp_path) == 1


async def test_unreadable_journal_and_report_do_not_stop_the_sidecar(hub: Hub, program: Make, tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    (tmp_path / "data" / "outbox").mkdir(parents=True)
    (tmp_path / "data" / "journal.json").write_text("[1]")
    (tmp_path / "data" / "outbox" / "000000000009-task-0-1.json").write_text("{")
    sidecar = await started(program(slow_agent(tmp_path)), hub)
    assert sidecar.logged("journal_unreadable")
    assert sidecar.logged("outbox_file_unreadable")
    await hub.assign("task-1")
    await delivered_once(sidecar, hub)
