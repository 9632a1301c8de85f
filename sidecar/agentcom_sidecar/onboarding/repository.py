"""The agent's clone: made beside its place and moved there when it is whole."""

import re
import shutil
from urllib.parse import urlsplit

from agentcom_sidecar.child import Finished, run_program
from agentcom_sidecar.failure import Failure
from agentcom_sidecar.installation import Installation

CLONE_TIMEOUT = 900.0
GIT_TIMEOUT = 60.0
REMOTE_HELPER = re.compile(r"[A-Za-z0-9.+-]+::")
"""How an address chooses a program that git is to run."""
ENVIRONMENT = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ALLOW_PROTOCOL": "file:git:http:https:ssh",
}
"""The address may come from the hub: transports that run programs of the address's choosing are refused."""


def clone(place: Installation, url: str) -> bool:
    """Clone the repository; False when the same one is there already. Raises Failure."""
    problem = address_problem(url)
    if problem is not None:
        raise Failure(problem, code="invalid_repository")
    if place.repo.exists():
        origin = _git(place, "remote", "get-url", "origin")
        if origin.ok and origin.stdout.strip() == url:
            return False
        found = f"a clone of {origin.stdout.strip()}" if origin.ok else "something that is not a clone"
        raise Failure(
            f"{place.repo} is {found}, not of {url}.",
            code="wrong_repository",
            advice=("Move it away, or choose with --repo or --no-repo.",),
        )
    partial = place.folder / ".repo.partial"
    shutil.rmtree(partial, ignore_errors=True)
    done = run_program(
        ("git", "clone", "--quiet", "--", url, str(partial)), timeout=CLONE_TIMEOUT, cwd=place.folder, env=ENVIRONMENT
    )
    if not done.ok:
        shutil.rmtree(partial, ignore_errors=True)
        raise Failure(
            f"The repository {url} could not be cloned: {done.complaint}",
            code="clone_failed",
            advice=("Check that you can clone it yourself, without being asked for a password.",),
        )
    partial.rename(place.repo)
    return True


def address_problem(url: str) -> str | None:
    """Why a repository's address is not used; the sentence does not repeat what is secret in it."""
    parts = urlsplit(url) if "://" in url else None
    if parts is not None and (parts.password or (parts.username and parts.scheme in {"http", "https"})):
        return (
            "The address of the repository has a password or token in it, which would show in the process list. "
            "Use ssh or a git credential helper, and give the address without it."
        )
    if not url or url.startswith("-") or REMOTE_HELPER.match(url) or not url.isprintable():
        return f"{url!r} is not the address of a repository."
    return None


def _git(place: Installation, *arguments: str) -> Finished:
    return run_program(("git", "-C", str(place.repo), *arguments), timeout=GIT_TIMEOUT, env=ENVIRONMENT)
