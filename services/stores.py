"""What every service needs around its store: opening it, and being seen in it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

import structlog

from agentcom.errors import StoreUnavailable
from agentcom.settings import SECOND, Settings
from agentcom.store.store import Store
from services.config_watch import log_level_watch
from services.runtime import Beat, StartupError, Supervisor

log = structlog.get_logger(__name__)

_SIGN_OFF_S: Final = 1.0


@asynccontextmanager
async def opened_store(settings: Settings) -> AsyncIterator[Store]:
    """The store that the settings name; Redis need not answer yet. Raises StartupError if none is named or usable."""
    if settings.redis_url is None:
        raise StartupError(
            "AGENTCOM_REDIS_URL is not set: give the URL of a running Redis, "
            "or run the whole hub with its own one by `agentcom up`."
        )
    try:
        store = Store(settings.redis_url, settings)
    except ValueError as error:
        raise StartupError(f"AGENTCOM_REDIS_URL is no usable Redis URL: {error}.") from error
    async with store:
        yield store


@asynccontextmanager
async def store_service(service: str, settings: Settings) -> AsyncIterator[tuple[Supervisor, Store]]:
    """A supervisor that beats into its store, and the store. The components are the caller's to add."""
    async with opened_store(settings) as store:
        drain_timeout = settings.shutdown_timeout_ms / SECOND
        supervisor = Supervisor(service, beat=store_beat(store), drain_timeout=drain_timeout)
        supervisor.add(log_level_watch(store, settings))
        try:
            yield supervisor, store
        finally:
            await sign_off(store, service, supervisor.instance)


async def sign_off(store: Store, service: str, instance: str) -> None:
    """This copy ends on purpose: nobody needs to miss it. If the store is away, its last beat just ages."""
    with contextlib.suppress(StoreUnavailable, TimeoutError):
        async with asyncio.timeout(_SIGN_OFF_S):
            await store.services.leave(service, instance)


def stalled_components(detail: Mapping[str, object]) -> tuple[str, ...]:
    """The names of the components that the supervisor's detail calls not live."""
    components = detail["components"]
    assert isinstance(components, Mapping)  # noqa: S101 - Health.detail() makes it one
    return tuple(name for name, component in components.items() if not component["live"])


def store_beat(store: Store) -> Beat:
    """A supervisor's beat, written where ``GET /health`` reads it."""

    async def beat(service: str, instance: str, detail: Mapping[str, object]) -> None:
        await store.services.beat(service, instance, stalled=stalled_components(detail))

    return beat
