"""Wiring of the gateway as a service of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from agentcom.settings import SECOND, Settings
from services.runtime import HttpServer, Supervisor, health_app
from services.stores import store_service
from services.ws_gateway.app import AsgiApp, create_app
from services.ws_gateway.gateway import Gateway

SERVICE: Final = "ws-gateway"
#: Protocol pings: a socket that does not answer one within the server's 20 s is closed.
PING_INTERVAL_S: Final = 20.0


def socket_server(app: AsgiApp, settings: Settings, gateway: Gateway) -> HttpServer:
    """The HTTP server for an application with ``/ws`` in it."""
    return HttpServer(
        app,
        host=settings.host,
        port=settings.port,
        drain_timeout=settings.shutdown_timeout_ms / SECOND,
        ws_max_size=settings.max_frame_bytes,
        ws_ping_interval=PING_INTERVAL_S,
        on_drain=gateway.drain,
    )


@asynccontextmanager
async def build(settings: Settings) -> AsyncIterator[Supervisor]:
    async with store_service(SERVICE, settings) as (supervisor, store):
        gateway = Gateway(store, settings)
        for component in gateway.components:
            supervisor.add(component)
        supervisor.add(socket_server(create_app(gateway, fallback=health_app(supervisor)), settings, gateway))
        yield supervisor
