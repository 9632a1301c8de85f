"""``GET /health/live`` and ``GET /health/ready`` of one service.

Live: every component made progress within its bound; if not, restart this process. Ready: it is live, every component
has started, and it is not draining; if not, send it no traffic.
"""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from services.runtime.supervisor import Supervisor

_NO_STORE = {"cache-control": "no-store"}
_NOT_FOUND = {
    "error": "not_found",
    "message": "There is nothing at this path and method; this service's health is at /health/live and /health/ready.",
}


def health_routes(supervisor: Supervisor) -> list[Route]:
    """The two routes, for a service that has HTTP anyway. They need no authentication and say nothing secret."""

    async def live(_request: Request) -> Response:
        health = supervisor.health()
        return JSONResponse(health.detail(), status_code=200 if health.live else 503, headers=_NO_STORE)

    async def ready(_request: Request) -> Response:
        health = supervisor.health()
        return JSONResponse(health.detail(), status_code=200 if health.ready else 503, headers=_NO_STORE)

    return [Route("/health/live", live), Route("/health/ready", ready)]


def health_app(supervisor: Supervisor) -> Starlette:
    """Both routes and nothing else, for a service without HTTP."""

    async def not_found(_request: Request, _error: Exception) -> Response:
        return JSONResponse(_NOT_FOUND, status_code=404, headers=_NO_STORE)

    return Starlette(routes=health_routes(supervisor), exception_handlers={404: not_found, 405: not_found})
