"""The demo shows its progress wherever it is looked at."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from services.local.demo_view import Moment, View

TASK = {"id": "task-1", "status": "queued", "description": "one", "assigned_to": None, "finished_at": None}


def moments() -> list[Moment]:
    states = ("queued", "assigned", "assigned")
    return [Moment(tasks=[TASK | {"status": state}], agents=[], elapsed=0.5 * n) for n, state in enumerate(states)]


@pytest.mark.parametrize(
    "console",
    [
        Console(file=io.StringIO()),
        Console(file=io.StringIO(), force_terminal=True, _environ={"TERM": "dumb"}),
    ],
    ids=["pipe", "dumb terminal"],
)
def test_what_can_not_be_redrawn_gets_a_line_for_each_change(
    console: Console, capsys: pytest.CaptureFixture[str]
) -> None:
    with View(console, title="demo") as view:
        for moment in moments():
            view.show(moment)
    assert capsys.readouterr().out.splitlines() == [
        "  0.0 s  waiting 1, delayed 0, running 0, completed 0, dead letters 0",
        "  0.5 s  waiting 0, delayed 0, running 1, completed 0, dead letters 0",
    ]
