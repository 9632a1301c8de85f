"""Calls to git in one folder: argument lists, no prompts, a time limit, and errors with a code."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agentcom_sidecar.subprocess_call import CallTimeout, Finished, call

GIT_TIMEOUT = 60.0
PROTECTED_BRANCHES = frozenset({"main", "master"})
FOREIGN_GIT = re.compile(r"GIT_(DIR|WORK_TREE|INDEX_FILE|PREFIX|COMMON_DIR|OBJECT_DIRECTORY|NAMESPACE)\Z")


class GitError(Exception):
    """A step of the git workflow did not work; ``code`` is for programs, ``details`` go into the JSON answer."""

    def __init__(self, code: str, message: str = "", **details: Any) -> None:
        super().__init__(f"{code}: {message}" if message else code)
        self.code = code
        self.message = message
        self.details = details


def tool_environment(base: Mapping[str, str], *, secrets: frozenset[str] = frozenset()) -> dict[str, str]:
    """The environment of git and gh: ours, which holds their credentials, without ours, and without prompts."""
    kept = {
        name: value
        for name, value in base.items()
        if not name.startswith("AGENTCOM_") and not FOREIGN_GIT.match(name) and value not in secrets
    }
    return kept | {
        "GIT_TERMINAL_PROMPT": "0",
        "SSH_ASKPASS_REQUIRE": "never",
        "GH_PROMPT_DISABLED": "1",
        "GH_NO_UPDATE_NOTIFIER": "1",
        "NO_COLOR": "1",
        "LC_ALL": "C.UTF-8",
        "LANGUAGE": "C",
    }


class Git:
    """Git in a repository or one of its working trees."""

    def __init__(self, folder: Path, *, secrets: frozenset[str] = frozenset()) -> None:
        self.folder = folder
        self.env = tool_environment(os.environ, secrets=secrets)

    def at(self, folder: Path) -> "Git":
        """The same git in another folder."""
        other = Git(folder)
        other.env = self.env
        return other

    async def try_(self, *arguments: str, timeout: float = GIT_TIMEOUT) -> Finished:
        """Run git whatever its exit status. Raises GitError when it cannot be run or takes too long."""
        try:
            return await call(["git", *arguments], cwd=self.folder, env=self.env, timeout=timeout)
        except CallTimeout as error:
            raise GitError("git_timeout", str(error)) from None
        except OSError as error:
            raise GitError("git_not_available", f"git cannot be started: {error.strerror}") from None

    async def run(self, *arguments: str, code: str = "unexpected_error", timeout: float = GIT_TIMEOUT) -> str:
        """The output without surrounding white space. Raises GitError with this code when git fails."""
        done = await self.try_(*arguments, timeout=timeout)
        if done.returncode != 0:
            raise GitError(code, done.complaint)
        return done.stdout.strip()

    async def ok(self, *arguments: str) -> bool:
        """Whether git succeeds."""
        return (await self.try_(*arguments)).returncode == 0

    async def branch(self) -> str | None:
        """The current branch; None when HEAD is detached."""
        done = await self.try_("symbolic-ref", "--quiet", "--short", "HEAD")
        return done.stdout.strip() or None

    async def has_ref(self, ref: str) -> bool:
        """Whether a full reference name exists."""
        return await self.ok("show-ref", "--verify", "--quiet", ref)

    async def changed_files(self) -> list[str]:
        """The files that differ from the last commit or that git does not know; ignored ones do not count."""
        done = await self.try_("status", "--porcelain", "-z", "--untracked-files=normal")
        if done.returncode != 0:
            raise GitError("unexpected_error", done.complaint)
        files: list[str] = []
        entries = iter(done.stdout.split("\0"))
        for entry in entries:
            if entry:
                files.append(entry[3:])
                if "R" in entry[:2] or "C" in entry[:2]:
                    next(entries, None)  # The name before the rename follows as an entry of its own.
        return files

    async def count(self, commits: str, *more: str) -> int:
        """How many commits a range has."""
        return int(await self.run("rev-list", "--count", commits, *more, "--"))

    async def short(self, revision: str) -> str:
        """The short hash of a commit."""
        return await self.run("rev-parse", "--short", "--verify", f"{revision}^{{commit}}")


def repository(repo_dir: Path | None, *, secrets: frozenset[str] = frozenset()) -> Git:
    """The configured repository. Raises GitError."""
    if repo_dir is None:
        raise GitError("missing_repo_dir", "repo_dir is not set in the configuration")
    if not repo_dir.is_dir():
        raise GitError("repo_dir_not_found", f"there is no folder {repo_dir}")
    if not (repo_dir / ".git").exists():
        raise GitError("not_a_git_repo", f"{repo_dir} is no git repository")
    return Git(repo_dir, secrets=secrets)


async def base_branch(git: Git, configured: str = "") -> str:
    """The branch of origin that work starts from and goes back to. Raises GitError."""
    if configured:
        if not await git.has_ref(f"refs/remotes/origin/{configured}"):
            raise GitError("base_branch_not_found", f"origin has no branch {configured}")
        return configured
    for attempt in range(2):
        done = await git.try_("symbolic-ref", "--quiet", "--short", "refs/remotes/origin/HEAD")
        name = done.stdout.strip().removeprefix("origin/")
        if name and await git.has_ref(f"refs/remotes/origin/{name}"):
            return name
        if attempt == 0:
            await git.try_("remote", "set-head", "origin", "--auto")
    for name in ("main", "master"):
        if await git.has_ref(f"refs/remotes/origin/{name}"):
            return name
    raise GitError("base_branch_not_found", "origin names no default branch; set base_branch in the configuration")
