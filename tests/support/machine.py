"""An operator's machine: a home folder of its own, in which the sidecar's commands are run as real processes."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import httpx
import psutil
from typer.testing import CliRunner, Result

from agentcom_sidecar.cli import with_operator_commands
from tests.support.eventually import eventually_sync
from tests.support.ports import free_port

TIMEOUT_S = 90.0
_ROOT = Path(__file__).resolve().parents[2]

#: What a task of these descriptions does to the agent; any other is done at once.
AGENT = """#!/bin/sh
task=$(cat)
printf '%s' "$task" > "$HOME/seen-$AGENTCOM_TASK_ID"
case "$task" in
  *"please fail"*) echo "it cannot be done" >&2; exit 3 ;;
  *"take your time"*) sleep 60 ;;
esac
echo "done by $AGENTCOM_AGENT_ID"
"""

PROGRAM = with_operator_commands()


class LocalHub:
    """``agentcom up`` on a port of its own."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.port = free_port()
        self._settings = {"AGENTCOM_DATA_DIR": str(folder / "data"), "AGENTCOM_LOG_FORMAT": "json", **settings}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def admin_token_file(self) -> Path:
        return self.folder / "data" / "admin.token"

    def client(self) -> httpx.Client:
        """A client with the admin's token."""
        token = self.admin_token_file.read_text().strip()
        return httpx.Client(base_url=self.url, headers={"authorization": f"Bearer {token}"}, trust_env=False)

    def start(self) -> None:
        """Returns when it is ready."""
        with (self.folder / "hub.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "services.local", "up"],
                env={**os.environ, **self._settings, "PORT": str(self.port)},
                cwd=_ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

        def ready() -> None:
            assert self._process is not None
            assert self._process.poll() is None, (self.folder / "hub.log").read_text()
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{self.url}/health", trust_env=False).json()["status"] == "ok":
                    return
            raise AssertionError("the hub is not ready")

        eventually_sync(ready, timeout=60)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)
            self._process = None


class Machine:
    """Runs ``agentcom-sidecar`` for one operator, and ends what it has left running."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.bin = home / "bin"
        self.bin.mkdir()
        self.agent = self.script("agent", AGENT)
        self.settings: dict[str, str] = {}

    def script(self, name: str, text: str) -> Path:
        """A program on this machine's PATH."""
        path = self.bin / name
        path.write_text(text)
        path.chmod(0o755)
        return path

    def folder(self, name: str) -> Path:
        """Where an agent lives."""
        return self.home / ".agentcom" / name

    def config(self, name: str) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads((self.folder(name) / "config.json").read_text())
        return loaded

    def progress(self, name: str) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads((self.folder(name) / ".onboard-progress.json").read_text())
        return loaded

    def environment(self, **settings: str) -> dict[str, str]:
        """Nothing of the developer's own agents, hubs or process managers."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AGENTCOM_", "PM2_", "XDG_"))}
        path = os.pathsep.join([str(self.bin), "/usr/bin", "/bin"])
        return {**kept, "HOME": str(self.home), "PATH": path, "PM2_HOME": str(self.home / ".pm2"), **self.settings} | (
            settings
        )

    def run(self, *arguments: object, stdin: str = "", **settings: str) -> subprocess.CompletedProcess[str]:
        """One command, to its end."""
        return subprocess.run(
            self._argv(*arguments),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            env=self.environment(**settings),
            cwd=self.home,
        )

    def invoke(self, *arguments: object) -> Result:
        """One command in this very process: quicker, and enough for what it refuses before it does anything."""
        environment = {"AGENTCOM_HOME": str(self.home / ".agentcom"), "PATH": self.environment()["PATH"]}
        return CliRunner(env=environment).invoke(PROGRAM, [str(argument) for argument in arguments])

    def spawn(self, *arguments: object, **settings: str) -> subprocess.Popen[str]:
        """A command that goes on; what it says is in its ``stdout``."""
        return subprocess.Popen(
            self._argv(*arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self.environment(**settings),
            cwd=self.home,
        )

    def add_agent(self, hub: LocalHub | str, *arguments: object, **settings: str) -> subprocess.CompletedProcess[str]:
        """``add-agent`` with a wake command, without a process manager and a repository unless said otherwise."""
        return self.run("add-agent", *self.add_agent_options(hub), *arguments, **settings)

    def add_agent_options(self, hub: LocalHub | str) -> list[object]:
        url = hub if isinstance(hub, str) else hub.url
        return ["--hub", url, "--wake-command", self.agent, "--process-manager", "none"]

    def processes(self) -> list[psutil.Process]:
        """Everything that still runs here."""
        found = []
        for process in psutil.process_iter(["cmdline", "status"]):
            command = " ".join(process.info["cmdline"] or [])
            if str(self.home) in command and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(process)
        return found

    def clean_up(self) -> None:
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    @staticmethod
    def _argv(*arguments: object) -> list[str]:
        return [sys.executable, "-m", "agentcom_sidecar", *map(str, arguments)]


class Meddler:
    """A proxy before a hub that can lose answers, or answer itself. ``rules``: (method, path prefix) -> a status.

    Status 0: the hub gets the request, but its answer is lost; LOST_ONCE: only that of the first one.
    ``chooses_tokens``: the hub is like the first one, which does not let a client choose its token.
    """

    LOST_ONCE: Final = -1

    def __init__(self, hub: LocalHub, *, chooses_tokens: bool = False) -> None:
        self.rules: dict[tuple[str, str], int] = {}
        self.seen: list[tuple[str, str]] = []
        meddler = self

        class Handler(BaseHTTPRequestHandler):
            def _pass(self) -> None:
                meddler.seen.append((self.command, self.path))
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                if chooses_tokens and self.path == "/api/onboard/register":
                    body = json.dumps({**json.loads(body), "token": None}).encode()
                rule = meddler._rule(self.command, self.path)
                if rule:
                    self._answer(rule, b'{"error":"refused","message":"The proxy does not want this."}')
                    return
                headers = {
                    name: value
                    for name, value in self.headers.items()
                    if name.lower() not in {"host", "connection", "accept-encoding", "content-length"}
                }
                answer = httpx.request(
                    self.command, hub.url + self.path, content=body, headers=headers, trust_env=False, timeout=30
                )
                if rule == 0:
                    self.close_connection = True
                    return
                self._answer(answer.status_code, answer.content)

            def _answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_DELETE = do_PUT = _pass  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def _rule(self, method: str, path: str) -> int | None:
        for (ruled, prefix), status in self.rules.items():
            if ruled == method and path.startswith(prefix):
                if status != self.LOST_ONCE:
                    return status
                del self.rules[ruled, prefix]
                return 0
        return None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Meddler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextlib.contextmanager
def all_command_lines() -> Iterator[set[str]]:
    """Every command line that any process of this machine has while the block runs; those of the moment may escape."""
    seen: set[str] = set()
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            for entry in os.scandir("/proc"):
                if entry.name.isdigit():
                    with contextlib.suppress(OSError):
                        seen.add(
                            Path(entry.path, "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
                        )
            over.wait(0.05)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def new_name() -> str:
    """A name that no other test uses."""
    return f"agent-{secrets.token_hex(4)}"
