"""What the branch of a task is called: ``<agent id>/<task id>-<slug of the description>``."""

import hashlib
import re

SLUG_CHARS = 40
COMPONENT_CHARS = 128


def branch_name(agent_id: str, task_id: str, description: str) -> str:
    """The branch of a task: the same for every attempt at it, and of no other task or agent."""
    slug = slug_of(description)
    task = component(task_id)
    return f"{component(agent_id)}/{task}{'-' + slug if slug else ''}"


def numbered(branch: str, attempt: int) -> str:
    """The name for another attempt when the plain one cannot be used."""
    return branch if attempt == 1 else f"{branch}-{attempt}"


def slug_of(text: str) -> str:
    """Lower-case letters, digits and single hyphens; empty when the text has no such characters."""
    words = re.sub(r"[^a-z0-9\s-]", "", text[:2000].lower())
    return re.sub(r"[\s-]+", "-", words).strip("-")[:SLUG_CHARS].rstrip("-")


def component(text: str) -> str:
    """The text as one part of a reference name; what had to be changed is told apart by a hash."""
    plain = re.sub(r"[^A-Za-z0-9._-]", "-", text)
    plain = re.sub(r"\.{2,}|(?<=\.)lock(?=\.?\Z)", "-", plain)[:COMPONENT_CHARS].strip(".-")
    if plain == text:
        return plain
    return f"{plain or 'x'}-{hashlib.sha256(text.encode('utf-8', 'replace')).hexdigest()[:8]}"
