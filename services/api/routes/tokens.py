"""Tokens: made and revoked by admins, listed by anybody for themselves."""

from __future__ import annotations

from typing import Final, cast

from agentcom.domain.names import ADMIN_AGENT_ID, is_reserved_agent_id
from agentcom.settings import Settings
from agentcom.store.store import Store
from agentcom.store.tokens import Role
from agentcom.wire.http import token_shape
from services.api.answer import Answer, answer
from services.api.auth import Access, Gate
from services.api.errors import AdminOnly, ValidationFailed
from services.api.request import ApiRequest
from services.api.routing import Endpoint
from services.api.schemas import AgentIdField, Code, Schema, Word, invalid, problem_with

_AGENT_ID: Final = AgentIdField()
MINT: Final = Schema(required={"agent_id": _AGENT_ID}, optional={"role": Word(tuple(role.value for role in Role))})
MAX_BODY_BYTES: Final = 16 * 1024


class TokenRoutes:
    """``/admin/tokens``"""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._tokens = store.tokens
        self._admin_agents = settings.admin_agent_ids | {ADMIN_AGENT_ID}

    def endpoints(self, gate: Gate) -> list[Endpoint]:
        limit = MAX_BODY_BYTES
        return [
            Endpoint("POST", "/admin/tokens", self.mint, gate=gate, access=Access.ADMIN, max_body_bytes=limit),
            Endpoint("GET", "/admin/tokens", self.index, gate=gate, access=Access.TOKEN, max_body_bytes=limit),
            Endpoint(
                "DELETE",
                "/admin/tokens/{agent_id}",
                self.revoke,
                gate=gate,
                access=Access.TOKEN,
                audited=True,
                max_body_bytes=limit,
            ),
        ]

    async def mint(self, request: ApiRequest) -> Answer:
        """One more token. Its role is the asked one, else admin for the configured admins and agent for the rest."""
        MINT.require(request)
        agent_id = cast("str", request.body["agent_id"])
        if is_reserved_agent_id(agent_id):
            found = problem_with("agent_id", Code.RESERVED, "is a reserved word: choose another id", value=agent_id)
            raise invalid(request, [found])
        asked = cast("str | None", request.body.get("role"))
        by_default = Role.ADMIN if agent_id in self._admin_agents else Role.AGENT
        role = by_default if asked is None else Role(asked)
        token = await self._tokens.mint(agent_id, role=role)
        return answer({"agent_id": agent_id, "token": token, "role": role.value}, status=201)

    async def index(self, request: ApiRequest) -> Answer:
        """All tokens for an admin, their own for everybody else."""
        caller = request.caller
        if caller.is_admin:
            tokens = [token async for token in self._tokens.all()]
        else:
            tokens = await self._tokens.of(caller.agent_id)
        return answer({"tokens": [token_shape(token) for token in tokens]})

    async def revoke(self, request: ApiRequest) -> Answer:
        """All tokens of an agent id; that there were none is no error. Who is no admin may revoke its own."""
        agent_id = request.params["agent_id"]
        caller = request.caller
        if not caller.is_admin and caller.agent_id != agent_id:
            raise AdminOnly("Only the token of an admin may revoke the tokens of others.")
        found = _AGENT_ID.check("agent_id", agent_id)
        if found is not None:
            raise ValidationFailed([found])
        revoked = await self._tokens.revoke(agent_id)
        return answer({"status": "revoked", "agent_id": agent_id, "revoked": revoked})
