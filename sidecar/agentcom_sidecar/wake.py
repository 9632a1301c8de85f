"""How an agent is told about its task: arguments, environment, and one JSON document.

No shell is involved. Each argument of the template is filled in on its own, in one pass, so nothing in a task can
become a second argument, a command, or another placeholder.
"""

import fnmatch
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agentcom_sidecar.config import ENVIRONMENT_PREFIX
from agentcom_sidecar.files import to_json
from agentcom_sidecar.journal import Task

MAX_ARGUMENT_BYTES = 128 * 1024 - 1
"""Linux takes no longer single argument, its closing zero byte included."""

BASE_ENVIRONMENT = ("PATH", "HOME", "LANG", "LANGUAGE", "LC_*", "TZ", "TMPDIR", "USER", "LOGNAME", "SHELL", "TERM")
PLACEHOLDER = re.compile(
    r"\$\{(TASK_JSON|TASK_ID|TASK_DESCRIPTION|TASK_FILE|RESULT_FILE|STARTED_FILE|GENERATION|MESSAGE|MESSAGE_FILE"
    r"|REPO_DIR|BRANCH)\}"
)


class WakeError(Exception):
    """The agent cannot be started for this task; the message is the reason that the hub gets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """The files through which a task and its outcome pass."""

    task: Path
    result: Path
    started: Path
    description: Path
    message: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the agent works: the folder, the branch if there is one, and why there is none although one was due."""

    folder: Path
    branch: str = ""
    base_commit: str = ""
    git_warning: str = ""


def task_document(task: Task, paths: Paths, place: Place) -> bytes:
    """The task as the agent gets it on stdin, as a file and through ``${TASK_JSON}``."""
    git = {"branch": place.branch, "base_commit": place.base_commit, "git_warning": place.git_warning}
    return to_json(
        {
            "task_id": task.task_id,
            "description": task.description,
            "metadata": task.metadata,
            "priority": task.priority,
            "generation": task.generation,
            "assigned_at": task.assigned_at,
            "result_file": str(paths.result),
            "started_file": str(paths.started),
            "repo_dir": str(place.folder),
            **{name: value for name, value in git.items() if value},
        }
    )


def build_argv(template: Sequence[str], task: Task, paths: Paths, place: Place, *, message: str) -> list[str]:
    """Fill the template in. Raises WakeError for an argument that the system would not take."""
    values = {
        "TASK_JSON": task_document(task, paths, place).decode(),
        "MESSAGE": message,
        "MESSAGE_FILE": str(paths.message),
        "REPO_DIR": str(place.folder),
        "BRANCH": place.branch,
        "TASK_ID": task.task_id,
        "TASK_DESCRIPTION": task.description,
        "TASK_FILE": str(paths.task),
        "RESULT_FILE": str(paths.result),
        "STARTED_FILE": str(paths.started),
        "GENERATION": str(task.generation),
    }
    argv = [PLACEHOLDER.sub(lambda match: values[match[1]], argument) for argument in template]
    for argument in argv:
        size = len(argument.encode())
        if size > MAX_ARGUMENT_BYTES:
            raise WakeError(
                f"wake_argument_too_long: an argument of the wake command would have {size} bytes, the system allows "
                f"{MAX_ARGUMENT_BYTES}; use ${{TASK_FILE}} or read the task from stdin instead."
            )
        if "\0" in argument:
            raise WakeError(
                "wake_argument_invalid: the task contains a zero byte, which an argument cannot carry; "
                "use ${TASK_FILE} or read the task from stdin instead."
            )
    return argv


def build_environment(
    base: Mapping[str, str],
    *,
    allow: Sequence[str],
    secrets: frozenset[str],
    agent_id: str,
    task: Task,
    paths: Paths,
    place: Place,
) -> dict[str, str]:
    """The agent's environment: what is allowed of the sidecar's own, and the task. Never the hub token."""
    return allowed_environment(base, allow=allow, secrets=secrets) | {
        "AGENTCOM_TASK_ID": task.task_id,
        "AGENTCOM_TASK_FILE": str(paths.task),
        "AGENTCOM_RESULT_FILE": str(paths.result),
        "AGENTCOM_STARTED_FILE": str(paths.started),
        "AGENTCOM_GENERATION": str(task.generation),
        "AGENTCOM_AGENT_ID": agent_id,
        "AGENTCOM_REPO_DIR": str(place.folder),
        "AGENTCOM_BRANCH": place.branch,
    }


def allowed_environment(base: Mapping[str, str], *, allow: Sequence[str], secrets: frozenset[str]) -> dict[str, str]:
    """What of the sidecar's own environment other programs get to see."""
    patterns = (*BASE_ENVIRONMENT, *allow)
    return {
        name: value
        for name, value in base.items()
        if not name.startswith(ENVIRONMENT_PREFIX)
        and value not in secrets
        and any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
    }
