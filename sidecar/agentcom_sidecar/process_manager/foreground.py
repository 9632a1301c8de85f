"""No process manager: the operator, or a container, runs the sidecar in the foreground."""

import shlex

from agentcom_sidecar.config import ConfigError, load_config
from agentcom_sidecar.installation import running_pid
from agentcom_sidecar.invocation import program
from agentcom_sidecar.process_manager.interface import Kind, ProcessManagerError, ProcessState, Service, Status


class Foreground:
    """Starts nothing; sees the sidecar by the lock on its data folder."""

    kind = Kind.NONE

    def problem(self) -> str | None:
        """It can always be used."""
        return None

    def start(self, service: Service) -> list[str]:
        """Only say that it has to be run."""
        return ["Nothing keeps the sidecar running: run it yourself, for as long as the agent is to work."]

    def state(self, service: Service) -> ProcessState:
        """Running or not; nobody counts restarts."""
        pid = service_pid(service)
        return ProcessState(status=Status.STOPPED if pid is None else Status.RUNNING, pid=pid)

    def remove(self, service: Service) -> None:
        """A sidecar that somebody else started is not ours to stop."""
        pid = service_pid(service)
        if pid is not None:
            raise ProcessManagerError(f"The sidecar of {service.place.name} runs as process {pid}: stop it first.")


def service_pid(service: Service) -> int | None:
    """The process that runs the sidecar, whoever started it; None when none does."""
    try:
        config, _ = load_config(service.place.config_path)
    except ConfigError:
        return running_pid(service.place.data)
    return running_pid(config.data_dir)


def run_command(service: Service) -> str:
    """The command as it can be pasted into a shell."""
    return f"{program()} run --config {shlex.quote(str(service.place.config_path))}"
