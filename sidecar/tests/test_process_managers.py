"""What process managers are told, and what is read from their answers; pm2 and systemctl are stand-ins here."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from agentcom_sidecar.failure import Failure
from agentcom_sidecar.installation import Installation
from agentcom_sidecar.process import take_lock
from agentcom_sidecar.process_manager import (
    Kind,
    ProcessManagerError,
    ProcessState,
    Service,
    Status,
    choose,
    manager_of,
)
from agentcom_sidecar.process_manager.pm2 import ECOSYSTEM, Pm2
from agentcom_sidecar.process_manager.systemd import Systemd, parse_show, unit_path, unit_text

ODD = "a b %h $HOME"


@pytest.fixture
def service(tmp_path: Path) -> Service:
    folder = tmp_path / ODD / "w1"
    (folder / "logs").mkdir(parents=True)
    return Service(Installation("w1", folder))


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the whole PATH, but for what shell scripts need."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sh", "cat", "touch", "rm"):
        (folder / name).symlink_to(str(shutil.which(name)))
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    return folder


def program(folder: Path, name: str, script: str) -> Path:
    """A stand-in that also writes down how it was called."""
    calls = folder / f"{name}.calls"
    path = folder / name
    path.write_text(f'#!/bin/sh\necho "$@" >> {calls}\n{script}\n')
    path.chmod(0o755)
    return calls


# -- the choice ------------------------------------------------------------------------------------------------------


def test_the_first_that_works_is_chosen(programs: Path) -> None:
    assert choose("auto").kind is Kind.NONE
    program(programs, "systemctl", "echo 'Failed to connect to bus' >&2; exit 1")
    assert choose("auto").kind is Kind.NONE
    program(programs, "systemctl", "exit 0")
    assert choose("auto").kind is Kind.SYSTEMD
    program(programs, "pm2", "exit 1")
    assert choose("auto").kind is Kind.SYSTEMD
    program(programs, "pm2", "echo 7.0.4")
    assert choose("auto").kind is Kind.PM2


def test_a_wanted_one_that_does_not_work_says_why(programs: Path) -> None:
    with pytest.raises(Failure, match="npm install --global pm2"):
        choose("pm2")
    program(programs, "systemctl", "echo 'Failed to connect to bus' >&2; exit 1")
    with pytest.raises(Failure, match="Failed to connect to bus"):
        choose("systemd")


# -- pm2 -------------------------------------------------------------------------------------------------------------


def jlist(*entries: dict[str, object]) -> str:
    return f"cat <<'END'\n[PM2] a banner\n{json.dumps(entries)}\nEND"


def test_pm2_gets_plain_data_and_starts_afresh(programs: Path, service: Service) -> None:
    entry = {"name": "agentcom-w1", "pid": 4711, "pm2_env": {"status": "online", "restart_time": 0}}
    calls = program(programs, "pm2", f'case "$1" in jlist) {jlist(entry)}\n;; esac')
    assert any("pm2 startup" in note for note in Pm2().start(service))
    path = service.place.folder / ECOSYSTEM
    (app,) = json.loads(path.read_text())["apps"]
    assert (app["name"], app["interpreter"], app["stop_exit_codes"]) == ("agentcom-w1", "none", [78])
    assert app["args"][-1] == str(service.place.config_path)
    assert app["kill_timeout"] >= 10_000
    verbs = [line.split()[0] for line in calls.read_text().splitlines() if not line.startswith("jlist")]
    assert verbs == ["delete", "start", "save"]
    assert f"start {path}" in calls.read_text()


def test_an_interpreter_with_a_space_in_its_path_is_not_taken_for_a_shell_command(
    programs: Path, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", "/opt/my python/bin/python")
    entry = {"name": "agentcom-w1", "pid": 4711, "pm2_env": {"status": "online"}}
    program(programs, "pm2", f'case "$1" in jlist) {jlist(entry)}\n;; esac')
    Pm2().start(service)
    (app,) = json.loads((service.place.folder / ECOSYSTEM).read_text())["apps"]
    assert (app["script"], app["args"][0]) == ("/usr/bin/env", "/opt/my python/bin/python")


@pytest.mark.parametrize(
    ("entry", "state"),
    [
        ({"status": "online"}, ProcessState(status=Status.RUNNING, pid=7)),
        ({"status": "waiting restart", "exit_code": 70}, ProcessState(status=Status.STARTING, pid=7, exit_code=70)),
        ({"status": "stopped", "exit_code": 0}, ProcessState(status=Status.STOPPED, pid=7, exit_code=0)),
        ({"status": "stopped", "exit_code": 78}, ProcessState(status=Status.FAILED, pid=7, exit_code=78)),
        ({"status": "waiting restart", "exit_code": 78}, ProcessState(status=Status.FAILED, pid=7, exit_code=78)),
        ({"status": "errored", "restart_time": 50}, ProcessState(status=Status.FAILED, pid=7, restarts=50)),
    ],
)
def test_the_state_under_pm2(programs: Path, service: Service, entry: dict[str, object], state: ProcessState) -> None:
    program(programs, "pm2", jlist({"name": "another"}, {"name": "agentcom-w1", "pid": 7, "pm2_env": entry}))
    assert Pm2().state(service) == state


def test_what_pm2_does_not_know_is_missing_and_nonsense_is_an_error(programs: Path, service: Service) -> None:
    program(programs, "pm2", jlist())
    assert Pm2().state(service).status is Status.MISSING
    Pm2().remove(service)
    program(programs, "pm2", "echo 'daemon is broken' >&2; exit 1")
    with pytest.raises(ProcessManagerError, match="daemon is broken"):
        Pm2().state(service)


def test_pm2_never_sees_a_secret(programs: Path, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """It writes the environment it was called with to its dump file."""
    for name in ("AGENTCOM_TOKEN", "AGENTCOM_ADMIN_TOKEN", "AGENTCOM_ENROLMENT_KEY", "AGENTCOM_SIDECAR_TOKEN"):
        monkeypatch.setenv(name, "s3cret")
    program(programs, "pm2", f"/usr/bin/env >> {programs}/environment; {jlist()}")
    Pm2().state(service)
    assert "PM2_DISCRETE_MODE=true" in (programs / "environment").read_text()
    assert "s3cret" not in (programs / "environment").read_text()


# -- systemd ---------------------------------------------------------------------------------------------------------


def test_the_unit_says_everything_so_that_systemd_understands_it(service: Service) -> None:
    text = unit_text(service)
    assert "RestartPreventExitStatus=78" in text
    assert "KillMode=process" in text
    assert f'"{service.place.config_path}"'.replace("%", "%%").replace("$", "$$") in text
    assert "WorkingDirectory=" + str(service.place.folder).replace("%", "%%") in text


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_finds_nothing_wrong_with_the_unit(service: Service, tmp_path: Path) -> None:
    unit = tmp_path / "agentcom-w1.service"
    unit.write_text(unit_text(service))
    checked = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)],
        capture_output=True,
        text=True,
        env={**os.environ, "SYSTEMD_LOG_LEVEL": "info"},
    )
    about_it = [line for line in checked.stderr.splitlines() if "agentcom-w1" in line]
    assert about_it == [], checked.stderr


def test_systemd_starts_it_and_forgets_it(programs: Path, service: Service) -> None:
    calls = program(programs, "systemctl", "exit 0")
    notes = Systemd().start(service)
    assert any("enable-linger" in note for note in notes)
    assert unit_path(service).read_text() == unit_text(service)
    Systemd().remove(service)
    assert not unit_path(service).exists()
    said = [line.removeprefix("--user --no-pager ") for line in calls.read_text().splitlines()]
    name = "agentcom-w1.service"
    assert said == [
        "daemon-reload",
        f"enable {name}",
        f"restart {name}",
        f"disable --now {name}",
        "daemon-reload",
        f"reset-failed {name}",
    ]


def test_a_unit_that_does_not_stop_is_not_forgotten(programs: Path, service: Service) -> None:
    program(programs, "systemctl", "exit 0")
    Systemd().start(service)
    program(programs, "systemctl", "echo 'Access denied' >&2; exit 1")
    with pytest.raises(ProcessManagerError, match="Access denied"):
        Systemd().remove(service)
    assert unit_path(service).exists()


@pytest.mark.parametrize(
    ("text", "state"),
    [
        (
            "LoadState=loaded\nActiveState=active\nMainPID=9\nNRestarts=2\nExecMainStatus=0",
            ProcessState(status=Status.RUNNING, pid=9, restarts=2),
        ),
        (
            "LoadState=loaded\nActiveState=failed\nMainPID=0\nNRestarts=0\nExecMainStatus=78",
            ProcessState(status=Status.FAILED, restarts=0, exit_code=78),
        ),
        (
            "LoadState=loaded\nActiveState=activating\nMainPID=0\nNRestarts=5\nExecMainStatus=70",
            ProcessState(status=Status.STARTING, restarts=5),
        ),
        ("LoadState=not-found\nActiveState=inactive", ProcessState(status=Status.MISSING)),
    ],
)
def test_the_state_under_systemd(text: str, state: ProcessState) -> None:
    assert parse_show(text) == state


# -- none ------------------------------------------------------------------------------------------------------------


def test_without_a_process_manager_the_lock_tells_who_runs(service: Service) -> None:
    manager = manager_of(Kind.NONE)
    assert manager.state(service) == ProcessState(status=Status.STOPPED)
    service.place.data.mkdir()
    lock = take_lock(service.place.data / "sidecar.lock", content=str(os.getpid()))
    try:
        assert manager.state(service) == ProcessState(status=Status.RUNNING, pid=os.getpid())
        with pytest.raises(ProcessManagerError, match="stop it first"):
            manager.remove(service)
    finally:
        os.close(lock)
    assert manager.state(service).status is Status.STOPPED
