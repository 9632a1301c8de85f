"""A token bucket in front of a request's work, in the same round trip.

The guard of a request travels in a context variable. The first script that the request calls carries it: the call runs
the script's guarded variant, which takes a token and, if there is none, does nothing else. Whoever set the guard takes
the token by itself if the work called no script.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final, Literal

from agentcom.domain.limits import Lane, Tier
from agentcom.errors import RateLimited

Verdict = Literal["allow", "warn", "deny", "exempt"]


@dataclass(slots=True, kw_only=True)
class Guard:
    """One token of an identity's bucket. ``capacity`` and ``rate`` are the defaults, in millionths."""

    identity: str
    lane: Lane
    tier: Tier
    capacity: int
    rate: int
    claimed: bool = False
    verdict: Verdict | None = None
    left: int = 0
    limit: int = 0

    @property
    def arguments(self) -> tuple[str, str, str, int, int]:
        """In the order in which scripts take them."""
        return self.identity, self.lane.value, self.tier.value, self.capacity, self.rate

    def settle(self, verdict: str, *, left: int, limit: int) -> None:
        """What the store said. Raises RateLimited for a denial; ``left`` is then the time to wait, in ms."""
        self.verdict = verdict  # type: ignore[assignment]
        self.left, self.limit = left, limit
        if verdict == "deny":
            raise RateLimited(
                f"Too many requests: try again in {left // 1000} s.", retry_after_ms=left, tier=self.tier.value
            )


#: The guard of the request that is being served; None where nothing is limited.
CURRENT: Final[ContextVar[Guard | None]] = ContextVar("agentcom_guard", default=None)


def claim() -> Guard | None:
    """The current guard, if no call carries it yet; from now on one does."""
    guard = CURRENT.get()
    if guard is None or guard.claimed:
        return None
    guard.claimed = True
    return guard
