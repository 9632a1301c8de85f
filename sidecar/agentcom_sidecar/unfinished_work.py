"""What would be lost with an agent's folder."""

from pathlib import Path

from agentcom_sidecar.child import Finished, run_program
from agentcom_sidecar.config import SidecarConfig
from agentcom_sidecar.failure import Failure
from agentcom_sidecar.installation import Installation
from agentcom_sidecar.journal import Journal

GIT_TIMEOUT = 120.0
NO_PROMPT = {"GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0"}


def unfinished_work(place: Installation, config: SidecarConfig | None) -> list[str]:
    """One sentence for each thing that exists nowhere else; ``config`` is None when it cannot be read.

    Raises Failure when a repository does not say.
    """
    found: list[str] = []
    if config is not None:
        found += _sidecar_work(config)
    repositories = {place.repo}
    if config is not None and config.repo_dir is not None:
        repositories.add(config.repo_dir)
    for repository in sorted(repositories):
        if (repository / ".git").exists():
            found += _repository_work(repository, going=place.folder)
    return found


def count_reports(data_dir: Path) -> int:
    """How many reports wait for the hub. Only looks: the outbox may be in use."""
    return len(list((data_dir / "outbox").glob("*.json")))


def _sidecar_work(config: SidecarConfig) -> list[str]:
    found = []
    try:
        task = Journal(config.data_dir).load()
        reports = count_reports(config.data_dir)
    except (OSError, ValueError) as error:
        return [f"Its data folder cannot be read: {error}."]
    if task is not None:
        found.append(f"It works on {task.task_id}.")
    if reports:
        found.append(f"{reports} finished task{'s are' if reports > 1 else ' is'} not reported to the hub yet.")
    return found


def _repository_work(repository: Path, *, going: Path) -> list[str]:
    """Of a repository that stays, only the working trees in the folder that goes matter: its commits are safe."""
    found = []
    stays = not repository.resolve().is_relative_to(going.resolve())
    for tree in _working_trees(repository):
        inside = tree.resolve().is_relative_to(going.resolve())
        if inside and tree.is_dir() and _git(tree, "status", "--porcelain").stdout.strip():
            found.append(f"{tree} has changes that are not committed.")
    if stays:
        return found
    count = _git(
        repository, "rev-list", "--count", "--exclude=refs/stash", "--all", "--not", "--remotes"
    ).stdout.strip()
    if count != "0":
        found.append(f"{repository} has {count} commit{'s' if count != '1' else ''} that no remote has.")
    if _git(repository, "stash", "list").stdout.strip():
        found.append(f"{repository} has stashed changes.")
    return found


def _working_trees(repository: Path) -> list[Path]:
    lines = _git(repository, "worktree", "list", "--porcelain").stdout.splitlines()
    return [Path(line.removeprefix("worktree ")) for line in lines if line.startswith("worktree ")]


def _git(folder: Path, *arguments: str) -> Finished:
    done = run_program(("git", "-C", str(folder), *arguments), timeout=GIT_TIMEOUT, env=NO_PROMPT)
    if not done.ok:
        raise Failure(
            f"`git {' '.join(arguments)}` failed in {folder}: {done.complaint}",
            code="git_failed",
            advice=("Look into it, or use --force to remove the agent regardless.",),
        )
    return done
