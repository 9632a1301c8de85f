"""The edge of the API: request ids, common headers, errors as JSON, and the access log."""

from __future__ import annotations

import itertools
import logging
import re
import secrets
import time
from typing import Final

import structlog
from starlette.routing import Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agentcom.errors import AgentComError
from services.api.answer import answer
from services.api.errors import InternalError, RouteNotFound, error_body, error_headers
from services.api.json_body import ClientGone
from services.runtime import refuse_handshake

log = structlog.get_logger(__name__)
_levels = logging.getLogger(__name__)

_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_COMMON: Final = ((b"cache-control", b"max-age=0, private, must-revalidate"), (b"vary", b"accept-encoding"))
_LONGEST_PATH_LOGGED: Final = 256
#: New request ids: a word of this process and a running number.
_PROCESS: Final = secrets.token_hex(6)
_count: Final = itertools.count(1)


class Edge:
    """Wraps the router. Whatever goes wrong inside, the client gets a status, a JSON body and a request id."""

    def __init__(self, router: Router) -> None:
        self.routes = router.routes
        self._app: ASGIApp = router

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match scope["type"]:
            case "http":
                await self._serve(scope, receive, send)
            case "websocket":
                await _refuse_socket(scope, receive, send)
            case "lifespan":
                await _live(receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        request_id = _request_id(scope)
        structlog.contextvars.bind_contextvars(request_id=request_id)
        scope = {**scope, "path": _path(scope), "root_path": "", "agentcom.request_id": request_id}
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message["headers"], (b"x-request-id", request_id.encode())]
                given = {name for name, _ in headers}
                message = {**message, "headers": [*headers, *(pair for pair in _COMMON if pair[0] not in given)]}
            elif scope["method"] == "HEAD":
                message = {**message, "body": b""}
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except ClientGone:
            log.debug("http_client_gone", method=scope["method"], path=scope["path"][:_LONGEST_PATH_LOGGED])
            return
        except AgentComError as error:
            await _send_error(error, send_with_headers)
        except Exception:
            # The last line: the client gets an answer whatever happened.
            log.exception("http_request_failed", method=scope["method"], path=scope["path"][:_LONGEST_PATH_LOGGED])
            if status:
                raise
            await _send_error(InternalError(request_id=request_id), send_with_headers)
        _log_access(scope, status=status, started=started)


async def _send_error(error: AgentComError, send: Send) -> None:
    response = answer(error_body(error), status=error.http_status, headers=error_headers(error))
    await response.send(send, accept_encoding=b"")


async def _refuse_socket(scope: Scope, receive: Receive, send: Send) -> None:
    error = RouteNotFound("There are no WebSockets here; agents connect to /ws of the gateway.")
    headers = ((b"x-request-id", _request_id(scope).encode()), *_COMMON)
    await refuse_handshake(scope, receive, send, status=error.http_status, document=error_body(error), headers=headers)


async def _live(receive: Receive, send: Send) -> None:
    """There is nothing to start or end: what the app uses is opened and closed around it."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


def _request_id(scope: Scope) -> str:
    """The client's id, if it is a plain word; else a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            text: str = value.decode("ascii")
            return text
    return f"{_PROCESS}-{next(_count):x}"


def _path(scope: Scope) -> str:
    """The path below the mount, without a slash at its end."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    if root and path.startswith(root):
        path = path[len(root) :] or "/"
    return path[:-1] if len(path) > 1 and path.endswith("/") else path


def _log_access(scope: Scope, *, status: int, started: float) -> None:
    """One line for each request; what went well is said at debug, as it is nearly everything."""
    level = logging.DEBUG if status < 400 else logging.INFO if status < 500 else logging.WARNING
    if not _levels.isEnabledFor(level):
        return
    log.log(
        level,
        "http_request",
        method=scope["method"],
        path=scope["path"][:_LONGEST_PATH_LOGGED],
        status=status,
        duration_ms=round((time.perf_counter() - started) * 1000, 2),
        agent_id=scope.get("agentcom.agent_id"),
    )
