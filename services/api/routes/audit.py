"""The log of what operators and admins did."""

from __future__ import annotations

from typing import Final

from orjson import Fragment

from agentcom.settings import Settings
from agentcom.store.store import Store
from services.api.answer import Answer, answer
from services.api.auth import Access, Gate
from services.api.request import ApiRequest
from services.api.routing import Endpoint
from services.api.schemas import query_integer

MAX_PAGE: Final = 500
DEFAULT_PAGE: Final = 50


class AuditRoutes:
    """``/api/admin/audit``"""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._log = store.admin_log
        self._max_body = settings.max_body_bytes

    def endpoints(self, gate: Gate) -> list[Endpoint]:
        limit = self._max_body
        return [
            Endpoint("GET", "/api/admin/audit", self.index, gate=gate, access=Access.ADMIN, max_body_bytes=limit),
        ]

    async def index(self, request: ApiRequest) -> Answer:
        """Newest first."""
        limit = query_integer(request, "limit", default=DEFAULT_PAGE, low=1, high=MAX_PAGE)
        page = await self._log.page(cursor=request.query.get("cursor"), limit=limit)
        entries = [
            {
                "at": logged.at,
                "actor": logged.action.actor,
                "role": logged.action.role,
                "action": logged.action.action,
                "target": Fragment(logged.action.target),
                "body": Fragment(logged.action.body),
                "remote": logged.action.remote,
                "request_id": logged.action.request_id,
            }
            for logged in page.actions
        ]
        return answer({"entries": entries, "count": len(entries), "cursor": page.cursor})
