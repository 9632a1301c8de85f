"""Switches of the hub: log level, reset, and a task for one agent."""

from __future__ import annotations

from typing import Final, cast

from agentcom.domain.agents import AgentState
from agentcom.errors import AgentNotFound
from agentcom.observe.logging import LEVELS
from agentcom.settings import Settings
from agentcom.store.config import LOG_LEVEL, RESET_AT
from agentcom.store.store import Store
from services.api.answer import Answer, answer
from services.api.auth import Access, Gate
from services.api.errors import AgentNotConnected, InvalidLevel
from services.api.request import ApiRequest
from services.api.routing import Endpoint
from services.api.schemas import AgentIdField, JsonObject, Schema, Text, invalid
from services.api.submission import MAX_DESCRIPTION, SubmissionReader

MAX_BODY_BYTES: Final = 16 * 1024


def push_schema(settings: Settings) -> Schema:
    """The fields of a pushed task."""
    return Schema(
        required={"agent_id": AgentIdField(), "description": Text(MAX_DESCRIPTION, filled=True)},
        optional={"metadata": JsonObject(settings.max_metadata_bytes)},
    )


class AdminRoutes:
    """``/api/admin``"""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._max_body = settings.max_body_bytes
        self._submissions = SubmissionReader(settings)
        self._push = push_schema(settings)

    def endpoints(self, gate: Gate) -> list[Endpoint]:
        small, large = MAX_BODY_BYTES, self._max_body
        return [
            Endpoint("POST", "/api/admin/reset", self.reset, gate=gate, access=Access.ADMIN, max_body_bytes=small),
            Endpoint(
                "PUT",
                "/api/admin/log-level",
                self.set_log_level,
                gate=gate,
                access=Access.OPERATOR,
                max_body_bytes=small,
            ),
            Endpoint(
                "POST",
                "/api/admin/push-task",
                self.push_task,
                gate=gate,
                access=Access.OPERATOR,
                max_body_bytes=large,
            ),
        ]

    async def reset(self, request: ApiRequest) -> Answer:
        """Clears what is volatile, in all processes, and keeps serving. Tasks, mail, tokens and settings stay."""
        cleared = await self._store.rate_limits.forget_all() + await self._store.agents.forget_penalties()
        await self._store.services.set_config(RESET_AT, str(await self._store.services.now()))
        body = {"status": "reset_scheduled", "triggered_by": request.caller.agent_id, "cleared": cleared}
        return answer(body)

    async def set_log_level(self, request: ApiRequest) -> Answer:
        """The level of every process, those started later too."""
        level = request.body.get("level")
        if not isinstance(level, str) or level not in LEVELS:
            raise InvalidLevel(valid=list(LEVELS))
        await self._store.services.set_config(LOG_LEVEL, level)
        return answer({"status": "ok", "level": level})

    async def push_task(self, request: ApiRequest) -> Answer:
        """A task like any other, for this agent alone: at once if it is idle, else when it is next."""
        self._push.require(request)
        agent_id = cast("str", request.body["agent_id"])
        fields = {name: request.body.get(name) for name in ("description", "metadata")}
        problems = self._submissions.check({**fields, "target_agent": agent_id}, now=None)
        if problems:
            raise invalid(request, problems)
        try:
            agent = await self._store.agents.get(agent_id)
        except AgentNotFound as error:
            raise AgentNotConnected(agent_id=agent_id) from error
        if agent.state is AgentState.OFFLINE:
            raise AgentNotConnected(agent_id=agent_id)
        task = self._submissions.build(
            {**fields, "target_agent": agent_id}, submitted_by=request.caller.agent_id, idempotency_key=None
        )
        submission = await self._store.tasks.submit(task)
        return answer({"status": "pushed", "task_id": submission.task_id, "agent_id": agent_id})
