"""The git workflow's steps one by one, from JSON arguments to a JSON answer."""

import re
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from agentcom_sidecar.config import SidecarConfig
from agentcom_sidecar.git import Git, GitError, base_branch, repository
from agentcom_sidecar.handover import hand_over
from agentcom_sidecar.journal import Task
from agentcom_sidecar.protocol import TASK_ID, clean_text, priority_name
from agentcom_sidecar.workspace import Workspace, find, start

CONVENTIONAL = re.compile(r"(feat|fix|docs|style|refactor|test|chore|perf|ci|build|revert)(\([^)]+\))?!?: \S")

Arguments = dict[str, Any]


async def carry_out(command: str, given: Arguments, config: SidecarConfig) -> dict[str, Any]:
    """The answer of one step. Raises GitError."""
    repository(config.repo_dir)
    if isinstance(given.get("agent_id"), str) and given["agent_id"]:
        config = config.model_copy(update={"agent_id": given["agent_id"]})
    return await STEPS[command](config, given)


async def _start_task(config: SidecarConfig, given: Arguments) -> dict[str, Any]:
    if not given.get("description"):
        raise GitError("missing_args", "description is needed")
    workspace = await start(config, _task(given, given))
    answer: dict[str, Any] = {"branch": workspace.branch, "base_commit": workspace.base_commit}
    answer |= {"repo_dir": workspace.path, "resumed": workspace.resumed}
    return answer | ({"warning": workspace.warning} if workspace.warning else {})


async def _submit(config: SidecarConfig, given: Arguments) -> dict[str, Any]:
    described = given.get("task")
    task = _task(given, described if isinstance(described, dict) else given)
    workspace = await find(config, task) if config.git_mode == "worktree" else await _as_it_stands(config)
    with tempfile.TemporaryDirectory(prefix="agentcom-") as scratch:
        done = await hand_over(config, task, workspace, scratch=Path(scratch))
    answer = done.result()
    details = answer.pop("git")
    if done.error:
        raise GitError(done.error, done.message, **answer)
    return {**answer, **{key: value for key, value in details.items() if key != "status"}}


async def _status(config: SidecarConfig, given: Arguments) -> dict[str, Any]:
    if config.git_mode == "worktree" and given.get("task_id"):
        workspace = await find(config, _task(given, given))
    else:
        workspace = await _as_it_stands(config)
    tree = Git(Path(workspace.path), secrets=config.secrets)
    base = f"refs/remotes/origin/{workspace.base}"
    subjects = (await tree.run("log", "--format=%s", f"{base}..HEAD", "--")).splitlines()
    changed = await tree.changed_files()
    return {
        "branch": await tree.branch(),
        "commits_ahead": len(subjects),
        "diff_from_main": await tree.run("diff", "--stat", f"{base}...HEAD", "--"),
        "uncommitted_changes": changed,
        "is_clean": not changed,
        "non_conventional_commits": [subject for subject in subjects if not CONVENTIONAL.match(subject)],
    }


async def _as_it_stands(config: SidecarConfig) -> Workspace:
    """The repository itself, on whatever branch it is."""
    tree = repository(config.repo_dir, secrets=config.secrets)
    base = await base_branch(tree, config.base_branch)
    branch = await tree.branch()
    if branch is None:
        raise GitError("detached_head", f"{tree.folder} is on no branch")
    commit = await tree.short(f"refs/remotes/origin/{base}")
    return Workspace(path=str(tree.folder), branch=branch, base=base, base_commit=commit, worktree=False)


def _task(given: Arguments, described: Arguments) -> Task:
    task_id = given.get("task_id")
    if not isinstance(task_id, str) or not TASK_ID.match(task_id):
        raise GitError("missing_args", "task_id is needed: letters, digits, '.', '_' and '-'")
    metadata = described.get("metadata")
    return Task(
        task_id=task_id,
        generation=0,
        description=clean_text(described.get("description")),
        metadata=metadata if isinstance(metadata, dict) else {},
        priority=priority_name(described),
    )


STEPS: dict[str, Callable[[SidecarConfig, Arguments], Awaitable[dict[str, Any]]]] = {
    "start-task": _start_task,
    "submit": _submit,
    "status": _status,
}
