"""Which requests are limited, whose bucket they use, and serving them behind it."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from agentcom.domain.limits import Lane, Tier
from agentcom.store.rate_limits import RateLimiter
from services.api.addresses import Network, client_address
from services.api.answer import Answer
from services.api.request import ApiRequest

#: Hosts of one IPv6 network share a bucket: whoever has one address there usually has all of them.
IPV6_NETWORK_BITS: Final = 64

TIERS: Final[Mapping[tuple[str, str], Tier]] = {
    ("GET", "/api/agents"): Tier.LIGHT,
    ("GET", "/api/channels"): Tier.LIGHT,
    ("GET", "/api/tasks"): Tier.LIGHT,
    ("GET", "/api/metrics"): Tier.LIGHT,
    ("POST", "/api/message"): Tier.NORMAL,
    ("GET", "/api/channels/{channel}"): Tier.NORMAL,
    ("POST", "/api/channels/{channel}/subscribe"): Tier.NORMAL,
    ("POST", "/api/channels/{channel}/unsubscribe"): Tier.NORMAL,
    ("POST", "/api/channels/{channel}/publish"): Tier.NORMAL,
    ("GET", "/api/tasks/{task_id}"): Tier.NORMAL,
    ("POST", "/api/tasks/{task_id}/retry"): Tier.NORMAL,
    ("POST", "/api/tasks/{task_id}/cancel"): Tier.NORMAL,
    ("POST", "/api/tasks"): Tier.HEAVY,
    ("POST", "/api/tasks/bulk"): Tier.HEAVY,
    ("POST", "/api/channels"): Tier.HEAVY,
    ("POST", "/api/admin/push-task"): Tier.HEAVY,
    ("POST", "/api/onboard/register"): Tier.HEAVY,
}


class RequestLimits:
    """Serves requests behind their buckets."""

    def __init__(self, limiter: RateLimiter, *, trusted_proxies: Sequence[Network]) -> None:
        self._limiter = limiter
        self._trusted = trusted_proxies

    async def serve(self, request: ApiRequest, tier: Tier | None, work: Callable[[], Awaitable[Answer]]) -> Answer:
        """The answer of ``work``. Raises RateLimited; then nothing was changed."""
        guard = None if tier is None else self._limiter.guard(self.identity(request), lane=Lane.HTTP, tier=tier)
        if guard is None:
            return await work()
        if request.scope["method"] in {"GET", "HEAD"}:
            return await self._limiter.read(guard, work)
        return await self._limiter.change(guard, work)

    def identity(self, request: ApiRequest) -> str:
        """Whose bucket: the agent that the token belongs to, else the address that the request comes from."""
        if request.principal is not None:
            return request.principal.agent_id
        return f"ip:{self.address(request)}"

    def address(self, request: ApiRequest) -> str:
        """Where the request comes from, past trusted proxies; of IPv6 the network."""
        text = client_address(request.scope, request.scope["headers"], trusted=self._trusted)
        if text is None:
            return "unknown"
        if ":" not in text:
            return text
        return str(ipaddress.ip_network((text, IPV6_NETWORK_BITS), strict=False).network_address)
