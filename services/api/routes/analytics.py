"""Who was active in the last 24 hours."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from agentcom.domain.names import is_agent_id
from agentcom.settings import Settings
from agentcom.store.analytics import ACTIVE_WITHIN_MS, AgentActivity
from agentcom.store.store import Store
from services.api.answer import Answer, answer
from services.api.auth import Access, Gate
from services.api.errors import RouteNotFound
from services.api.request import ApiRequest
from services.api.routing import Endpoint, Handler

PATH = "/api/analytics"


class AnalyticsRoutes:
    """``/api/analytics``"""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._analytics = store.analytics
        self._max_body = settings.max_body_bytes

    def endpoints(self, gate: Gate) -> list[Endpoint]:
        def route(path: str, handler: Handler) -> Endpoint:
            return Endpoint("GET", PATH + path, handler, gate=gate, access=Access.LOCAL, max_body_bytes=self._max_body)

        return [
            route("/summary", self.summary),
            route("/agents", self.agents),
            route("/agents/{agent_id}/hourly", self.hourly),
        ]

    async def summary(self, _request: ApiRequest) -> Answer:
        report = await self._analytics.report()
        states = [_status(agent, now=report.now) for agent in report.agents]
        body = {
            "total_agents": len(states),
            "agents_connected": len(states) - states.count("offline"),
            "agents_active": states.count("active"),
            "agents_idle": states.count("idle"),
            "agents_offline": states.count("offline"),
            "total_messages_24h": sum(agent.sent for agent in report.agents),
            "requests_denied_24h": report.denials,
            "timestamp": report.now,
        }
        return answer(body)

    async def agents(self, _request: ApiRequest) -> Answer:
        report = await self._analytics.report()
        return answer({"agents": [_shape(agent, now=report.now) for agent in report.agents]})

    async def hourly(self, request: ApiRequest) -> Answer:
        agent_id = request.params["agent_id"]
        if not is_agent_id(agent_id):
            raise RouteNotFound("This can't be the id of an agent.")
        hours = [
            {
                "bucket": hour.start,
                "hour": datetime.fromtimestamp(hour.start / 1_000, UTC).strftime("%H:%M"),
                "sent": hour.sent,
                "received": hour.received,
            }
            for hour in await self._analytics.hourly(agent_id)
        ]
        return answer({"agent_id": agent_id, "hourly": hours})


def _status(agent: AgentActivity, *, now: int) -> Literal["active", "idle", "offline"]:
    if not agent.connected:
        return "offline"
    return "active" if agent.last_active is not None and now - agent.last_active < ACTIVE_WITHIN_MS else "idle"


def _shape(agent: AgentActivity, *, now: int) -> dict[str, object]:
    return {
        "agent_id": agent.agent_id,
        "connected": agent.connected,
        "idle_ms": None if agent.last_active is None else max(0, now - agent.last_active),
        "status": _status(agent, now=now),
        "messages_sent_24h": agent.sent,
        "messages_received_24h": agent.received,
        "messages_sent_this_hour": agent.sent_this_hour,
        "connection_time_24h_ms": agent.connected_ms,
        "last_active": agent.last_active,
        "last_seen": agent.last_seen,
        "total_connections": agent.connects,
    }
