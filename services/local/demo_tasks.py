"""What the demo submits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

Submission = dict[str, Any]

DELAY_MS: Final = 4_000

_TEXTS: Final = (
    "A hub hands each task to an agent that can do it, and takes it back when the agent falls silent.",
    "What was acknowledged is on disk. What is on disk is found again. What is found again is done once.",
    "An agent sleeps until it is woken, works until it is done, and says so before it sleeps again.",
    "The queue is short in the morning and long at noon; nobody in it waits for ever.",
    "Two agents with the same skills are the same to a task, and two tasks with the same needs to an agent.",
    "A retry is not a failure. A failure without a retry is a letter that nobody answers.",
)


@dataclass(frozen=True, slots=True)
class DemoAgent:
    """One agent of the demo and what it can do."""

    id: str
    capabilities: tuple[str, ...]


AGENTS: Final = (
    DemoAgent("demo-coder", ("code",)),
    DemoAgent("demo-writer", ("docs",)),
    DemoAgent("demo-allrounder", ("code", "docs")),
)

#: Shown as the task to submit next.
NEXT_TASK: Final[Submission] = {
    "description": "Count the primes below 1000000",
    "needed_capabilities": ["code"],
    "metadata": {"kind": "primes", "below": 1_000_000},
}


def _primes(below: int, **fields: Any) -> Submission:
    return {
        "description": f"Count the primes below {below}",
        "needed_capabilities": ["code"],
        "metadata": {"kind": "primes", "below": below},
        **fields,
    }


def _words(number: int, **fields: Any) -> Submission:
    return {
        "description": f"Word statistics of text {number + 1}",
        "needed_capabilities": ["docs"],
        "metadata": {"kind": "words", "text": " ".join((_TEXTS[number], _TEXTS[number - 1], _TEXTS[number - 3]))},
        **fields,
    }


def _digest(name: str, bits: int, **fields: Any) -> Submission:
    return {
        "description": f"Find a digest of {name!r} with {bits} zero bits",
        "metadata": {"kind": "digest", "bits": bits},
        **fields,
    }


def _fails_first(task: Submission) -> Submission:
    description = f"{task['description']} (fails first)"
    metadata = task["metadata"] | {"fails_first": True}
    return task | {"description": description, "metadata": metadata, "retry_backoff_ms": 1_000}


def bulk() -> list[Submission]:
    """Submitted by one request."""
    return [
        *(_primes(below) for below in (400_000, 600_000, 800_000, 1_000_000, 500_000)),
        *(_words(number) for number in range(6)),
        *(_digest(name, 17) for name in ("ash", "birch", "cedar", "elm")),
    ]


def singles(*, now: int) -> list[Submission]:
    """Submitted one by one; ``now`` is the hub's time in epoch milliseconds."""
    both = ["code", "docs"]
    return [
        _primes(700_000, priority="low"),
        _words(2, priority="high"),
        _primes(900_000, priority="urgent"),
        _digest("oak", 18, needed_capabilities=both, priority="high"),
        _digest("pine", 17, target_agent="demo-writer"),
        _fails_first(_primes(300_000)),
        _fails_first(_words(4)),
        _digest("yew", 16, needed_capabilities=both),
        _words(0, run_at=now + DELAY_MS, description=f"Word statistics of text 1 (not before {DELAY_MS // 1000} s)"),
    ]
