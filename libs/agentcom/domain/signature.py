"""Signatures: the name of a queue.

Tasks that the same agents can serve are interchangeable for matching and share one queue. A signature is the sorted
set of needed capabilities, joined; a task pinned to one agent has that agent's own queue and its capabilities are not
looked at: whoever names the agent has chosen it.
"""

from __future__ import annotations

from collections.abc import Iterable

#: Joins capabilities. A control character, which no valid capability contains.
SEPARATOR = "\x1f"
#: Marks the queue of one agent. Also a control character, so no capability can spell it.
PIN = "\x1e"


def signature(capabilities: Iterable[str], *, target_agent: str | None = None) -> str:
    """The queue that a task with these needs waits in; ``""`` is the queue that any agent can serve."""
    if target_agent is not None:
        return PIN + target_agent
    return SEPARATOR.join(sorted(set(capabilities)))
