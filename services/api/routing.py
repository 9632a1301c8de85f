"""One endpoint: a method, a path, who may use it, and the handler."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from starlette.routing import BaseRoute, Match, compile_path
from starlette.types import Receive, Scope, Send

from services.api.answer import Answer
from services.api.audit import admin_action
from services.api.auth import Access, Gate
from services.api.errors import CLOSE, HttpError
from services.api.json_body import discard_body, parse_body, read_body
from services.api.limits import TIERS
from services.api.request import ApiRequest, headers_of

Handler = Callable[[ApiRequest], Awaitable[Answer]]

#: Larger bodies are read only once their sender is known.
_ANONYMOUS_BODY: Final = 64 * 1024
_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_PRIVILEGED: Final = frozenset({Access.OPERATOR, Access.ADMIN})


class Endpoint(BaseRoute):
    """Matches one method and path, reads the body, lets the caller in, and sends the handler's answer.

    Another method at the same path is no match, so that it ends in "not found" like an unknown path; but where there is
    GET there is HEAD.
    """

    def __init__(
        self,
        method: str,
        path: str,
        handler: Handler,
        *,
        gate: Gate,
        access: Access,
        max_body_bytes: int,
        audited: bool | None = None,
    ) -> None:
        """``audited``: whether what is done here is kept in the admin log; by default all that operators change."""
        self.method = method
        self._methods = {method, "HEAD"} if method == "GET" else {method}
        self.path = path
        self.access = access
        self.tier = TIERS.get((method, path))
        self.audited = (access in _PRIVILEGED and method in _WITH_BODY) if audited is None else audited
        self._handler = handler
        self._gate = gate
        self._max_body_bytes = max_body_bytes
        self._reads_body = method in _WITH_BODY
        self._pattern = compile_path(path)[0] if "{" in path else None

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] != "http" or scope["method"] not in self._methods:
            return Match.NONE, {}
        if self._pattern is None:
            return (Match.FULL, {"path_params": {}}) if scope["path"] == self.path else (Match.NONE, {})
        match = self._pattern.match(scope["path"])
        return (Match.NONE, {}) if match is None else (Match.FULL, {"path_params": match.groupdict()})

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = headers_of(scope)
        request = ApiRequest(scope, headers)
        if self._reads_body:
            large = _may_be_large(headers)
            if large:
                await self._admit_before_body(request, receive)
            raw = await read_body(headers, receive, limit=self._max_body_bytes)
            request.body = parse_body(headers, raw)
            request.body_ignored = bool(raw) and b"content-type" not in headers
            if not large:
                request.principal = await self._gate.admit(request, self.access)
        else:
            request.principal = await self._gate.admit(request, self.access)
        if request.principal is not None:
            scope["agentcom.agent_id"] = request.principal.agent_id
        answer = await self._gate.limits.serve(request, self.tier, lambda: self._handler(request))
        if self.audited:
            await self._gate.admin_log.record(admin_action(request, f"{self.method} {self.path}"))
        await answer.send(send, accept_encoding=headers.get(b"accept-encoding", b""))

    async def _admit_before_body(self, request: ApiRequest, receive: Receive) -> None:
        try:
            request.principal = await self._gate.admit(request, self.access)
        except HttpError as error:
            await discard_body(request.headers, receive, limit=self._max_body_bytes)
            error.headers = (*error.headers, CLOSE)
            raise


def _may_be_large(headers: dict[bytes, bytes]) -> bool:
    declared = headers.get(b"content-length")
    if declared is None:
        return b"transfer-encoding" in headers
    return not declared.isdigit() or int(declared) > _ANONYMOUS_BODY
