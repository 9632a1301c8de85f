"""Running a short-lived program to its end without blocking the loop: arguments, a time limit, bounded output."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agentcom_sidecar.process import group_exists, signal_group

MAX_OUTPUT_BYTES = 4 * 1024 * 1024
TERM_GRACE = 3.0
PIPE_GRACE = 1.0
CHUNK = 64 * 1024


class CallTimeout(Exception):
    """The program did not end in time; it and its process group were ended."""


@dataclass(frozen=True, slots=True)
class Finished:
    """How a program ended. Of each stream at most `MAX_OUTPUT_BYTES` from its beginning."""

    returncode: int
    stdout: str
    stderr: str

    @property
    def complaint(self) -> str:
        """The end of what it said about its failure, on one line."""
        text = " ".join((self.stderr.strip() or self.stdout.strip()).split())
        return text[-500:] or f"exit status {self.returncode}"


async def call(
    argv: Sequence[str | bytes], *, timeout: float, cwd: Path | None = None, env: Mapping[str, str]
) -> Finished:
    """Run a program in a session of its own, without a terminal, for at most ``timeout`` seconds.

    Raises CallTimeout, or OSError when it cannot be started. When the caller is cancelled, the program is ended.
    """
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=cwd,
        env=dict(env),
        start_new_session=True,
    )
    readers = [asyncio.create_task(_read(stream)) for stream in (process.stdout, process.stderr)]
    try:
        async with asyncio.timeout(timeout):
            await process.wait()
        # A helper that the program left behind may keep the pipes open for ever.
        await asyncio.wait(readers, timeout=PIPE_GRACE)
    except TimeoutError:
        raise CallTimeout(f"{os.fsdecode(argv[0])} did not finish within {timeout:g} seconds") from None
    finally:
        if process.returncode is None:
            await _end(process)
        for reader in readers:
            reader.cancel()
        texts = await asyncio.gather(*readers, return_exceptions=True)
    stdout, stderr = (text if isinstance(text, str) else "" for text in texts)
    return Finished(process.returncode if process.returncode is not None else -1, stdout, stderr)


async def _read(stream: asyncio.StreamReader | None) -> str:
    data = bytearray()
    with contextlib.suppress(asyncio.CancelledError):
        while stream is not None and (chunk := await stream.read(CHUNK)):
            data += chunk[: MAX_OUTPUT_BYTES - len(data)]
    return data.decode("utf-8", "replace")


async def _end(process: asyncio.subprocess.Process) -> None:
    signal_group(process.pid, signal.SIGTERM)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(TERM_GRACE):
            await process.wait()
    if group_exists(process.pid):
        signal_group(process.pid, signal.SIGKILL)
    await process.wait()
