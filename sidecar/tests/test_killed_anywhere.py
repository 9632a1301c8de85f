"""SIGKILL of the sidecar at each step between an assignment and its acknowledgement: one turn, one report, one pull
request.

A gate holds whatever the step starts, the sidecar is killed there, the gate is opened, and the sidecar starts again.
"""

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest

from sidecar_support.eventually import eventually
from sidecar_support.hub import Hub
from sidecar_support.program import Program
from sidecar_support.workshop import Workshop

pytestmark = pytest.mark.chaos

Make = Callable[..., Program]

STEPS = [
    "accept",
    "before-fetch",
    "after-worktree-add",
    "before-accept",
    "after-accept",
    "turn",
    "started",
    "committed",
    "result",
    "before-push",
    "after-push",
    "before-pr",
    "after-pr",
    "report",
    "acknowledged",
]


@pytest.mark.parametrize("modern", [True, False], ids=["modern", "older"])
@pytest.mark.parametrize("step", STEPS)
async def test_killed_at_a_step_delivers_once(hub: Hub, program: Make, tmp_path: Path, step: str, modern: bool) -> None:
    hub.modern = modern
    workshop = Workshop(tmp_path / "workshop").make_repository()
    workshop.install_stubs(git=True)
    workshop.behave(result={"status": "success", "output": "done"}, commit="new.txt")
    sidecar = program(
        wake_mode="openclaw",
        openclaw_command=workshop.openclaw,
        openclaw_wait_ms=500,
        kill_grace_ms=10_000,
        repo_dir=str(workshop.clone),
    )
    hub.ack_reports = step != "report"
    workshop.gates.shut(step)
    await sidecar.start(**workshop.environment)
    await eventually(lambda: hub.connected, what=sidecar.console())
    await hub.assign("task-1", description="do it")
    reached = {
        "accept": lambda: bool(hub.seen("task_accepted")),
        "report": lambda: bool(hub.seen("task_complete")),
        "acknowledged": lambda: bool(hub.settled),
    }.get(step, lambda: workshop.gates.reached(step))
    await eventually(reached, within=30, what=sidecar.console())
    await sidecar.kill()
    hub.ack_reports = True
    workshop.gates.open(step)
    await sidecar.start(**workshop.environment)
    await eventually(
        lambda: hub.settled and not sidecar.outbox() and sidecar.task_in_hand() is None,
        within=30,
        what=f"{sidecar.console()}",
    )
    (report,) = hub.settled
    assert report["type"] == "task_complete", report
    result = report["result"]
    assert (result["output"], result["branch"]) == ("done", "w1/task-1-do-it")
    assert result["pr_url"] == "https://forge.example/pull/1"
    assert workshop.turns() == 1
    assert len(workshop.pull_requests()) == 1
    assert set(workshop.branches()) == {"main", "w1/task-1-do-it"}
    runs = sidecar.folder / "data" / "runs"
    await eventually(lambda: not list(runs.iterdir()))
    with contextlib.suppress(FileNotFoundError):
        assert not list((sidecar.folder / "results").iterdir())
