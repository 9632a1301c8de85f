"""What happens to the commits of a finished task: they are pushed, and a pull request is opened.

Every step may be repeated. Nothing on origin is overwritten: a push that origin refuses because the branch has moved
on goes to a branch of another name.
"""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import structlog

from agentcom_sidecar.branch_names import numbered
from agentcom_sidecar.config import SidecarConfig
from agentcom_sidecar.files import make_private_dir, write_atomic
from agentcom_sidecar.forge import PullRequest, body_of, labels_of, open_pull_request, title_of
from agentcom_sidecar.git import PROTECTED_BRANCHES, Git, GitError
from agentcom_sidecar.journal import Task
from agentcom_sidecar.workspace import Workspace

PUSH_PAUSES = (1.0, 3.0)
"""Seconds before a push is tried again."""
PUSH_TIMEOUT = 120.0
MAX_NAMES = 20
MAX_LISTED_FILES = 50


@dataclass(slots=True, kw_only=True)
class Handover:
    """How far it came: ``error`` is the code of the step that did not work, empty if all did."""

    branch: str
    base_commit: str
    commits: int = 0
    pushed: bool = False
    pr_url: str = ""
    error: str = ""
    message: str = ""
    uncommitted: list[str] = field(default_factory=list)

    def result(self) -> dict[str, Any]:
        """What is added to the task's result."""
        git: dict[str, Any] = {"status": "error" if self.error else "ok", "commits": self.commits}
        git["pushed"] = self.pushed
        if self.error:
            git |= {"error": self.error, "message": self.message}
        if self.uncommitted:
            git["uncommitted"] = self.uncommitted[:MAX_LISTED_FILES]
        named = {"branch": self.branch, "base_commit": self.base_commit, "git": git}
        return named | ({"pr_url": self.pr_url} if self.pr_url else {})


async def hand_over(config: SidecarConfig, task: Task, workspace: Workspace, *, scratch: Path) -> Handover:
    """Push what the agent committed and open a pull request; ``scratch`` takes its text. Never raises GitError."""
    git = Git(Path(workspace.path), secrets=config.secrets)
    done = Handover(branch=workspace.branch, base_commit=workspace.base_commit)
    log = structlog.get_logger().bind(task_id=task.task_id)
    try:
        if not git.folder.is_dir():
            raise GitError("worktree_missing", f"the working tree {git.folder} is gone")
        await _submit(config, task, workspace, git=git, done=done, scratch=scratch)
    except GitError as error:
        done.error, done.message = error.code, error.message
        note = log.info if error.code == "no_commits" else log.warning
        note("git_submit_failed", branch=done.branch, code=error.code, error=error.message)
    else:
        log.info("git_submit_ok", branch=done.branch, commits=done.commits, pr_url=done.pr_url)
    return done


async def _submit(
    config: SidecarConfig, task: Task, workspace: Workspace, *, git: Git, done: Handover, scratch: Path
) -> None:
    local = await git.branch() or workspace.branch
    if local in PROTECTED_BRANCHES | {workspace.base}:
        raise GitError("on_main_branch", f"the agent left its branch for {local}; nothing is pushed from there")
    done.branch = local
    done.uncommitted = await git.changed_files()
    base = f"refs/remotes/origin/{workspace.base}"
    done.commits = await git.count(f"{base}..HEAD")
    if done.commits == 0:
        raise GitError("no_commits", f"the branch {local} has no commit that {workspace.base} lacks")
    done.branch = await push(git, local)
    done.pushed = True
    if not config.pull_requests:
        return
    stat = await git.run("diff", "--stat", f"{base}...HEAD", "--")
    body = body_of(task, agent_id=config.agent_id, hub=http_address(config), diff_stat=stat)
    make_private_dir(scratch)
    body_file = scratch / "pr-body.md"
    await asyncio.to_thread(write_atomic, body_file, body.encode("utf-8", "replace"))
    try:
        done.pr_url = await open_pull_request(
            git,
            PullRequest(
                base=workspace.base,
                head=done.branch,
                title=title_of(task.description),
                body_file=body_file,
                labels=labels_of(config.agent_id, task.priority),
                reviewer=config.reviewer,
            ),
        )
    finally:
        body_file.unlink(missing_ok=True)


async def push(git: Git, local: str) -> str:
    """Push HEAD, without force, to the branch of this name or the next free one. Returns its name on origin."""
    pauses = list(PUSH_PAUSES)
    attempt = 1
    while attempt < MAX_NAMES:
        target = numbered(local, attempt)
        done = await git.try_("push", "--quiet", "origin", f"HEAD:refs/heads/{target}", timeout=PUSH_TIMEOUT)
        if done.returncode == 0:
            return target
        if "[rejected]" in done.stderr:
            attempt += 1
        elif "[remote rejected]" in done.stderr or not pauses:
            raise GitError("push_failed", done.complaint)
        else:
            await asyncio.sleep(pauses.pop(0))
    raise GitError("push_failed", f"origin has {MAX_NAMES} branches like {local} already")


def http_address(config: SidecarConfig) -> str:
    """The hub's HTTP address: as configured, else that of its socket."""
    if config.hub_api_url:
        return config.hub_api_url.rstrip("/")
    parts = urlsplit(config.hub_url)
    return urlunsplit(("https" if parts.scheme == "wss" else "http", parts.netloc, "", "", ""))
