"""One run of an agent for one task: start it or find it again, watch for its outcome, stop it.

Everything about a run is in ``<data_dir>/runs/<task_id>/``. Its ``lock`` is taken before the runner process is
started and is inherited by it, so at any moment, whoever was killed, the folder tells the truth:

====================  ======================  ========================================
lock held             the runner is alive     adopt it
``ended.json``        it ended                its status counts
``began.json`` only   it was killed           the agent may have worked: never again
none of these         no agent was started    may be started
====================  ======================  ========================================
"""

import asyncio
import os
import shutil
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from agentcom_sidecar import runner, wake
from agentcom_sidecar.config import TOKEN_VARIABLE, SidecarConfig
from agentcom_sidecar.files import make_private_dir, read_object, read_tail, sync_dir, to_json, write_atomic
from agentcom_sidecar.journal import Task
from agentcom_sidecar.process import group_exists, is_locked, signal_group, take_lock
from agentcom_sidecar.result import Exit, MalformedResultError, Outcome, failed, from_exit, read_result

RUNNER = str(Path(runner.__file__).resolve())
POLL_STOPPING = 0.05
KILL_TIMEOUT = 5.0
MALFORMED_PATIENCE = 2.0
"""Seconds that a malformed file must stay unchanged to be taken for finished when no process's end tells."""


@dataclass(slots=True)
class _Suspect:
    """A result file that is not JSON: its identity, what is wrong, and since when (monotonic) it is so."""

    stamp: tuple[int, int]
    problem: str
    since: float


class AgentRun:
    """The agent process of one task, or the wait for one that somebody else wakes."""

    def __init__(self, config: SidecarConfig, task: Task) -> None:
        self.task = task
        self._config = config
        self._log = structlog.get_logger().bind(task_id=task.task_id)
        self._dir = config.data_dir / "runs" / task.task_id
        self.paths = wake.Paths(
            task=self._dir / "task.json",
            result=config.results_dir / f"{task.task_id}.json",
            started=config.results_dir / f"{task.task_id}.started",
        )
        self._lock = self._dir / "lock"
        self._process: asyncio.subprocess.Process | None = None
        self._suspect: _Suspect | None = None
        self._confirmed = False

    @property
    def external(self) -> bool:
        """Whether no process is started here because the agent is woken by other means."""
        return self._config.wake_command is None

    @property
    def alive(self) -> bool:
        """Whether the runner, and so the agent, still runs."""
        if self._process is not None:
            return self._process.returncode is None
        return is_locked(self._lock)

    @property
    def never_started(self) -> bool:
        """Whether it is certain that no agent began on this run."""
        return not (self.external or self.alive or self._began or (self._dir / "ended.json").exists())

    @property
    def _began(self) -> bool:
        return (self._dir / "began.json").exists()

    async def start(self) -> None:
        """Start the agent from a clean slate. Raises WakeError or OSError."""
        await asyncio.to_thread(self._prepare)
        if self.external:
            self._log.info("wake_skipped", result_file=str(self.paths.result))
            return
        order_path = self._dir / "order.json"
        order = self._order()
        await asyncio.to_thread(write_atomic, order_path, to_json(order))
        lock = take_lock(self._lock)
        try:
            with (self._dir / "runner.log").open("ab") as errors:
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    *("-I", "-S", RUNNER, str(order_path), str(lock)),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.DEVNULL,
                    stderr=errors,
                    env={name: value for name, value in os.environ.items() if name != TOKEN_VARIABLE},
                    cwd=self._dir,
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
            ended = None if running or self.external else await asyncio.to_thread(self._read_end)
            deferred = self._config.result_mode == "deferred" and ended is not None and ended.returncode == 0
            waiting = self.external or (deferred and not running)
            self._note_confirmation()
            outcome = await self._look(final=not running and not waiting)
            if outcome is not None:
                await self._let_finish()
                return outcome
            if ended is not None and not waiting:
                return await asyncio.to_thread(self._conclude, ended)
            if not running and not waiting:
                if self._process is not None:  # Just ended as our child: its number cannot have been used again yet.
                    await self._end_group(self._process.pid, self._config.kill_grace_ms / 1000)
                return failed("agent_lost: the agent was killed and left neither a result nor an exit status")
            if ended is not None and self._confirmation_overdue(ended):
                return failed("confirmation_timeout")
            if self._overdue():
                await self.stop()
                limit = self._config.wake_timeout_ms / 1000
                return await self._look(final=False) or failed(
                    f"wake_timeout: the agent did not finish within {limit:g} s and was stopped"
                )
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

    def clean_up(self) -> None:
        """Remove the files of the run and what the agent left in the results folder. Blocks on the disk."""
        for path in (self.paths.result, self.paths.started):
            path.unlink(missing_ok=True)
        shutil.rmtree(self._dir, ignore_errors=True)

    def has_result(self) -> bool:
        """Whether a well-formed result file is there."""
        try:
            return read_result(self.paths.result) is not None
        except MalformedResultError:
            return False

    def _order(self) -> dict[str, Any]:
        """What the runner is told. Raises WakeError."""
        return {
            "argv": wake.build_argv(self._config.wake_command or (), self.task, self.paths),
            "env": wake.build_environment(
                os.environ,
                allow=self._config.env_allow,
                token=self._config.token.get_secret_value(),
                agent_id=self._config.agent_id,
                task=self.task,
                paths=self.paths,
            ),
            "cwd": str(self._config.repo_dir or self._config.base_dir),
            "stdin": str(self.paths.task),
            "stdout": str(self._dir / "stdout"),
            "stderr": str(self._dir / "stderr"),
            "began": str(self._dir / "began.json"),
            "ended": str(self._dir / "ended.json"),
        }

    def _prepare(self) -> None:
        self.clean_up()
        make_private_dir(self._dir)
        make_private_dir(self._config.results_dir)
        write_atomic(self.paths.task, wake.task_document(self.task, self.paths))
        sync_dir(self._dir.parent)

    def _read_end(self) -> Exit | None:
        try:
            stored = read_object(self._dir / "ended.json")
            return None if stored is None else Exit(**stored)
        except (ValueError, TypeError, OSError) as error:
            self._log.error("run_unreadable", error=str(error))
            return None

    def _conclude(self, ended: Exit) -> Outcome:
        limit = self._config.output_limit_bytes
        stderr, _ = read_tail(self._dir / "stderr", limit)
        stdout = read_tail(self._dir / "stdout", limit)
        return from_exit(ended, stdout=stdout, stderr=stderr, need_file=self._config.result_mode == "file")

    async def _look(self, *, final: bool) -> Outcome | None:
        """The outcome that the result file states; a malformed one counts only when nobody writes it any more."""
        try:
            return await asyncio.to_thread(read_result, self.paths.result)
        except MalformedResultError as error:
            problem = str(error)
        if final:
            return failed(f"result_parse_error: {problem}")
        try:
            stat = self.paths.result.stat()
        except FileNotFoundError:
            return None
        now, stamp = time.monotonic(), (stat.st_size, stat.st_mtime_ns)
        if self._suspect is None or self._suspect.stamp != stamp:
            self._suspect = _Suspect(stamp, problem, now)
        elif not self.alive and now - self._suspect.since >= MALFORMED_PATIENCE:
            return failed(f"result_parse_error: {problem}")
        return None

    async def _let_finish(self) -> None:
        """Give an agent that has written its result time to end by itself, then end it."""
        deadline = time.monotonic() + self._config.kill_grace_ms / 1000
        while self.alive and time.monotonic() < deadline:
            await self._pause()
        if self.alive:
            self._log.warning("agent_lingers", note="stopped after it had written its result")
            await self.stop()

    def _note_confirmation(self) -> None:
        if not self._confirmed and self.paths.started.exists():
            self._confirmed = True
            self._log.info("confirmation_received")

    def _confirmation_overdue(self, ended: Exit) -> bool:
        return not self._confirmed and time.time() > ended.ended_at + self._config.confirmation_timeout_ms / 1000

    def _overdue(self) -> bool:
        limit = self._config.wake_timeout_ms / 1000
        return limit > 0 and self.task.started_at is not None and time.time() > self.task.started_at + limit

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
        while self.alive and not self._began:  # noqa: ASYNC110 - another process makes it true
            await asyncio.sleep(POLL_STOPPING)
        if not self.alive:
            return None
        stored = await asyncio.to_thread(read_object, self._dir / "began.json")
        return int(stored["pid"]) if stored else None

    async def _gone(self, group: int, *, within: float) -> bool:
        deadline = time.monotonic() + within
        while self.alive or group_exists(group):
            if time.monotonic() >= deadline:
                return False
            await asyncio.sleep(POLL_STOPPING)
        return True
