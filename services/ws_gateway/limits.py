"""Which frames are limited, and asking the store on behalf of those that are."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from typing import Any, Final, TypeVar

from agentcom.domain.limits import Lane, Tier
from agentcom.store.guard import Guard
from agentcom.store.rate_limits import RateLimiter

T = TypeVar("T")

#: By the type of the frame. Frames that are not here report work, which is never turned away, or come before anybody is
#: identified.
TIERS: Final[Mapping[str, Tier]] = {
    "ping": Tier.LIGHT,
    "status": Tier.LIGHT,
    "list_agents": Tier.LIGHT,
    "list_channels": Tier.LIGHT,
    "channel_history": Tier.LIGHT,
    "message": Tier.NORMAL,
    "channel_publish": Tier.NORMAL,
    "channel_subscribe": Tier.NORMAL,
    "channel_unsubscribe": Tier.NORMAL,
}
UNLIMITED: Final = frozenset(
    {
        "identify",
        "task_accepted",
        "task_progress",
        "task_complete",
        "task_failed",
        "task_rejected",
        "task_cancelled",
        "task_recovering",
    }
)
_READS: Final = frozenset({"list_agents", "list_channels", "channel_history"})


class FrameLimits:
    """Puts frames behind the buckets of their agents."""

    def __init__(self, limiter: RateLimiter) -> None:
        self._limiter = limiter

    def guard(self, kind: str, agent_id: str) -> Guard | None:
        """The guard of a frame of an identified agent; None if it is not limited."""
        tier = TIERS.get(kind)
        return None if tier is None else self._limiter.guard(agent_id, lane=Lane.WS, tier=tier)

    def behind(self, guard: Guard, kind: str, call: Coroutine[Any, Any, T]) -> Coroutine[Any, Any, T]:
        """The call, made only with a token. Raises RateLimited."""
        run = self._limiter.read if kind in _READS else self._limiter.change
        return run(guard, lambda: call)
