"""Running other programs from the commands: argument lists, a time limit, no terminal, no secrets."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agentcom_sidecar.secrets_input import child_environment

NOT_FOUND = 127
TIMED_OUT = 124


@dataclass(frozen=True, slots=True)
class Finished:
    """How a program ended; 127: it is not there, 124: it took too long and was killed."""

    returncode: int
    stdout: str
    stderr: str

    @property
    def ok(self) -> bool:
        """Whether it succeeded."""
        return self.returncode == 0

    @property
    def complaint(self) -> str:
        """The end of what it said about its failure, on one line."""
        text = " ".join((self.stderr.strip() or self.stdout.strip()).split())
        return text[-500:] or f"exit status {self.returncode}"


def run_program(
    argv: Sequence[str], *, timeout: float, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> Finished:
    """Run a program to its end (seconds). ``env`` is added to ours. Never raises for what the program does.

    It gets a session of its own, so it cannot ask anything on our terminal, and a time limit ends all of it.
    """
    try:
        process = subprocess.Popen(
            list(argv),
            cwd=cwd,
            env=child_environment(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            encoding="utf-8",
            errors="replace",
        )
    except OSError as error:
        return Finished(NOT_FOUND, "", f"cannot start {argv[0]}: {error.strerror}")
    try:
        stdout, stderr = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        _kill(process)
        return Finished(TIMED_OUT, "", f"{argv[0]} did not finish within {timeout:g} seconds")
    except BaseException:
        _kill(process)
        raise
    return Finished(process.returncode, stdout, stderr)


def _kill(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()
