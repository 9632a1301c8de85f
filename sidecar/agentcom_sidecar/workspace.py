"""Where the agent of a task works: a working tree of its own, or the repository itself on a branch of the task.

Nothing is ever deleted by force: a working tree is removed only when git finds it clean and all its commits are on
origin. A task that comes back goes on where it left off.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import structlog

from agentcom_sidecar.branch_names import branch_name, numbered
from agentcom_sidecar.config import SidecarConfig
from agentcom_sidecar.files import make_private_dir
from agentcom_sidecar.git import PROTECTED_BRANCHES, Git, GitError, base_branch, repository
from agentcom_sidecar.journal import Task

MAX_ATTEMPTS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """What was prepared for a task. ``base`` is a branch of origin, ``leftovers`` what an earlier attempt left."""

    path: str
    branch: str
    base: str
    base_commit: str
    worktree: bool
    resumed: bool = False
    leftovers: tuple[str, ...] = ()
    warning: str | None = None

    @classmethod
    def from_stored(cls, stored: dict[str, Any]) -> "Workspace":
        """The workspace as `stored` wrote it. Raises TypeError or KeyError."""
        return cls(**{**stored, "leftovers": tuple(stored["leftovers"])})

    def stored(self) -> dict[str, Any]:
        """The workspace as JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Unsaved:
    """Work that is only in this place."""

    files: tuple[str, ...] = ()
    commits: int = 0

    def __bool__(self) -> bool:
        return bool(self.files or self.commits)

    def __str__(self) -> str:
        return f"{self.commits} unpushed commit(s) and {len(self.files)} uncommitted file(s)"


async def start(config: SidecarConfig, task: Task) -> Workspace:
    """Prepare the branch of a task. May be repeated after a crash at any point. Raises GitError."""
    git = repository(config.repo_dir, secrets=config.secrets)
    warning = None
    fetched = await git.try_("fetch", "--quiet", "origin")
    try:
        base = await base_branch(git, config.base_branch)
    except GitError:
        if fetched.returncode != 0:
            raise GitError("fetch_failed", fetched.complaint) from None
        raise
    if fetched.returncode != 0:
        warning = f"fetch_failed: {fetched.complaint} (the last known state of origin/{base} is used)"
    name = branch_name(config.agent_id, task.task_id, task.description)
    if config.git_mode == "worktree":
        workspace = await _working_tree(git, config.worktrees / task.task_id, name=name, base=base)
    else:
        workspace = await _in_place(git, name=name, base=base)
    structlog.get_logger().info(
        "git_start_task_ok", task_id=task.task_id, branch=workspace.branch, path=workspace.path, warning=warning
    )
    return replace(workspace, warning=warning)


async def find(config: SidecarConfig, task: Task) -> Workspace:
    """The working tree that a task has already. Raises GitError."""
    git = repository(config.repo_dir, secrets=config.secrets)
    base = await base_branch(git, config.base_branch)
    name = branch_name(config.agent_id, task.task_id, task.description)
    for attempt in range(1, MAX_ATTEMPTS):
        folder = config.worktrees / numbered(task.task_id, attempt)
        if not folder.exists():
            break
        if await _is_working_tree(git, folder):
            return await _describe(git.at(folder), branch=name, base=base, resumed=True)
    raise GitError("not_started", f"there is no working tree for task {task.task_id}")


async def unsaved(git: Git) -> Unsaved:
    """What is not on origin yet, by what this repository knows of origin."""
    commits = await git.count("HEAD", "--not", "--remotes=origin")
    return Unsaved(tuple(await git.changed_files()), commits)


async def close(workspace: Workspace, config: SidecarConfig) -> Unsaved:
    """Remove the working tree of a task that is over, unless that would lose something. Returns what was kept."""
    tree = Git(Path(workspace.path), secrets=config.secrets)
    if not tree.folder.is_dir():
        return Unsaved()
    kept = await unsaved(tree)
    log = structlog.get_logger()
    if kept:
        log.warning("work_kept", path=workspace.path, branch=workspace.branch, what=str(kept), files=kept.files[:20])
    elif workspace.worktree:
        git = repository(config.repo_dir, secrets=config.secrets)
        done = await git.try_("worktree", "remove", "--", workspace.path)
        if done.returncode != 0:
            log.warning("worktree_kept", path=workspace.path, reason=done.complaint)
        else:
            await _remove_if_empty(git, workspace)
    return kept


async def _remove_if_empty(git: Git, workspace: Workspace) -> None:
    """Remove a branch that never got a commit of its own; git itself sees to it that it still has none."""
    ref = f"refs/heads/{workspace.branch}"
    if not await git.has_ref(ref):
        return
    at = await git.run("rev-parse", "--verify", ref)
    if await git.count(f"refs/remotes/origin/{workspace.base}..{at}") == 0:
        await git.try_("update-ref", "-d", ref, at)


async def _working_tree(git: Git, path: Path, *, name: str, base: str) -> Workspace:
    make_private_dir(path.parent)
    await git.try_("worktree", "prune")  # Forgets working trees whose folder is gone; touches no branch.
    taken = await _checked_out(git)
    for attempt in range(1, MAX_ATTEMPTS):
        folder, branch = path.with_name(numbered(path.name, attempt)), numbered(name, attempt)
        if folder.exists() and await _is_working_tree(git, folder):
            return await _describe(git.at(folder), branch=branch, base=base, resumed=True)
        if folder.exists() or branch in taken:
            continue
        source, exists = await _source(git, branch, base)
        how = [str(folder), branch] if source is None else ["--no-track", "-b", branch, str(folder), source]
        await git.run("worktree", "add", "--quiet", *how, code="checkout_failed")
        return await _describe(git.at(folder), branch=branch, base=base, resumed=exists)
    raise GitError("checkout_failed", f"no free name for a working tree next to {path}")


async def _in_place(git: Git, *, name: str, base: str) -> Workspace:
    current = await git.branch()
    if current is not None and _is_attempt(current, name):
        return await _describe(git, branch=current, base=base, resumed=True, worktree=False)
    files = await git.changed_files()
    if files:
        raise GitError("dirty_working_tree", f"{len(files)} uncommitted file(s) in {git.folder}", files=files)
    taken = await _checked_out(git)
    branch = next(name for name in _attempts(name) if name not in taken)
    source, exists = await _source(git, branch, base)
    how = [branch] if source is None else ["--no-track", "-c", branch, source]
    await git.run("switch", "--quiet", *how, code="checkout_failed")
    return await _describe(git, branch=branch, base=base, resumed=exists, worktree=False)


async def _source(git: Git, branch: str, base: str) -> tuple[str | None, bool]:
    """What to create the branch from, None if it exists here; and whether somebody worked on it before."""
    if await git.has_ref(f"refs/heads/{branch}"):
        return None, True
    if await git.has_ref(f"refs/remotes/origin/{branch}"):
        return f"refs/remotes/origin/{branch}", True
    return f"refs/remotes/origin/{base}", False


async def _describe(tree: Git, *, branch: str, base: str, resumed: bool, worktree: bool = True) -> Workspace:
    current = await tree.branch()
    if current is not None and current != base and current not in PROTECTED_BRANCHES:
        branch = current
    found = await tree.try_("merge-base", "HEAD", f"refs/remotes/origin/{base}")
    commit = await tree.short(found.stdout.strip() or f"refs/remotes/origin/{base}")
    leftovers = await tree.changed_files() if resumed else []
    return Workspace(
        path=str(tree.folder),
        branch=branch,
        base=base,
        base_commit=commit,
        worktree=worktree,
        resumed=resumed,
        leftovers=tuple(leftovers),
    )


async def _checked_out(git: Git) -> set[str]:
    """The branches that some working tree is on; git allows each only once."""
    listed = await git.run("worktree", "list", "--porcelain")
    return {line.removeprefix("branch refs/heads/") for line in listed.splitlines() if line.startswith("branch ")}


async def _is_working_tree(git: Git, folder: Path) -> bool:
    """Whether the folder is a working tree of this very repository."""
    tree = git.at(folder)
    if not (folder / ".git").is_file():
        return False
    mine = await git.try_("rev-parse", "--path-format=absolute", "--git-common-dir")
    its = await tree.try_("rev-parse", "--path-format=absolute", "--git-common-dir")
    return its.returncode == 0 and its.stdout == mine.stdout


def _attempts(name: str) -> list[str]:
    return [numbered(name, attempt) for attempt in range(1, MAX_ATTEMPTS)]


def _is_attempt(branch: str, name: str) -> bool:
    return branch in _attempts(name)
