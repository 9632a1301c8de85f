"""One run of an agent for one task, however the agent is woken: its folder, its files, its outcome.

Everything about a run is in ``<data_dir>/runs/<task_id>/``, so at any moment, whoever was killed, the folder tells
what may be done: nothing but the task's files there means that no agent was woken, so one may be.
"""

import asyncio
import os
import shutil
import time
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import structlog

from agentcom_sidecar.config import SidecarConfig
from agentcom_sidecar.files import make_private_dir, read_object, sync_dir, to_json, write_atomic
from agentcom_sidecar.journal import Task
from agentcom_sidecar.message import build_message
from agentcom_sidecar.protocol import ReportType
from agentcom_sidecar.result import MalformedResultError, Outcome, failed, read_result
from agentcom_sidecar.wake import Paths, Place, build_environment, task_document
from agentcom_sidecar.workspace import Workspace

MALFORMED_PATIENCE = 2.0
"""Seconds that a malformed file must stay unchanged to be taken for finished when no process's end tells."""


@dataclass(slots=True)
class _Suspect:
    """A result file that is not JSON: its identity, what is wrong, and since when (monotonic) it is so."""

    stamp: tuple[int, int]
    problem: str
    since: float


class Run(ABC):
    """What all ways to wake an agent have in common."""

    def __init__(self, config: SidecarConfig, task: Task) -> None:
        self.task = task
        self._config = config
        self._log = structlog.get_logger().bind(task_id=task.task_id)
        self.dir = config.data_dir / "runs" / task.task_id
        self.paths = Paths(
            task=self.dir / "task.json",
            result=config.results_dir / f"{task.task_id}.json",
            started=config.results_dir / f"{task.task_id}.started",
            description=self.dir / "description.txt",
            message=self.dir / "message.txt",
        )
        self._began = self.dir / "began.json"
        self._suspect: _Suspect | None = None
        self._confirmed = False
        self._git_warning = ""

    # ---- what each way does in its own way

    @property
    @abstractmethod
    def alive(self) -> bool:
        """Whether an agent works that could be stopped."""

    @property
    def never_started(self) -> bool:
        """Whether it is certain that no agent was woken on this run."""
        return not (self.alive or self._began.exists())

    @abstractmethod
    async def wake(self) -> None:
        """Wake the agent, or record how, so that `watch` can. Raises WakeError or OSError."""

    @abstractmethod
    async def watch(self) -> Outcome:
        """Wait for the outcome; when it is there, the agent has ended or was stopped."""

    @abstractmethod
    async def stop(self, *, grace: float | None = None) -> None:
        """End the agent, within about this many seconds."""

    # ---- the folder

    def prepare(self) -> None:
        """A clean slate. Blocks on the disk."""
        self.clean_up()
        make_private_dir(self.dir)
        make_private_dir(self._config.results_dir)
        sync_dir(self.dir.parent)

    async def start(self, workspace: Workspace | None, *, git_warning: str = "") -> None:
        """Write the task down for the agent and wake it. Raises WakeError or OSError."""
        if workspace is not None:
            await asyncio.to_thread(write_atomic, self.dir / "workspace.json", to_json(workspace.stored()))
        self._git_warning = git_warning
        await asyncio.to_thread(self._write_task)
        await self.wake()

    def clean_up(self) -> None:
        """Remove the files of the run and what the agent left in the results folder. Blocks on the disk."""
        for path in (self.paths.result, self.paths.started):
            path.unlink(missing_ok=True)
            path.with_name(f"{path.name}.tmp").unlink(missing_ok=True)
        shutil.rmtree(self.dir, ignore_errors=True)

    def _write_task(self) -> None:
        write_atomic(self.paths.task, task_document(self.task, self.paths, self.place))
        write_atomic(self.paths.description, self.task.description.encode())

    @property
    def workspace(self) -> Workspace | None:
        """Where the agent works, if that was prepared by git."""
        try:
            stored = read_object(self.dir / "workspace.json")
            return None if stored is None else Workspace.from_stored(stored)
        except (ValueError, TypeError, KeyError, OSError) as error:
            self._log.error("run_unreadable", error=str(error))
            return None

    @property
    def place(self) -> Place:
        """The folder the agent works in."""
        workspace = self.workspace
        if workspace is None:
            return Place(folder=self._config.repo_dir or self._config.base_dir, git_warning=self._git_warning)
        return Place(
            folder=Path(workspace.path),
            branch=workspace.branch,
            base_commit=workspace.base_commit,
            git_warning=workspace.warning or "",
        )

    def message(self) -> str:
        """What an agent that is woken by a message is told."""
        folder = str(self.place.folder)
        return build_message(self._config.agent_id, self.task, self.paths, self.workspace, folder=folder)

    def agent_environment(self) -> dict[str, str]:
        """The environment of an agent that is a child process."""
        return build_environment(
            os.environ,
            allow=self._config.env_allow,
            secrets=self._config.secrets,
            agent_id=self._config.agent_id,
            task=self.task,
            paths=self.paths,
            place=self.place,
        )

    # ---- the outcome

    def stored_outcome(self) -> Outcome | None:
        """The outcome that `store_outcome` kept. Blocks on the disk."""
        try:
            stored = read_object(self.dir / "outcome.json")
            return None if stored is None else Outcome(ReportType(stored["type"]), dict(stored["body"]))
        except (ValueError, TypeError, KeyError, OSError) as error:
            self._log.error("run_unreadable", error=str(error))
            return None

    def store_outcome(self, outcome: Outcome) -> None:
        """Keep the outcome for a restart; durable on return. Blocks on the disk."""
        write_atomic(self.dir / "outcome.json", to_json(asdict(outcome)))

    def has_result(self) -> bool:
        """Whether a well-formed result file is there."""
        try:
            return read_result(self.paths.result) is not None
        except MalformedResultError:
            return False

    async def look(self, *, final: bool) -> Outcome | None:
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

    async def await_file(self) -> Outcome:
        """Wait for the result file and nothing else."""
        while True:
            self.note_confirmation()
            outcome = await self.look(final=False)
            if outcome is not None:
                return outcome
            if self.overdue:
                return await self.time_out()
            await asyncio.sleep(self._config.result_poll_ms / 1000)

    def note_confirmation(self) -> None:
        """Notice that the agent has said it began."""
        if not self._confirmed and self.paths.started.exists():
            self._confirmed = True
            self._log.info("confirmation_received")

    @property
    def overdue(self) -> bool:
        """Whether the task takes longer than it may."""
        limit = self._config.wake_timeout_ms / 1000
        return limit > 0 and self.task.started_at is not None and time.time() > self.task.started_at + limit

    async def time_out(self) -> Outcome:
        """Stop an agent that is overdue; a result that it wrote at the last moment still counts."""
        await self.stop()
        limit = self._config.wake_timeout_ms / 1000
        return await self.look(final=False) or failed(
            f"wake_timeout: the agent did not finish within {limit:g} s and was stopped"
        )

    def mark_began(self, value: dict[str, Any]) -> None:
        """Record that the agent was woken; durable on return. Blocks on the disk."""
        write_atomic(self._began, to_json(value))


class ExternalRun(Run):
    """The wait for an agent that is woken by somebody else."""

    @property
    def alive(self) -> bool:
        """Nothing here could be stopped."""
        return False

    async def wake(self) -> None:
        """Only record that the task may be worked on from now."""
        await asyncio.to_thread(self.mark_began, {"external": True})
        self._log.info("wake_skipped", result_file=str(self.paths.result))

    async def watch(self) -> Outcome:
        """Wait for the result file."""
        return await self.await_file()

    async def stop(self, *, grace: float | None = None) -> None:
        """Nothing to stop."""
