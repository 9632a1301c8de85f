"""What a process manager does for a sidecar."""

import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from agentcom_sidecar.failure import Failure
from agentcom_sidecar.installation import Installation

TERMINAL_EXIT = 78
"""The sidecar's exit code for a refused configuration or token: starting it again cannot help."""
STOP_SECONDS = 15
"""How long a sidecar may take to stop its agent and leave."""


class Kind(StrEnum):
    """The process managers there are."""

    PM2 = "pm2"
    SYSTEMD = "systemd"
    NONE = "none"


class Status(StrEnum):
    """What a process manager says about a sidecar."""

    RUNNING = "running"
    STARTING = "starting"  #: between two attempts
    STOPPED = "stopped"
    FAILED = "failed"
    MISSING = "missing"  #: the process manager does not know it


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessState:
    """``restarts`` and ``exit_code`` are None when the process manager does not say."""

    status: Status
    pid: int | None = None
    restarts: int | None = None
    exit_code: int | None = None


@dataclass(frozen=True, slots=True)
class Service:
    """One sidecar as a process manager runs it."""

    place: Installation

    @property
    def name(self) -> str:
        """The name of the process."""
        return f"agentcom-{self.place.name}"

    @property
    def argv(self) -> tuple[str, ...]:
        """The command. The token is in the configuration file, never here.

        ``-P`` keeps the folder it runs in, which the agent may write to, off the import path.
        """
        return (sys.executable, "-P", "-u", "-m", "agentcom_sidecar", "run", "--config", str(self.place.config_path))

    @property
    def errors(self) -> Path:
        """Where stderr goes: why it could not start. Stdout, which repeats the log, is dropped."""
        return self.place.logs / "process.err"


class ProcessManager(Protocol):
    """Keeps a sidecar running. The methods that do something raise ProcessManagerError."""

    kind: Kind

    def problem(self) -> str | None:
        """Why it cannot be used here, with what to do about it; None if it can."""
        ...

    def start(self, service: Service) -> list[str]:
        """Write down how to run the sidecar, and start it anew; returns what the operator still has to do."""
        ...

    def state(self, service: Service) -> ProcessState:
        """How it is."""
        ...

    def remove(self, service: Service) -> None:
        """Stop it and forget it; that it is not there is no error."""
        ...


class ProcessManagerError(Failure):
    """A process manager could not do what it was asked."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence, code="process_manager_failed")
