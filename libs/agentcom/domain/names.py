"""Which names are allowed: of agents, tasks and capabilities. Pure."""

from __future__ import annotations

import re
from typing import Final

MAX_CAPABILITIES: Final = 64
MAX_CAPABILITY_LENGTH: Final = 128

#: Words that mean something of their own where an agent id may stand: a recipient, a path segment, a sender.
RESERVED_AGENT_IDS: Final = frozenset({"broadcast", "hub", "states", "unknown", "whitelist"})
#: The agent id of the first admin token.
ADMIN_AGENT_ID: Final = "admin"

_AGENT_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_TASK_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def is_agent_id(text: str) -> bool:
    """Whether the text has the form of an agent id."""
    return _AGENT_ID.fullmatch(text) is not None


def is_reserved_agent_id(text: str) -> bool:
    """Whether nobody may be called this. Case does not matter, so that no id looks like a reserved one."""
    return text.lower() in RESERVED_AGENT_IDS


def is_task_id(text: str) -> bool:
    """Whether the text may be a task id at all."""
    return _TASK_ID.fullmatch(text) is not None


def is_capability(text: str) -> bool:
    """Whether the text may name a capability: 1 to 128 characters, none of them a control character."""
    return 0 < len(text) <= MAX_CAPABILITY_LENGTH and _CONTROL.search(text) is None


def has_control(text: str) -> bool:
    """Whether the text has a control character (C0, DEL or C1)."""
    return _CONTROL.search(text) is not None
