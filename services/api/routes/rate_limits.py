"""Rate limits as operators see and change them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, cast

from agentcom.domain.limits import MAX_CAPACITY, MAX_RATE, MIN_RATE, Limit, Tier
from agentcom.domain.names import has_control
from agentcom.settings import Settings
from agentcom.store.store import Store
from services.api.answer import Answer, answer
from services.api.auth import Access, Gate
from services.api.errors import InvalidAgentId, InvalidOverrides, InvalidWhitelist
from services.api.request import ApiRequest
from services.api.routing import Endpoint, Handler
from services.api.schemas import Nested, Number, Schema

MAX_IDENTITY: Final = 160
MAX_EXEMPT: Final = 1_000
PATH: Final = "/api/admin/rate-limits"

LIMIT: Final = Schema(
    required={"capacity": Number(1, MAX_CAPACITY), "refill_rate_per_min": Number(MIN_RATE, MAX_RATE)}, optional={}
)
OVERRIDES: Final = Schema(optional={tier.value: Nested(LIMIT) for tier in Tier}, closed=True)


class RateLimitRoutes:
    """``/api/admin/rate-limits``. An identity is an agent id, or ``ip:`` and an address on open routes."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._limits = store.rate_limits
        self._services = store.services
        self._max_body = settings.max_body_bytes

    def endpoints(self, gate: Gate) -> list[Endpoint]:
        def route(method: str, path: str, handler: Handler) -> Endpoint:
            return Endpoint(
                method, PATH + path, handler, gate=gate, access=Access.OPERATOR, max_body_bytes=self._max_body
            )

        return [
            route("GET", "", self.index),
            route("GET", "/whitelist", self.whitelist),
            route("PUT", "/whitelist", self.replace_whitelist),
            route("POST", "/whitelist", self.add_to_whitelist),
            route("DELETE", "/whitelist/{agent_id}", self.remove_from_whitelist),
            route("PUT", "/{agent_id}", self.override),
            route("DELETE", "/{agent_id}", self.remove_override),
        ]

    async def index(self, _request: ApiRequest) -> Answer:
        rules = await self._limits.rules()
        body = {
            "defaults": _shapes(self._limits.defaults),
            "overrides": {identity: _shapes(limits) for identity, limits in rules.overrides.items()},
            "whitelist": rules.exempt,
        }
        return answer(body)

    async def override(self, request: ApiRequest) -> Answer:
        """Replaces all limits of the identity; a tier that is left out has its default again."""
        identity = _identity(request.params["agent_id"])
        given = {name: value for name, value in request.body.items() if value is not None}
        if not given:
            raise InvalidOverrides("name at least one of light, normal and heavy")
        problems = OVERRIDES.check(given)
        if problems:
            raise InvalidOverrides("; ".join(f"{found['field']}: {found['detail']}" for found in problems))
        limits = {
            Tier(tier): Limit(limit["capacity"], limit["refill_rate_per_min"])
            for tier, limit in cast("Mapping[str, Mapping[str, float]]", given).items()
        }
        await self._limits.override(identity, limits)
        return answer({"status": "updated", "agent_id": identity, "overrides": _shapes(limits)})

    async def remove_override(self, request: ApiRequest) -> Answer:
        identity = _identity(request.params["agent_id"])
        await self._limits.remove_override(identity)
        return answer({"status": "removed", "agent_id": identity})

    async def whitelist(self, _request: ApiRequest) -> Answer:
        return answer({"whitelist": await self._limits.exempt()})

    async def replace_whitelist(self, request: ApiRequest) -> Answer:
        """Without ``agent_ids`` the list is emptied."""
        given = request.body.get("agent_ids")
        names = [] if given is None else given
        if not isinstance(names, list) or not all(isinstance(name, str) and _is_identity(name) for name in names):
            raise InvalidWhitelist("agent_ids must be an array of identities")
        if len(names) > MAX_EXEMPT:
            raise InvalidWhitelist(f"agent_ids may have {MAX_EXEMPT} entries")
        identities = list(dict.fromkeys(names))
        await self._limits.replace_exempt(identities)
        return answer({"status": "updated", "whitelist": identities})

    async def add_to_whitelist(self, request: ApiRequest) -> Answer:
        given = request.body.get("agent_id")
        if not isinstance(given, str):
            raise InvalidAgentId("agent_id must be a string")
        identity = _identity(given)
        await self._limits.add_exempt(identity, now=await self._services.now())
        return answer({"status": "added", "agent_id": identity})

    async def remove_from_whitelist(self, request: ApiRequest) -> Answer:
        identity = _identity(request.params["agent_id"])
        await self._limits.remove_exempt(identity)
        return answer({"status": "removed", "agent_id": identity})


def _is_identity(text: str) -> bool:
    return 0 < len(text) <= MAX_IDENTITY and not has_control(text)


def _identity(text: str) -> str:
    if not _is_identity(text):
        raise InvalidAgentId(f"an identity has 1 to {MAX_IDENTITY} characters, none of them a control character")
    return text


def _shapes(limits: Mapping[Tier, Limit]) -> dict[str, dict[str, float]]:
    return {
        tier.value: {"capacity": limit.capacity, "refill_rate_per_min": limit.rate} for tier, limit in limits.items()
    }
