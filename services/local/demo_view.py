"""The demo on a terminal, or line by line where there is none that can be redrawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from services.local.demo_tasks import AGENTS

Json = Mapping[str, Any]

LAST: Final = 8
_SHOWN_STATES: Final = ("queued", "delayed", "assigned", "completed", "dead_letter")
_LABELS: Final = {"queued": "waiting", "assigned": "running", "dead_letter": "dead letters"}
_STYLES: Final = {"assigned": "yellow", "completed": "green", "dead_letter": "red"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What the hub said just now. ``elapsed`` is seconds since the demo's batch began."""

    tasks: Sequence[Json]
    agents: Sequence[Json]
    elapsed: float

    def count(self, status: str) -> int:
        return sum(task["status"] == status for task in self.tasks)

    @property
    def completions(self) -> list[Json]:
        """Newest first."""
        done = [task for task in self.tasks if task["status"] == "completed"]
        return sorted(done, key=lambda task: task["finished_at"], reverse=True)

    @property
    def retried(self) -> int:
        return sum(task["status"] == "completed" and task["retry_count"] > 0 for task in self.tasks)


class View:
    """Shows one moment after the other. Use as a context manager."""

    def __init__(self, console: Console, *, title: str) -> None:
        self._console = console
        self._title = title
        redraws = console.is_terminal and not console.is_dumb_terminal
        self._live = Live(console=console, refresh_per_second=8, transient=False) if redraws else None
        self._last_line = ""

    def __enter__(self) -> View:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, moment: Moment) -> None:
        if self._live is not None:
            self._live.update(_screen(self._title, moment))
            return
        counts = ", ".join(f"{_label(status)} {moment.count(status)}" for status in _SHOWN_STATES)
        if counts != self._last_line:
            print(f"{moment.elapsed:5.1f} s  {counts}", flush=True)
        self._last_line = counts


def completion_line(task: Json) -> str:
    """One finished task, for a line of its own."""
    return f"{task['id']}  {task['assigned_to']}  {_took(task)}  {_output(task)}"


def _screen(title: str, moment: Moment) -> RenderableType:
    header = Text.assemble((title, "bold"), f"   {moment.elapsed:.1f} s", no_wrap=True, overflow="ellipsis")
    return Group(header, "", _states(moment), "", _agents(moment), "", _completions(moment))


def _states(moment: Moment) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for status in _SHOWN_STATES:
        table.add_column(_label(status), justify="right", style=_STYLES.get(status, ""), header_style="dim")
    table.add_row(*(str(moment.count(status)) for status in _SHOWN_STATES))
    return table


def _agents(moment: Moment) -> Table:
    table = _table(agent=16, can=12, state=9, done=5, doing=None)
    connected = {agent["agent_id"]: agent for agent in moment.agents}
    tasks = {task["id"]: task for task in moment.tasks}
    for known in AGENTS:
        agent = connected.get(known.id)
        state = agent["fsm_state"] if agent else "away"
        task = tasks.get(agent["current_task_id"]) if agent else None
        done = sum(task["status"] == "completed" and task["assigned_to"] == known.id for task in moment.tasks)
        doing = escape(task["description"]) if task else ""
        style = {"idle": "dim", "away": "red"}.get(state, "yellow")
        table.add_row(known.id, ", ".join(known.capabilities), f"[{style}]{state}[/]", str(done), doing)
    return table


def _completions(moment: Moment) -> Table:
    table = _table(completed=22, by=16, took=7, result=None)
    newest = moment.completions[:LAST]
    for task in newest:
        again = f" [yellow](attempt {task['retry_count'] + 1})[/]" if task["retry_count"] else ""
        table.add_row(task["id"], escape(task["assigned_to"]), _took(task), escape(_output(task)) + again)
    for _ in range(LAST - len(newest)):
        table.add_row("", "", "", "")
    return table


def _table(**columns: int | None) -> Table:
    """Columns by name and width; None takes what is left, in one line."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), expand=True)
    for name, width in columns.items():
        table.add_column(
            name, width=width, ratio=None if width else 1, no_wrap=True, overflow="ellipsis", header_style="dim"
        )
    return table


def _label(status: str) -> str:
    return _LABELS.get(status, status)


def _took(task: Json) -> str:
    return f"{(task['finished_at'] - task['assigned_at']) / 1000:.1f} s"


def _output(task: Json) -> str:
    result = task["result"]
    return str(result.get("output", "")) if isinstance(result, dict) else str(result)
