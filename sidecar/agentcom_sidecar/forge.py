"""Pull requests through GitHub's ``gh``: labels, title, body, and finding the one that is already there."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from agentcom_sidecar.git import Git, GitError
from agentcom_sidecar.journal import Task
from agentcom_sidecar.subprocess_call import CallTimeout, Finished, call

GH_TIMEOUT = 120.0
TITLE_CHARS = 60
LABEL_CHARS = 50
URL = re.compile(r"https?://\S+")


@dataclass(frozen=True, slots=True, kw_only=True)
class PullRequest:
    """What to ask for. ``labels`` and ``reviewer`` are left out if the forge does not take them."""

    base: str
    head: str
    title: str
    body_file: Path
    labels: tuple[str, ...] = ()
    reviewer: str = ""


async def open_pull_request(git: Git, wanted: PullRequest) -> str:
    """The address of the pull request of a branch, made if there is none. Raises GitError."""
    existing = await _find(git, wanted.head)
    if existing is not None:
        return existing
    for label in wanted.labels:
        await _gh(git, "label", "create", label, "--description", "Set by AgentCom")  # Fails if it exists: fine.
    extras = [part for label in wanted.labels for part in ("--label", label)]
    if wanted.reviewer:
        extras += ["--reviewer", wanted.reviewer]
    done = await _create(git, wanted, extras)
    if done.returncode != 0 and extras and not URL.search(done.stderr):
        done = await _create(git, wanted, [])  # A label or a reviewer that the forge refuses must not cost the work.
    # gh names the pull request on its last line; when there is one already, in its complaint.
    found = URL.findall(done.stdout if done.returncode == 0 else done.stderr)
    if found and (done.returncode == 0 or "already exists" in done.stderr):
        return str(found[-1])
    existing = await _find(git, wanted.head)
    if existing is not None:
        return existing
    raise GitError("pr_create_failed", done.complaint)


def title_of(description: str) -> str:
    """The description on one line, cut to the length of a title."""
    text = " ".join(description.split()) or "agent task"
    return text if len(text) <= TITLE_CHARS else text[: TITLE_CHARS - 3] + "..."


def labels_of(agent_id: str, priority: str) -> tuple[str, ...]:
    """The labels that say who worked on what; a label is at most `LABEL_CHARS` long."""
    agent = re.sub(r"[\s,]+", "-", agent_id)
    return f"agent:{agent}"[:LABEL_CHARS], f"priority:{priority}"


def body_of(task: Task, *, agent_id: str, hub: str, diff_stat: str) -> str:
    """The text of the pull request. What comes from outside is fenced, so it mentions nobody and closes nothing."""
    link = f"- Task: {hub}/api/tasks/{task.task_id}\n" if hub else ""
    return (
        f"## Task {task.task_id}\n\n- Agent: `{agent_id}`\n- Priority: {task.priority}\n{link}\n"
        f"{fenced(task.description)}\n\n### Changes\n\n{fenced(diff_stat)}\n\n---\n"
        f"Opened by agentcom-sidecar for agent `{agent_id}`, task `{task.task_id}`.\n"
    )


def fenced(text: str) -> str:
    """The text as a Markdown code block that nothing in it can close."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text.rstrip()}\n{fence}"


async def _find(git: Git, head: str) -> str | None:
    done = await _gh(git, "pr", "list", "--head", head, "--state", "open", "--json", "url", "--limit", "1")
    if done.returncode != 0:
        return None
    try:
        found = json.loads(done.stdout)
        return str(found[0]["url"]) if found else None
    except (ValueError, LookupError, TypeError):
        return None


async def _create(git: Git, wanted: PullRequest, extras: list[str]) -> Finished:
    return await _gh(
        git,
        *("pr", "create", "--base", wanted.base, "--head", wanted.head, "--title", wanted.title),
        *("--body-file", str(wanted.body_file), *extras),
    )


async def _gh(git: Git, *arguments: str) -> Finished:
    try:
        return await call(["gh", *arguments], cwd=git.folder, env=git.env, timeout=GH_TIMEOUT)
    except CallTimeout as error:
        raise GitError("pr_create_failed", str(error)) from None
    except OSError as error:
        raise GitError("gh_not_available", f"gh cannot be started: {error.strerror}") from None
