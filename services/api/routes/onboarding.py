"""Registering an agent id: its first token."""

from __future__ import annotations

import asyncio
import hmac
from typing import Final, cast

from agentcom.domain.names import ADMIN_AGENT_ID, is_reserved_agent_id
from agentcom.errors import AgentExists
from agentcom.settings import Settings
from agentcom.store.config import DEFAULT_REPO
from agentcom.store.store import Store
from agentcom.store.tokens import Role
from services.api.addresses import hub_urls
from services.api.answer import Answer, answer
from services.api.auth import Access, Gate
from services.api.errors import AgentIdTaken, EnrolmentKeyInvalid, EnrolmentKeyRequired
from services.api.request import ApiRequest
from services.api.routing import Endpoint
from services.api.schemas import AgentIdField, Code, Schema, Text, TokenField, invalid, problem_with

MAX_BODY_BYTES: Final = 16 * 1024

REGISTER: Final = Schema(
    required={"agent_id": AgentIdField()},
    optional={"enrolment_key": Text(1_024, secret=True), "token": TokenField()},
)


class OnboardingRoutes:
    """``/api/onboard``

    An admin's token or the enrolment key always admits. Without either, registration is open only if no key is
    configured, the hub listens on loopback, and the request comes from this machine.
    """

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._admin_agents = settings.admin_agent_ids
        self._public_url = settings.public_url
        key = settings.enrolment_key
        self._key = None if key is None else key.get_secret_value().encode()

    def endpoints(self, gate: Gate) -> list[Endpoint]:
        self._gate = gate
        register = Endpoint(
            "POST",
            "/api/onboard/register",
            self.register,
            gate=gate,
            access=Access.OPEN,
            max_body_bytes=MAX_BODY_BYTES,
        )
        return [register]

    async def register(self, request: ApiRequest) -> Answer:
        trusted = await self._admit(request)
        REGISTER.require(request)
        agent_id = cast("str", request.body["agent_id"])
        if is_reserved_agent_id(agent_id) or (agent_id.lower() == ADMIN_AGENT_ID and not trusted):
            found = problem_with("agent_id", Code.RESERVED, "is a reserved word: choose another id", value=agent_id)
            raise invalid(request, [found])
        chosen = cast("str | None", request.body.get("token"))
        role = Role.ADMIN if trusted and agent_id in self._admin_agents else Role.AGENT
        try:
            token, default_repo = await asyncio.gather(
                self._store.tokens.register(agent_id, role=role, token=chosen),
                self._store.services.config(DEFAULT_REPO),
            )
        except AgentExists as error:
            raise AgentIdTaken(agent_id=agent_id) from error
        urls = hub_urls(request.scope, request.headers, public_url=self._public_url)
        body = {
            "agent_id": agent_id,
            "token": token,
            "role": role.value,
            "hub_ws_url": urls.ws,
            "hub_api_url": urls.api,
            "default_repo": default_repo,
        }
        return answer(body, status=201)

    async def _admit(self, request: ApiRequest) -> bool:
        """Whether an admin or the enrolment key vouches for the request; False if registration is open.

        Raises EnrolmentKeyRequired or EnrolmentKeyInvalid.
        """
        given = request.header(b"x-enrolment-key") or request.body.get("enrolment_key")
        if isinstance(given, str) and given and self._key is not None:
            if not hmac.compare_digest(given.encode(), self._key):
                raise EnrolmentKeyInvalid
            return True
        if b"authorization" in request.headers:
            principal = await self._gate.identify(request)
            if principal is not None and principal.is_admin:
                return True
        if self._key is None and self._gate.is_local(request):
            return False
        if self._key is None:
            raise EnrolmentKeyRequired(
                "Registration is closed, as no AGENTCOM_ENROLMENT_KEY is configured: ask an admin for a token."
            )
        raise EnrolmentKeyRequired
