"""A task from its acceptance to its outcome: prepare the branch, wake the agent, wait, hand its commits over.

Each step may be repeated after a crash: what was reached is on disk before the next step begins.
"""

import asyncio

import structlog

from agentcom_sidecar import workspace as workspaces
from agentcom_sidecar.config import SidecarConfig
from agentcom_sidecar.git import GitError
from agentcom_sidecar.handover import hand_over
from agentcom_sidecar.journal import Task
from agentcom_sidecar.openclaw_exec_run import OpenClawExecRun
from agentcom_sidecar.openclaw_run import OpenClawRun
from agentcom_sidecar.process_run import ProcessRun
from agentcom_sidecar.protocol import ReportType
from agentcom_sidecar.result import Outcome, failed
from agentcom_sidecar.run import ExternalRun, Run
from agentcom_sidecar.wake import WakeError
from agentcom_sidecar.workspace import Workspace

HANDED_OVER = "handed_over"
NOT_A_REPOSITORY = frozenset({"missing_repo_dir", "repo_dir_not_found", "not_a_git_repo"})


def make_run(config: SidecarConfig, task: Task) -> Run:
    """The run of a task in the configured wake mode."""
    match config.wake_mode:
        case "openclaw":
            return OpenClawRun(config, task)
        case "openclaw-exec":
            return OpenClawExecRun(config, task)
        case "hook":
            from agentcom_sidecar.hook_run import HookRun  # noqa: PLC0415 - only this mode needs an HTTP client

            return HookRun(config, task)
        case "command":
            return ProcessRun(config, task) if config.wake_command else ExternalRun(config, task)


class Job:
    """The work on one task."""

    def __init__(self, config: SidecarConfig, task: Task) -> None:
        self.task = task
        self.run = make_run(config, task)
        self._config = config
        self._log = structlog.get_logger().bind(task_id=task.task_id)

    async def begin(self) -> Outcome | None:
        """Prepare and wake; an outcome if that cannot be done. Raises OSError."""
        await asyncio.to_thread(self.run.prepare)
        workspace, warning = None, ""
        if self._config.repo_dir is not None and self._config.git_mode != "off":
            try:
                workspace = await workspaces.start(self._config, self.task)
            except GitError as error:
                self._log.warning("git_start_task_failed", code=error.code, error=error.message)
                if self._config.git_mode == "worktree" and error.code not in NOT_A_REPOSITORY:
                    # Without a tree of its own the agent would work in somebody else's.
                    return failed(f"git_start_failed: {error}")
                warning = str(error)
        try:
            await self.run.start(workspace, git_warning=warning)
        except WakeError as error:
            self._log.error("wake_error", error=str(error))
            await self.close()
            return failed(str(error))
        return None

    async def finish(self) -> Outcome:
        """Wait for the agent and hand its work over. Raises OSError, after which it may be called again."""
        outcome = await asyncio.to_thread(self.run.stored_outcome)
        if outcome is None:
            outcome = await self.run.watch()
            await asyncio.to_thread(self.run.store_outcome, outcome)
        workspace = self.run.workspace
        if workspace is None:
            return outcome
        if not outcome.body.get(HANDED_OVER):
            outcome = await self._hand_over(outcome, workspace)
            marked = Outcome(outcome.type, {**outcome.body, HANDED_OVER: True})
            await asyncio.to_thread(self.run.store_outcome, marked)
        await self.close()
        return Outcome(outcome.type, {key: value for key, value in outcome.body.items() if key != HANDED_OVER})

    async def close(self) -> workspaces.Unsaved:
        """Remove the task's working tree if nothing in it would be lost."""
        workspace = self.run.workspace
        if workspace is None:
            return workspaces.Unsaved()
        try:
            return await workspaces.close(workspace, self._config)
        except GitError as error:
            self._log.warning("worktree_kept", path=workspace.path, code=error.code, error=error.message)
            return workspaces.Unsaved()

    async def _hand_over(self, outcome: Outcome, workspace: Workspace) -> Outcome:
        if outcome.type is ReportType.COMPLETE:
            done = await hand_over(self._config, self.task, workspace, scratch=self.run.dir)
            return Outcome(outcome.type, {**outcome.body, "result": {**outcome.body["result"], **done.result()}})
        kept = await self.close()
        if not kept:
            return outcome
        reason = f"{outcome.body.get('error', '')} (kept on branch {workspace.branch}: {kept})"
        return Outcome(outcome.type, {**outcome.body, **failed(reason).body})
