"""systemd: one user unit ``agentcom-<name>.service``."""

import os
import shutil
from pathlib import Path

from agentcom_sidecar.child import NOT_FOUND, Finished, run_program
from agentcom_sidecar.files import sync_dir
from agentcom_sidecar.process_manager.interface import (
    STOP_SECONDS,
    TERMINAL_EXIT,
    Kind,
    ProcessManagerError,
    ProcessState,
    Service,
    Status,
)

TIMEOUT = 60.0
ENVIRONMENT = "environment"
"""A file in the agent's folder with ``NAME=value`` lines: systemd passes nothing of a shell's environment on."""
STATUSES = {
    "active": Status.RUNNING,
    "reloading": Status.RUNNING,
    "activating": Status.STARTING,
    "deactivating": Status.STOPPED,
    "inactive": Status.STOPPED,
    "failed": Status.FAILED,
}


class Systemd:
    """Drives ``systemctl --user``."""

    kind = Kind.SYSTEMD

    def problem(self) -> str | None:
        """Being installed is not enough: there has to be a user manager that answers."""
        if shutil.which("systemctl") is None:
            return "systemctl is not on the PATH."
        answer = self._systemctl("show-environment")
        if answer.ok:
            return None
        return (
            f"systemd's user manager does not answer ({answer.complaint}). "
            "Log in as this user properly (not with su), or run: loginctl enable-linger"
        )

    def start(self, service: Service) -> list[str]:
        """Write the unit, enable it and start it anew."""
        path = unit_path(service)
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, unit_text(service))
        for arguments in (("daemon-reload",), ("enable", path.name), ("restart", path.name)):
            done = self._systemctl(*arguments)
            if not done.ok:
                raise ProcessManagerError(f"`systemctl --user {' '.join(arguments)}` failed: {done.complaint}")
        return self._notes(service)

    def state(self, service: Service) -> ProcessState:
        """As ``systemctl show`` has it."""
        if not unit_path(service).exists():
            return ProcessState(status=Status.MISSING)
        wanted = "LoadState,ActiveState,MainPID,NRestarts,ExecMainStatus"
        shown = self._systemctl("show", unit_path(service).name, f"--property={wanted}")
        if shown.returncode == NOT_FOUND:
            return ProcessState(status=Status.MISSING)
        if not shown.ok:
            raise ProcessManagerError(f"systemd says nothing about {service.name}: {shown.complaint}")
        return parse_show(shown.stdout)

    def remove(self, service: Service) -> None:
        """Stop, disable, forget."""
        path = unit_path(service)
        if not path.exists():
            return
        stopped = self._systemctl("disable", "--now", path.name)
        if not stopped.ok:
            raise ProcessManagerError(f"systemd could not stop {service.name}: {stopped.complaint}")
        path.unlink(missing_ok=True)
        self._systemctl("daemon-reload")
        self._systemctl("reset-failed", path.name)

    @staticmethod
    def _systemctl(*arguments: str) -> Finished:
        return run_program(("systemctl", "--user", "--no-pager", *arguments), timeout=TIMEOUT)

    @staticmethod
    def _notes(service: Service) -> list[str]:
        notes = [f"Variables that your agent needs, such as API keys, go into {service.place.folder / ENVIRONMENT}."]
        shown = run_program(("loginctl", "show-user", str(os.getuid()), "--property=Linger"), timeout=TIMEOUT)
        if "Linger=yes" not in shown.stdout:
            notes.append("To have it run while you are logged out, run once: loginctl enable-linger")
        return notes


def unit_path(service: Service) -> Path:
    """Where user units belong."""
    base = os.environ.get("XDG_CONFIG_HOME")
    folder = Path(base) if base and Path(base).is_absolute() else Path.home() / ".config"
    return folder / "systemd" / "user" / f"{service.name}.service"


def unit_text(service: Service) -> str:
    """The unit file.

    ``KillMode=process``: the sidecar ends its agent itself, and a killed sidecar finds the agent again.
    """
    folder = service.place.folder
    return f"""[Unit]
Description=AgentCom sidecar of {service.place.name}
StartLimitIntervalSec=0

[Service]
Type=exec
ExecStart={" ".join(_quoted(argument) for argument in service.argv)}
WorkingDirectory={_path(folder)}
Environment={_quoted(f"PATH={os.environ.get('PATH', os.defpath)}", dollar="$")}
EnvironmentFile=-{_path(folder / ENVIRONMENT)}
StandardOutput=null
StandardError=append:{_path(service.errors)}
Restart=always
RestartSec=2
RestartPreventExitStatus={TERMINAL_EXIT}
KillMode=process
TimeoutStopSec={STOP_SECONDS}

[Install]
WantedBy=default.target
"""


def parse_show(text: str) -> ProcessState:
    """Read the lines of ``systemctl show``."""
    values = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    if values.get("LoadState") == "not-found":
        return ProcessState(status=Status.MISSING)
    status = STATUSES.get(values.get("ActiveState", ""), Status.FAILED)
    exit_code = _number(values, "ExecMainStatus")
    return ProcessState(
        status=status,
        pid=_number(values, "MainPID") or None,
        restarts=_number(values, "NRestarts"),
        exit_code=exit_code if status is Status.FAILED else None,
    )


def _number(values: dict[str, str], name: str) -> int | None:
    text = values.get(name, "")
    return int(text) if text.isdigit() else None


def _quoted(text: str, *, dollar: str = "$$") -> str:
    """A word as systemd reads it: C-style quoting; ``%`` doubled, and ``$`` where variables would be put in."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return '"' + escaped.replace("%", "%%").replace("$", dollar) + '"'


def _path(path: Path) -> str:
    """A setting that takes a whole line as one path: no quoting, only ``%`` means something."""
    return str(path).replace("%", "%%")


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
    sync_dir(path.parent)
