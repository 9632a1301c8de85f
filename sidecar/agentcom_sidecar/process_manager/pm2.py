"""pm2: one process ``agentcom-<name>``, described by a JSON file in the agent's folder."""

import json
import os
import shutil
import time
from collections.abc import Sequence
from typing import Any

from agentcom_sidecar.child import NOT_FOUND, Finished, run_program
from agentcom_sidecar.files import write_atomic
from agentcom_sidecar.process_manager.interface import (
    STOP_SECONDS,
    TERMINAL_EXIT,
    Kind,
    ProcessManagerError,
    ProcessState,
    Service,
    Status,
)

ECOSYSTEM = "ecosystem.config.json"
TIMEOUT = 60.0
QUIET = {"PM2_DISCRETE_MODE": "true", "PM2_NO_INTERACTION": "true"}
"""Without the first, the very first call prints a banner in front of its JSON."""
STATUSES = {
    "online": Status.RUNNING,
    "launching": Status.STARTING,
    "waiting restart": Status.STARTING,
    "stopping": Status.STOPPED,
    "stopped": Status.STOPPED,
    "errored": Status.FAILED,
}
STARTED_WITHIN = 15.0


class Pm2:
    """Drives the ``pm2`` that is on the PATH; PM2_HOME chooses its daemon."""

    kind = Kind.PM2

    def problem(self) -> str | None:
        """Node and pm2 have to be there; an answer of pm2 shows both."""
        if shutil.which("pm2") is None:
            return "pm2 is not on the PATH. Install it: npm install --global pm2"
        answer = self._pm2("--version")
        return None if answer.ok else f"pm2 is installed but does not work: {answer.complaint}"

    def start(self, service: Service) -> list[str]:
        """Always a fresh entry: pm2 does not take up every changed setting of one that it knows."""
        folder = service.place.folder
        path = folder / ECOSYSTEM
        write_atomic(path, json.dumps({"apps": [_app(service)]}, indent=2).encode())
        self._delete(service)
        started = self._pm2("start", str(path))
        if not started.ok:
            raise ProcessManagerError(f"pm2 could not start {service.name}: {started.complaint}")
        self._expect_alive(service)
        saved = self._pm2("save")
        notes = [] if saved.ok else [f"`pm2 save` failed: {saved.complaint}"]
        return [*notes, "To have it start after a reboot, run `pm2 startup` once and do what it prints."]

    def state(self, service: Service) -> ProcessState:
        """As ``pm2 jlist`` has it."""
        entry = self._entry(service)
        if entry is None:
            return ProcessState(status=Status.MISSING)
        env = entry.get("pm2_env")
        env = env if isinstance(env, dict) else {}
        pid = entry.get("pid")
        status = STATUSES.get(str(env.get("status")), Status.FAILED)
        if status is Status.RUNNING and not pid:
            status = Status.STARTING
        exit_code = env.get("exit_code")
        if exit_code == TERMINAL_EXIT and status is not Status.RUNNING:
            status = Status.FAILED  # pm2 may call it "waiting restart", but does not start it again.
        restarts = env.get("restart_time")
        return ProcessState(
            status=status,
            pid=pid if isinstance(pid, int) and pid > 0 else None,
            restarts=restarts if isinstance(restarts, int) else None,
            exit_code=exit_code if isinstance(exit_code, int) and status is not Status.RUNNING else None,
        )

    def remove(self, service: Service) -> None:
        """``--force``: with an empty list, ``pm2 save`` would keep the old one, and a reboot bring the process back."""
        if self._delete(service):
            self._pm2("save", "--force")

    def _delete(self, service: Service) -> bool:
        if self._entry(service) is None:
            return False
        deleted = self._pm2("delete", service.name)
        if not deleted.ok and self._entry(service) is not None:
            raise ProcessManagerError(f"pm2 could not delete {service.name}: {deleted.complaint}")
        return True

    def _entry(self, service: Service) -> dict[str, Any] | None:
        answer = self._pm2("jlist")
        if answer.returncode == NOT_FOUND:
            return None
        lines = [line for line in answer.stdout.splitlines() if line.startswith("[")]
        try:
            entries = json.loads(lines[-1]) if lines else None
        except ValueError:
            entries = None
        if not isinstance(entries, list):
            raise ProcessManagerError(f"`pm2 jlist` gave no list: {answer.complaint}")
        named = [entry for entry in entries if isinstance(entry, dict) and entry.get("name") == service.name]
        return named[0] if named else None

    def _expect_alive(self, service: Service) -> None:
        """pm2 says "started" of anything it could fork, so it is asked again until the process has lived a moment."""
        deadline = time.monotonic() + STARTED_WITHIN
        seen: int | None = None
        while time.monotonic() < deadline:
            state = self.state(service)
            if state.status is Status.FAILED:
                code = "" if state.exit_code is None else f" with exit code {state.exit_code}"
                raise ProcessManagerError(f"{service.name} ended at once{code}; see {service.errors}.")
            if state.pid is not None and state.pid == seen:
                return
            seen = state.pid
            time.sleep(1.0)
        raise ProcessManagerError(f"{service.name} does not keep running under pm2; see {service.errors}.")

    @staticmethod
    def _pm2(*arguments: str) -> Finished:
        argv: Sequence[str] = ("pm2", *arguments)
        return run_program(argv, timeout=TIMEOUT, env=QUIET)


def _app(service: Service) -> dict[str, Any]:
    """pm2 takes a program whose path has a space in it for a shell command line; ``env`` passes it on as it is."""
    argv = service.argv if " " not in service.argv[0] else ("/usr/bin/env", *service.argv)
    return {
        "name": service.name,
        "script": argv[0],
        "interpreter": "none",
        "args": list(argv[1:]),
        "cwd": str(service.place.folder),
        "autorestart": True,
        "max_restarts": 50,
        "min_uptime": 5000,
        "restart_delay": 2000,
        "stop_exit_codes": [TERMINAL_EXIT],
        "kill_timeout": STOP_SECONDS * 1000,
        "treekill": False,  # The sidecar ends its agent itself, and a killed sidecar finds it again.
        "merge_logs": True,
        "out_file": os.devnull,
        "error_file": str(service.errors),
        "env": {"PYTHONUNBUFFERED": "1"},
    }
