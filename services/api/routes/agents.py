"""Connected agents and their states."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from agentcom.domain.agents import Agent
from agentcom.domain.names import is_agent_id
from agentcom.errors import AgentNotFound, InvalidCursor
from agentcom.settings import Settings
from agentcom.store.store import Store
from agentcom.wire.http import JsonObject, agent_shape, agent_state_shape
from services.api.answer import Answer, answer
from services.api.auth import Access, Gate
from services.api.request import ApiRequest
from services.api.routing import Endpoint
from services.api.schemas import query_integer

MAX_PAGE: Final = 1_000


class AgentRoutes:
    """``/api/agents``"""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._agents = store.agents
        self._max_body = settings.max_body_bytes

    def endpoints(self, gate: Gate) -> list[Endpoint]:
        limit = self._max_body
        return [
            Endpoint("GET", "/api/agents", self.index, gate=gate, access=Access.LOCAL, max_body_bytes=limit),
            Endpoint("GET", "/api/agents/states", self.states, gate=gate, access=Access.TOKEN, max_body_bytes=limit),
            Endpoint(
                "GET", "/api/agents/{agent_id}/state", self.state, gate=gate, access=Access.TOKEN, max_body_bytes=limit
            ),
        ]

    async def index(self, request: ApiRequest) -> Answer:
        return await self._page(request, agent_shape)

    async def states(self, request: ApiRequest) -> Answer:
        return await self._page(request, agent_state_shape)

    async def _page(self, request: ApiRequest, shape: Callable[[Agent], JsonObject]) -> Answer:
        limit = query_integer(request, "limit", default=MAX_PAGE, low=1, high=MAX_PAGE)
        cursor = request.query.get("cursor")
        if cursor is not None and not is_agent_id(cursor):
            raise InvalidCursor
        page = await self._agents.page(cursor=cursor, limit=limit)
        return answer({"agents": [shape(agent) for agent in page.agents], "cursor": page.cursor})

    async def state(self, request: ApiRequest) -> Answer:
        """Also of an agent that was disconnected a moment ago and still holds a task: it is ``offline``."""
        agent_id = request.params["agent_id"]
        if not is_agent_id(agent_id):
            raise AgentNotFound(agent_id=agent_id[:128])
        agent = await self._agents.get(agent_id)
        return answer({**agent_state_shape(agent), "last_state_change": agent.last_state_change})
