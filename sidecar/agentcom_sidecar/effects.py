"""What the session is told (events) and what it wants done (effects). Effects are carried out in order."""

from dataclasses import dataclass
from typing import Any

from agentcom_sidecar.journal import Task
from agentcom_sidecar.outbox import Report, ReportKey
from agentcom_sidecar.result import Outcome


@dataclass(frozen=True, slots=True)
class FrameReceived:
    """The hub sent a frame."""

    frame: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ConnectionClosed:
    """The socket is gone; nothing that was sent and not answered may be taken for received."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class AgentFinished:
    """The agent of a run ended by itself, with this outcome."""

    run: int
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class AgentStopped:
    """The agent of a run was ended because of a `StopAgent`."""

    run: int


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


Event = FrameReceived | ConnectionClosed | AgentFinished | AgentStopped | Tick


@dataclass(frozen=True, slots=True)
class SaveTask:
    """Record the task in hand, durably."""

    task: Task


@dataclass(frozen=True, slots=True)
class ClearTask:
    """Forget the task in hand and remove its files."""

    task: Task


@dataclass(frozen=True, slots=True)
class StartAgent:
    """Start the agent; ends with `AgentFinished` for this run."""

    task: Task
    run: int


@dataclass(frozen=True, slots=True)
class StopAgent:
    """End the agent; ends with `AgentStopped` for this run, and with no `AgentFinished` that counts."""

    run: int


@dataclass(frozen=True, slots=True)
class Send:
    """Send a frame, if the socket is still there."""

    frame: dict[str, Any]


@dataclass(frozen=True, slots=True)
class StoreReport:
    """Keep a report on disk until it is dropped or refused."""

    report: Report


@dataclass(frozen=True, slots=True)
class SendReport:
    """Send a stored report, cut to the frame size the hub takes."""

    key: ReportKey
    max_bytes: int


@dataclass(frozen=True, slots=True)
class DropReport:
    """The hub acknowledged the report."""

    key: ReportKey


@dataclass(frozen=True, slots=True)
class RefuseReport:
    """The hub will never take the report: set it aside."""

    key: ReportKey
    code: str


@dataclass(frozen=True, slots=True)
class RenumberReport:
    """The same outcome now answers a later assignment of the task."""

    key: ReportKey
    generation: int


@dataclass(frozen=True, slots=True)
class ReviveReport:
    """A completion that was refused as stale answers a later assignment of the task."""

    task_id: str
    generation: int


@dataclass(frozen=True, slots=True)
class Reconnect:
    """Drop the connection and build a new one."""

    reason: str


@dataclass(frozen=True, slots=True)
class Exit:
    """End the process: going on is pointless until somebody acts."""

    sentence: str


Effect = (
    SaveTask
    | ClearTask
    | StartAgent
    | StopAgent
    | Send
    | StoreReport
    | SendReport
    | DropReport
    | RefuseReport
    | RenumberReport
    | ReviveReport
    | Reconnect
    | Exit
)
