"""A Redis of our own for one data directory: started with the hub, stopped with it, never left behind.

It listens on a Unix socket that only this user can open, or on a port of the loopback address. Its data survives a
SIGKILL of any process; the next start continues on it.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final, Literal

import structlog

from services.local.redis_binary import find_redis
from services.runtime import StartupError

log = structlog.get_logger(__name__)

AppendFsync = Literal["always", "everysec", "no"]

_START_TIMEOUT_S: Final = 120.0  # includes loading a large append-only file
_STOP_TIMEOUT_S: Final = 20.0
_POLL_S: Final = 0.01
_LOCK_WAIT_S: Final = 20.0
_PORT_TRIES: Final = 5
_SOCKET_PATH_MAX: Final = 100  # bytes; sun_path holds 104 on macOS, 108 on Linux

# Linux: the child asks the kernel to be terminated with the thread that started it, and then becomes the server.
# Asking from a process of its own instead of a preexec_fn is safe in a program with threads.
_EXEC_BOUND_TO_PARENT: Final = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the process that wanted this server is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""
# Elsewhere: a shell that looks every second.
_WATCHDOG: Final = 'while kill -0 "$1" 2>/dev/null && kill -0 "$2" 2>/dev/null; do sleep 1; done; kill "$2" 2>/dev/null'


class RedisStartError(StartupError):
    """The server did not come up; the message ends with its own last words."""


class DataDirInUse(StartupError):
    """Another run holds this data directory."""


class EmbeddedRedis:
    """One server on ``<data_dir>/redis``. Start it from the main thread: on Linux it ends with the thread that did.

    ``port`` None listens on a Unix socket, 0 on a free port of 127.0.0.1; either stays the same over restarts.
    ``persistent`` False keeps nothing on disk, for tests. RedisComponent looks after it under a supervisor; whoever
    made it calls ``stop`` in the end.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        appendfsync: AppendFsync = "always",
        port: int | None = None,
        persistent: bool = True,
        binary: Path | None = None,
    ) -> None:
        self.dir = data_dir.absolute() / "redis"
        self._appendfsync = appendfsync
        self._persistent = persistent
        self._binary = binary
        self._port = port
        self._port_is_ours = port == 0
        self._socket_dir: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None
        self._lock: int | None = None

    # -- where it is -----------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """What clients connect to; known once it was started."""
        return f"unix://{self._socket_path}" if self._port is None else f"redis://127.0.0.1:{self._port}/0"

    @property
    def port(self) -> int | None:
        return self._port

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        return self._process.pid if self._process is not None and self.running else None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def _socket_path(self) -> Path:
        return (self._socket_dir or self.dir) / "redis.sock"

    # -- life ------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start it, or start it again, and return when it has loaded its data.

        Raises RedisNotFound, DataDirInUse or RedisStartError, each with a sentence that says what to do.
        """
        for attempt in range(1, _PORT_TRIES + 1):
            await self._prepare()
            self._spawn()
            deadline = time.monotonic() + _START_TIMEOUT_S
            while self.running:
                if self._answers():
                    log.info("redis_started", server=str(self._binary), pid=self.pid, url=self.url, dir=str(self.dir))
                    return
                if time.monotonic() >= deadline:
                    raise self._failed(f"did not answer within {_START_TIMEOUT_S:g} s")
                await asyncio.sleep(_POLL_S)
            if "already in use" not in self._last_words():
                raise self._failed("did not start")
            if not self._port_is_ours or attempt == _PORT_TRIES:
                break
            self._port = 0  # somebody took the free port in the meantime
        taken = self._port
        self.stop()
        raise RedisStartError(f"port {taken} is already in use: choose another one for the embedded Redis.")

    def start_blocking(self) -> None:
        """The same without an event loop."""
        with asyncio.Runner() as runner:
            runner.run(self.start())

    def kill(self) -> None:
        """SIGKILL, as a crash would be. The data directory stays ours; ``start`` continues on it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._end_watchdog()

    def stop(self) -> None:
        """Let it write and exit, and give the data directory back. Does nothing when it is not running."""
        if self._process is not None and self.running:
            self._process.terminate()
            try:
                self._process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                log.warning("redis_killed", reason=f"it did not stop within {_STOP_TIMEOUT_S:g} s")
                self.kill()
        self._process = None
        self._end_watchdog()
        self._unlock()
        if self._socket_dir is not None:
            shutil.rmtree(self._socket_dir, ignore_errors=True)
            self._socket_dir = None

    async def _prepare(self) -> None:
        """Have a binary, the data directory to ourselves, and an address."""
        if self.running:
            raise RuntimeError("the embedded Redis is running already")
        self._binary = self._binary or find_redis()
        self.dir.mkdir(parents=True, exist_ok=True)
        self.dir.chmod(0o700)
        await self._take_lock()
        if self._port is None:
            if self._socket_dir is None and len(os.fsencode(self._socket_path)) > _SOCKET_PATH_MAX:
                self._socket_dir = Path(tempfile.mkdtemp(prefix="agentcom-"))
        elif self._port == 0:
            self._port = _free_port()

    def _spawn(self) -> None:
        assert self._lock is not None  # noqa: S101 - prepared
        command = bound_to_parent([str(self._binary), *self._arguments()])
        with self._log_path.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                cwd=self.dir,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # Ctrl-C goes to a whole process group; the server must outlive the hub's draining.
                start_new_session=True,
                # The server holds the lock too, so that it is not free before both are gone.
                pass_fds=(self._lock,),
            )
        if sys.platform != "linux":
            self._watchdog = start_watchdog(parent=os.getpid(), child=self._process.pid)

    def _arguments(self) -> list[str]:
        arguments = ["--dir", str(self.dir), "--daemonize", "no", "--maxmemory-policy", "noeviction"]
        if self._port is None:
            arguments += ["--port", "0", "--unixsocket", str(self._socket_path), "--unixsocketperm", "700"]
        else:
            arguments += ["--port", str(self._port), "--bind", "127.0.0.1", "--protected-mode", "yes"]
        if self._persistent:
            arguments += ["--appendonly", "yes", "--appendfsync", self._appendfsync]
            arguments += ["--save", "3600", "1", "300", "100", "60", "10000"]
        else:
            arguments += ["--appendonly", "no", "--save", ""]
        return arguments

    def _answers(self) -> bool:
        """Whether it serves commands; while it loads its data, it refuses them."""
        family, address = (
            (socket.AF_UNIX, str(self._socket_path))
            if self._port is None
            else (socket.AF_INET, ("127.0.0.1", self._port))
        )
        with socket.socket(family, socket.SOCK_STREAM) as connection:
            connection.settimeout(1.0)
            try:
                connection.connect(address)
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith(b"+PONG")
            except OSError:
                return False

    # -- when it does not come up ------------------------------------------------------------------------------------

    @property
    def _log_path(self) -> Path:
        return self.dir / "redis.log"

    def _failed(self, how: str) -> RedisStartError:
        words = self._last_words()
        self.stop()
        return RedisStartError(f"the embedded Redis in {self.dir} {how}; its log ends with: {words}")

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            lines = self._log_path.read_text(errors="replace").strip().splitlines()
            return " | ".join(line.strip() for line in lines[-3:]) or "(nothing)"
        return "(nothing)"

    def _end_watchdog(self) -> None:
        if self._watchdog is not None:
            self._watchdog.kill()
            self._watchdog.wait()
            self._watchdog = None

    # -- one run for each data directory -----------------------------------------------------------------------------

    async def _take_lock(self) -> None:
        if self._lock is not None:
            return
        lock = os.open(self.dir / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + _LOCK_WAIT_S
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                owner = os.pread(lock, 20, 0).decode().strip()
                # A dead owner's server is still writing its data: it lets go in a moment.
                if _is_alive(owner) or time.monotonic() >= deadline:
                    os.close(lock)
                    raise DataDirInUse(
                        f"{self.dir.parent} is in use by another run (process {owner or 'unknown'}): "
                        "stop that one, or set AGENTCOM_DATA_DIR to another directory."
                    ) from None
                await asyncio.sleep(_POLL_S)
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
        self._lock = lock

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def bound_to_parent(command: list[str]) -> list[str]:
    """The command, made to end by SIGTERM with the thread that starts it; on Linux only."""
    if sys.platform != "linux":
        return command
    return [sys.executable, "-I", "-S", "-c", _EXEC_BOUND_TO_PARENT, str(os.getpid()), *command]


def start_watchdog(*, parent: int, child: int) -> subprocess.Popen[bytes]:
    """A process that terminates ``child`` within about a second of ``parent``'s end, however that ends."""
    return subprocess.Popen(
        ["/bin/sh", "-c", _WATCHDOG, "watchdog", str(parent), str(child)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _is_alive(pid: str) -> bool:
    if not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
