"""The whole hub in one process and on one port: what ``agentcom up`` runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

import structlog
from rich.console import Console

from agentcom.settings import SECOND, Settings
from agentcom.store.store import Store
from services.alerter.service import SERVICE as ALERTER
from services.alerter.service import alerter_components
from services.api.addresses import is_base_url
from services.api.app import create_app as create_api
from services.api.app import describe_registration
from services.api.auth import authenticator_for
from services.api.service import SERVICE as API
from services.api.service import api_components
from services.config_watch import log_level_watch
from services.local.hub_files import write_url
from services.local.redis_component import RedisComponent
from services.local.redis_server import EmbeddedRedis
from services.local.welcome import hub_url, print_welcome
from services.reaper.service import SERVICE as REAPER
from services.reaper.service import reaper_components
from services.runtime import Beat, Component, StartupError, Supervisor, health_routes
from services.scheduler.service import SERVICE as SCHEDULER
from services.scheduler.service import scheduler_components
from services.stores import opened_store, sign_off, stalled_components
from services.ws_gateway.app import create_app as create_gateway
from services.ws_gateway.gateway import Gateway
from services.ws_gateway.service import SERVICE as WS_GATEWAY
from services.ws_gateway.service import socket_server

log = structlog.get_logger(__name__)

SERVICE: Final = "agentcom"

Parts = dict[str, Sequence[Component]]
"""The components of each service, in the order in which they start."""


@asynccontextmanager
async def build(settings: Settings) -> AsyncIterator[Supervisor]:
    """Redis first, so that it stops last; the port last, so that it closes first."""
    if settings.public_url is not None and not is_base_url(settings.public_url):
        raise StartupError("AGENTCOM_PUBLIC_URL must be an http or https URL without query or fragment.")
    async with _redis_for(settings) as (url, redis):
        settings = settings.model_copy(update={"redis_url": url})
        async with opened_store(settings) as store:
            parts: Parts = {}
            supervisor = Supervisor(
                SERVICE, beat=_beat_of_each(store, parts), drain_timeout=settings.shutdown_timeout_ms / SECOND
            )
            if redis is not None:
                supervisor.add(RedisComponent(redis, stops_it=False))
            supervisor.add(log_level_watch(store, settings))
            parts.update(_parts(store, settings, supervisor=supervisor, redis_url=url))
            for components in parts.values():
                for component in components:
                    supervisor.add(component)
            describe_registration(settings)
            welcome = asyncio.create_task(_welcome(supervisor, settings, embedded=redis is not None))
            try:
                yield supervisor
            finally:
                welcome.cancel()
                for service in parts:
                    await sign_off(store, service, supervisor.instance)


@asynccontextmanager
async def _redis_for(settings: Settings) -> AsyncIterator[tuple[str, EmbeddedRedis | None]]:
    """The configured Redis, else one of our own in the data directory."""
    if settings.redis_url is not None:
        yield settings.redis_url, None
        return
    redis = EmbeddedRedis(settings.data_dir, appendfsync=settings.appendfsync)
    try:
        await redis.start()
        yield redis.url, redis
    finally:
        redis.stop()


def _parts(store: Store, settings: Settings, *, supervisor: Supervisor, redis_url: str) -> Parts:
    authenticator = authenticator_for(store.tokens, settings)
    api = create_api(store, settings, authenticator=authenticator, more_routes=health_routes(supervisor))
    gateway = Gateway(store, settings)
    server = socket_server(create_gateway(gateway, fallback=api), settings, gateway)
    server.bind()
    return {
        SCHEDULER: scheduler_components(store, settings, instance=supervisor.instance),
        REAPER: reaper_components(store, settings, redis_url=redis_url),
        ALERTER: alerter_components(store),
        API: api_components(store, settings, authenticator=authenticator),
        WS_GATEWAY: (*gateway.components, server),
    }


def _beat_of_each(store: Store, parts: Parts) -> Beat:
    """One supervisor, but a beat for each service, as if they ran apart."""

    async def beat(_service: str, instance: str, detail: Mapping[str, object]) -> None:
        stalled = stalled_components(detail)
        beats = []
        for service, components in parts.items():
            names = {component.name for component in components}
            own = tuple(name for name in stalled if name in names)
            beats.append(store.services.beat(service, instance, stalled=own))
        await asyncio.gather(*beats)

    return beat


async def _welcome(supervisor: Supervisor, settings: Settings, *, embedded: bool) -> None:
    await supervisor.wait_ready()
    try:
        write_url(settings.data_dir, hub_url(settings))
    except OSError as error:
        log.warning("hub_url_not_written", dir=str(settings.data_dir), error=error.strerror or str(error))
    # Logs go to stdout; who pipes them away still wants to see this.
    print_welcome(Console(stderr=True, highlight=False), settings, embedded=embedded)
