"""Process managers behind one interface, and the choice between them."""

from agentcom_sidecar.failure import ExitCode, Failure
from agentcom_sidecar.process_manager.foreground import Foreground, run_command, service_pid
from agentcom_sidecar.process_manager.interface import (
    Kind,
    ProcessManager,
    ProcessManagerError,
    ProcessState,
    Service,
    Status,
)
from agentcom_sidecar.process_manager.pm2 import Pm2
from agentcom_sidecar.process_manager.systemd import Systemd

AUTO = "auto"

__all__ = [
    "AUTO",
    "Kind",
    "ProcessManager",
    "ProcessManagerError",
    "ProcessState",
    "Service",
    "Status",
    "choose",
    "manager_of",
    "run_command",
    "service_pid",
]


def manager_of(kind: Kind) -> ProcessManager:
    """The process manager of this kind."""
    match kind:
        case Kind.PM2:
            return Pm2()
        case Kind.SYSTEMD:
            return Systemd()
        case Kind.NONE:
            return Foreground()


def choose(wanted: str) -> ProcessManager:
    """The wanted one, or for ``auto`` the first that works: pm2, systemd, none.

    Raises Failure when the wanted one cannot be used.
    """
    if wanted == AUTO:
        return next(manager for kind in Kind if (manager := manager_of(kind)).problem() is None)
    manager = manager_of(Kind(wanted))
    problem = manager.problem()
    if problem is not None:
        raise Failure(problem, code="no_process_manager", exit_code=ExitCode.FAILED)
    return manager
