"""Wiring of the API."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from agentcom.settings import SECOND, Settings
from agentcom.store.config import RESET_AT
from agentcom.store.store import Store
from services.api.app import create_app, describe_registration
from services.api.auth import Authenticator, RevocationListener, authenticator_for
from services.api.bootstrap import FirstAdmin
from services.config_watch import ConfigWatch
from services.runtime import Component, HttpServer, Supervisor, health_routes
from services.stores import store_service

SERVICE: Final = "api"


def api_components(store: Store, settings: Settings, *, authenticator: Authenticator) -> Sequence[Component]:
    """The loops of the API; its app goes to whoever listens, see :func:`create_app`."""

    def forget(_reset_at: str | None) -> None:
        authenticator.clear()

    return (
        FirstAdmin(store, settings),
        RevocationListener(store.gateways, authenticator),
        ConfigWatch(store.services, {RESET_AT: forget}, name="api.config"),
    )


@asynccontextmanager
async def build(settings: Settings) -> AsyncIterator[Supervisor]:
    async with store_service(SERVICE, settings) as (supervisor, store):
        authenticator = authenticator_for(store.tokens, settings)
        for component in api_components(store, settings, authenticator=authenticator):
            supervisor.add(component)
        app = create_app(store, settings, authenticator=authenticator, more_routes=health_routes(supervisor))
        server = HttpServer(
            app, host=settings.host, port=settings.port, drain_timeout=settings.shutdown_timeout_ms / SECOND
        )
        server.bind()
        supervisor.add(server)
        describe_registration(settings)
        yield supervisor
