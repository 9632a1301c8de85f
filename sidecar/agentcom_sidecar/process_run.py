"""An agent that is a child process, under a recorder that outlives the sidecar.

The folder's ``lock`` is taken before the runner process is started and is inherited by it:

====================  ======================  ========================================
lock held             the runner is alive     adopt it
``ended.json``        it ended                its status counts
``began.json`` only   it was killed           the agent may have worked: never again
none of these         no agent was started    may be started
====================  ======================  ========================================
"""

import asyncio
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from agentcom_sidecar import runner, wake
from agentcom_sidecar.config import ENVIRONMENT_PREFIX, SidecarConfig
from agentcom_sidecar.files import read_object, read_tail, to_json, write_atomic
from agentcom_sidecar.journal import Task
from agentcom_sidecar.process import group_exists, is_locked, signal_group, take_lock
from agentcom_sidecar.protocol import ReportType
from agentcom_sidecar.result import Exit, Outcome, failed, from_exit
from agentcom_sidecar.run import Run

RUNNER = str(Path(runner.__file__).resolve())
POLL_STOPPING = 0.05
KILL_TIMEOUT = 5.0


class ProcessRun(Run):
    """The agent process of one task."""

    def __init__(self, config: SidecarConfig, task: Task) -> None:
        super().__init__(config, task)
        self._lock = self.dir / "lock"
        self._process: asyncio.subprocess.Process | None = None

    @property
    def alive(self) -> bool:
        """Whether the runner, and so the agent, still runs."""
        if self._process is not None:
            return self._process.returncode is None
        return is_locked(self._lock)

    @property
    def never_started(self) -> bool:
        """Whether it is certain that no agent began on this run."""
        return super().never_started and not (self.dir / "ended.json").exists()

    def argv(self) -> list[str]:
        """What to run. Raises WakeError."""
        template = self._config.wake_command or ()
        wants = any("${MESSAGE" in argument for argument in template)
        text = self.message() if wants else ""
        if wants:
            write_atomic(self.paths.message, text.encode())
        return wake.build_argv(template, self.task, self.paths, self.place, message=text)

    def conclude(self, ended: Exit) -> Outcome:
        """The outcome of an agent that ended without a result file. Blocks on the disk."""
        limit = self._config.output_limit_bytes
        stderr, _ = read_tail(self.dir / "stderr", limit)
        stdout = read_tail(self.dir / "stdout", limit)
        return from_exit(ended, stdout=stdout, stderr=stderr, need=self._config.result)

    async def wake(self) -> None:
        """Start the runner. Raises WakeError or OSError."""
        order_path = self.dir / "order.json"
        order = await asyncio.to_thread(self._order)
        await asyncio.to_thread(write_atomic, order_path, to_json(order))
        lock = take_lock(self._lock)
        try:
            with (self.dir / "runner.log").open("ab") as errors:
                self._process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-I", "-S", RUNNER, str(order_path), str(lock)),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.DEVNULL,
                    stderr=errors,
                    env={name: value for name, value in os.environ.items() if not name.startswith(ENVIRONMENT_PREFIX)},
                    cwd=self.dir,
                    pass_fds=(lock,),
                    start_new_session=True,
                )
        finally:
            os.close(lock)
        self._log.info("wake_attempt", program=order["argv"][0], attempt=self.task.attempt, agent_pid=self._process.pid)

    async def watch(self) -> Outcome:
        """Wait for the outcome; when it is there, the agent has ended or was stopped."""
        while True:
            running = self.alive
            ended = None if running else await asyncio.to_thread(self._read_end)
            waiting = self._config.result_mode == "deferred" and ended is not None and ended.returncode == 0
            self.note_confirmation()
            outcome = await self.look(final=not running and not waiting)
            if outcome is not None:
                await self._let_finish()
                return await asyncio.to_thread(self._with_output, outcome)
            if ended is not None and not waiting:
                return await asyncio.to_thread(self.conclude, ended)
            if not running and not waiting:
                if self._process is not None:  # Just ended as our child: its number cannot have been used again yet.
                    await self._end_group(self._process.pid, self._config.kill_grace_ms / 1000)
                return failed("agent_lost: the agent was killed and left neither a result nor an exit status")
            if ended is not None and self._confirmation_overdue(ended):
                return failed("confirmation_timeout")
            if self.overdue:
                return await self.time_out()
            await self._pause()

    async def stop(self, *, grace: float | None = None) -> None:
        """End the agent and everything in its process group: SIGTERM, a grace in seconds, SIGKILL.

        Once the runner has ended there is nothing to stop: what a detached agent left in the group is its own
        business, and the group's number may belong to somebody else by now.
        """
        group = await self._group()
        if group is not None and self.alive:
            await self._end_group(group, self._config.kill_grace_ms / 1000 if grace is None else grace)

    async def _end_group(self, group: int, grace: float) -> None:
        signal_group(group, signal.SIGTERM)
        if await self._gone(group, within=grace):
            return
        self._log.warning("agent_killed", grace_seconds=grace)
        signal_group(group, signal.SIGKILL)
        await self._gone(group, within=KILL_TIMEOUT)

    def _order(self) -> dict[str, Any]:
        """What the runner is told. Raises WakeError."""
        return {
            "argv": self.argv(),
            "env": self.agent_environment(),
            "cwd": str(self.place.folder),
            "stdin": str(self.paths.task),
            "stdout": str(self.dir / "stdout"),
            "stderr": str(self.dir / "stderr"),
            "began": str(self._began),
            "ended": str(self.dir / "ended.json"),
        }

    def _read_end(self) -> Exit | None:
        try:
            stored = read_object(self.dir / "ended.json")
            return None if stored is None else Exit(**stored)
        except (ValueError, TypeError, OSError) as error:
            self._log.error("run_unreadable", error=str(error))
            return None

    def _with_output(self, outcome: Outcome) -> Outcome:
        """A result from a file, with the end of what the agent printed beside it."""
        limit = self._config.output_tail_bytes
        tail, _ = read_tail(self.dir / "stdout", limit) if limit else ("", False)
        if outcome.type is not ReportType.COMPLETE or not tail.strip():
            return outcome
        result = {"output_tail": tail, **outcome.body["result"]}
        return Outcome(outcome.type, {**outcome.body, "result": result})

    async def _let_finish(self) -> None:
        """Give an agent that has written its result time to end by itself, then end it."""
        deadline = time.monotonic() + self._config.kill_grace_ms / 1000
        while self.alive and time.monotonic() < deadline:
            await self._pause()
        if self.alive:
            self._log.warning("agent_lingers", note="stopped after it had written its result")
            await self.stop()

    def _confirmation_overdue(self, ended: Exit) -> bool:
        return not self._confirmed and time.time() > ended.ended_at + self._config.confirmation_timeout_ms / 1000

    async def _pause(self) -> None:
        """Wait one polling interval, or less when the agent ends."""
        interval = self._config.result_poll_ms / 1000
        if self._process is None or self._process.returncode is not None:
            await asyncio.sleep(interval)
            return
        try:
            async with asyncio.timeout(interval):
                await self._process.wait()
        except TimeoutError:
            return

    async def _group(self) -> int | None:
        """The process group, which is the runner's pid; waits for a runner that is only just starting."""
        if self._process is not None:
            return self._process.pid
        while self.alive and not self._began.exists():  # noqa: ASYNC110 - another process makes it true
            await asyncio.sleep(POLL_STOPPING)
        if not self.alive:
            return None
        stored = await asyncio.to_thread(read_object, self._began)
        return int(stored["pid"]) if stored else None

    async def _gone(self, group: int, *, within: float) -> bool:
        deadline = time.monotonic() + within
        while self.alive or group_exists(group):
            if time.monotonic() >= deadline:
                return False
            await asyncio.sleep(POLL_STOPPING)
        return True
