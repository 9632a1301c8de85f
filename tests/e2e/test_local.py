"""``agentcom up``, ``agentcom demo`` and ``agentcom admin`` as somebody uses them: real processes, from a terminal."""

from __future__ import annotations

import os
import pty
import re
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.support.eventually import eventually_sync
from tests.support.ports import free_port

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
START_S = 60.0
STOP_S = 30.0


class Person:
    """Runs the command in a folder of their own, and cleans up after it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._running: list[subprocess.Popen[str]] = []

    def _options(self, settings: dict[str, str]) -> dict[str, Any]:
        return {"cwd": self.home, "env": {**os.environ, **settings}, "text": True}

    def start(self, *arguments: str, **settings: str) -> subprocess.Popen[str]:
        """In the background; output goes to ``out`` and ``err`` in the folder."""
        with (self.home / "out").open("w") as out, (self.home / "err").open("w") as err:
            process: subprocess.Popen[str] = subprocess.Popen(
                [sys.executable, "-m", "services.local", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
                **self._options(settings),
            )
        self._running.append(process)
        return process

    def run(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "services.local", *arguments],
            capture_output=True,
            timeout=START_S,
            check=False,
            **self._options(settings),
        )

    @property
    def out(self) -> str:
        return (self.home / "out").read_text()

    @property
    def err(self) -> str:
        return (self.home / "err").read_text()

    @property
    def token(self) -> str:
        return (self.home / ".data" / "admin.token").read_text().strip()

    def left_behind(self) -> list[str]:
        """What still runs of all that was started from the folder."""
        found = []
        for process in psutil.process_iter(["cmdline", "status"]):
            command = " ".join(process.info["cmdline"] or [])
            if str(self.home) in command and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(command)
        return found

    def clean_up(self) -> None:
        for process in self._running:
            if process.poll() is None:
                process.kill()
                process.wait()


@pytest.fixture
def person(tmp_path: Path) -> Iterator[Person]:
    somebody = Person(tmp_path)
    yield somebody
    somebody.clean_up()


def up(person: Person, port: int, **settings: str) -> tuple[subprocess.Popen[str], httpx.Client]:
    """A hub that is ready, and a client with its admin token."""
    process = person.start("up", PORT=str(port), AGENTCOM_LOG_FORMAT="json", **settings)

    def ready() -> None:
        assert process.poll() is None, person.err
        assert "AgentCom is running at" in person.err

    eventually_sync(ready, timeout=START_S)
    client = httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False)
    client.headers["authorization"] = f"Bearer {person.token}"
    return process, client


def end(process: subprocess.Popen[str], signum: signal.Signals = signal.SIGTERM) -> int:
    process.send_signal(signum)
    return process.wait(STOP_S)


def test_up_needs_no_data_directory_beside_a_redis_and_a_token_of_ones_own(person: Person, redis_url: str) -> None:
    (person.home / "file").touch()
    process = person.start(
        "up",
        PORT=str(free_port()),
        AGENTCOM_REDIS_URL=redis_url,
        AGENTCOM_NAMESPACE=person.home.name,
        AGENTCOM_ADMIN_TOKEN="a" * 64,
        AGENTCOM_DATA_DIR=str(person.home / "file" / "data"),
    )

    def ready() -> None:
        assert process.poll() is None, person.err
        assert "AgentCom is running at" in person.err

    eventually_sync(ready, timeout=START_S)
    assert "hub_url_not_written" in person.out
    assert end(process) == 0


def test_up_runs_every_service_and_keeps_its_data(person: Person) -> None:
    port = free_port()
    process, client = up(person, port)
    with client:
        health = client.get("/health").json()
        assert (health["status"], health["missing"]) == ("ok", [])
        assert len(health["services"]) == 5
        submitted = client.post("/api/tasks", json={"description": "still there tomorrow"})
        assert submitted.status_code == 201
        task_id = submitted.json()["task_id"]
        with httpx.Client(base_url=client.base_url, trust_env=False) as stranger:
            assert stranger.get("/ws").status_code == 426, "the gateway is not on the same port"
            assert stranger.get("/api/tasks").status_code == 401
    assert end(process) == 0
    assert '"severity":"error"' not in person.out
    eventually_sync(lambda: person.left_behind() == [])

    process, client = up(person, port)
    with client:
        assert client.get(f"/api/tasks/{task_id}").json()["status"] == "queued"
    assert end(process, signal.SIGINT) == 0
    eventually_sync(lambda: person.left_behind() == [])


def test_what_up_tells_can_be_pasted_and_holds_no_secret(person: Person) -> None:
    process, client = up(person, free_port())
    client.close()
    command = person.err.partition("Submit a task\n")[2].partition("\n\n")[0]
    answer = subprocess.run(["sh", "-c", command], cwd=person.home, capture_output=True, text=True, timeout=30)
    assert '"task_id"' in answer.stdout, answer
    assert person.token not in person.err + person.out
    onboard = person.err.partition("Onboard an agent\n")[2].strip() + " --process-manager none"
    done = subprocess.run(
        ["sh", "-c", onboard],
        cwd=person.home,
        env={**os.environ, "HOME": str(person.home), "PATH": os.defpath},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=START_S,
    )
    assert (done.returncode, "my-agent is set up" in done.stdout) == (0, True), done
    listed = person.run("tasks", "list", "--json")
    assert "Say hello" in listed.stdout, listed
    end(process)


def test_a_second_signal_ends_it_at_once(person: Person) -> None:
    process, client = up(person, free_port())
    with client:
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
        assert process.wait(STOP_S) == 0
    eventually_sync(lambda: person.left_behind() == [])


def test_a_killed_hub_leaves_nothing_and_loses_nothing(person: Person) -> None:
    port = free_port()
    process, client = up(person, port)
    with client:
        task_id = client.post("/api/tasks", json={"description": "acknowledged"}).json()["task_id"]
    process.kill()
    process.wait()
    eventually_sync(lambda: person.left_behind() == [])
    process, client = up(person, port)
    with client:
        assert client.get(f"/api/tasks/{task_id}").status_code == 200
    end(process)


def test_a_port_in_use_is_one_sentence(person: Person) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for command in (["up"], ["demo", "--exit"]):
            done = person.run(*command, PORT=str(port), AGENTCOM_LOG_FORMAT="json")
            assert done.returncode == 1
            assert done.stderr == (
                f"agentcom: 127.0.0.1:{port} is already in use: "
                "stop what listens there, or choose another port with PORT=.\n"
            )
            assert "Traceback" not in done.stdout
    assert person.left_behind() == []


def test_a_data_directory_in_use_is_one_sentence(person: Person) -> None:
    process, client = up(person, free_port())
    client.close()
    done = person.run("up", PORT=str(free_port()), AGENTCOM_LOG_FORMAT="json")
    assert done.returncode == 1
    assert f"is in use by another run (process {process.pid})" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    end(process)


def test_a_setting_that_makes_no_sense_is_one_sentence(person: Person) -> None:
    for arguments in (["up"], ["demo"], ["admin", "stats"]):
        done = person.run(*arguments, AGENTCOM_SWEEP_BATCH="many")
        assert done.returncode == 2
        assert done.stderr.startswith("agentcom: setting sweep_batch: ")
        assert len(done.stderr.splitlines()) == 1


# -- admin -----------------------------------------------------------------------------------------------------------


def test_admin_works_on_a_running_hub_and_on_a_stopped_one(person: Person) -> None:
    process, client = up(person, free_port())
    with client:
        made = person.run("admin", "token", "create", "--agent-id", "ops")
        assert made.returncode == 0, made.stderr
        path = person.home / ".data" / "ops.token"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert path.read_text().strip() not in made.stdout
        client.headers["authorization"] = f"Bearer {path.read_text().strip()}"
        assert client.get("/api/tasks").status_code == 200
        again = person.run("admin", "token", "create", "--agent-id", "ops")
        assert (again.returncode, again.stderr) == (
            1,
            "agentcom: .data/ops.token exists already: name another file by --out.\n",
        )
        client.post("/api/tasks", json={"description": "counted", "priority": "urgent"})
        shown = person.run("admin", "stats")
        assert re.search(r"queued +1 +· +· +· +1", shown.stdout), shown.stdout
        assert "scheduler" in shown.stdout
        checked = person.run("admin", "check")
        assert (checked.returncode, checked.stdout) == (
            0,
            "All is well: every submitted task is accounted for (1 in all).\n",
        )
    end(process)
    printed = person.run("admin", "token", "create", "--agent-id", "worker", "--role", "agent", "--stdout")
    assert printed.returncode == 0, printed.stderr
    process, client = up(person, free_port())
    with client:
        client.headers["authorization"] = f"Bearer {printed.stdout.strip()}"
        assert client.get("/api/tasks").status_code == 200
    end(process)


@pytest.mark.parametrize(
    ("arguments", "settings", "sentence"),
    [
        (["check"], {}, "there is no hub in .data: start one by `agentcom up`"),
        (["token", "create"], {}, "there is no hub in .data: start one by `agentcom up`"),
        (["stats"], {"AGENTCOM_REDIS_URL": "redis://127.0.0.1:1"}, "The Redis of AGENTCOM_REDIS_URL does not answer"),
        (["check"], {"AGENTCOM_REDIS_URL": "nonsense"}, "AGENTCOM_REDIS_URL is no usable Redis URL"),
    ],
)
def test_admin_without_a_store_is_one_sentence(
    person: Person, arguments: list[str], settings: dict[str, str], sentence: str
) -> None:
    done = person.run("admin", *arguments, **settings)
    assert done.returncode == 1
    assert done.stderr.startswith(f"agentcom: {sentence}"), done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (person.home / ".data" / "admin.token").exists()


def test_admin_refuses_names_that_make_no_sense(person: Person) -> None:
    for arguments, sentence in (
        (["--agent-id", "a b"], "'a b' can't be an agent id"),
        (["--agent-id", "broadcast"], "'broadcast' can't be an agent id"),
        (["--role", "king"], "'king' is no role: it is one of agent, operator, admin."),
    ):
        done = person.run("admin", "token", "create", *arguments)
        assert done.returncode == 1
        assert done.stderr.startswith(f"agentcom: {sentence}"), done.stderr


# -- the demo --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_demo_completes_its_batch_and_leaves_nothing_behind(person: Person) -> None:
    done = person.run("demo", "--exit", PORT=str(free_port()), AGENTCOM_REDIS_URL="redis://127.0.0.1:1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"All 24 tasks completed in .* s, 2 of them at the second attempt\.", done.stdout)
    assert "\x1b" not in done.stdout, "escape codes without a terminal"
    assert done.stderr == ""
    assert person.left_behind() == []


def test_the_demo_keeps_off_another_hub(person: Person, tmp_path: Path) -> None:
    port = free_port()
    process, client = up(person, port)
    other = Person(tmp_path / "other")
    other.home.mkdir()
    with client:
        done = other.run("demo", "--exit", PORT=str(port))
        assert done.returncode == 1
        assert "is already in use" in done.stderr
        assert [token["agent_id"] for token in client.get("/admin/tokens").json()["tokens"]] == ["admin"]
    end(process)


@pytest.mark.slow
def test_ctrl_c_ends_the_demo_cleanly(person: Person) -> None:
    """On a terminal, where it goes to the whole process group."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(person.home)
        command = [sys.executable, "-m", "services.local", "demo", "--port", str(free_port())]
        os.execvpe(command[0], command, {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "40"})
    seen = ""
    try:
        while "until Ctrl-C" not in seen:
            seen += os.read(terminal, 65536).decode(errors="replace")
        os.write(terminal, b"\x03")
        while True:
            seen += os.read(terminal, 65536).decode(errors="replace")
    except OSError:  # the terminal is closed with its last process
        pass
    finally:
        os.close(terminal)
        _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, seen[-2000:]
    assert "All 24 tasks completed" in seen
    assert "demo-allrounder" in seen
    assert (person.home / ".data" / "demo" / "admin.token").read_text().strip() not in seen
    assert person.left_behind() == []


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a watchdog needs a second or two more")
def test_a_killed_demo_leaves_nothing_behind(person: Person) -> None:
    process = person.start("demo", PORT=str(free_port()))

    def running() -> None:
        assert process.poll() is None, person.err
        assert "completed" in person.out

    eventually_sync(running, timeout=START_S)
    process.kill()
    process.wait()
    eventually_sync(lambda: person.left_behind() == [], timeout=STOP_S)
