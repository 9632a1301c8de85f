"""Wiring of the reaper."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from agentcom.settings import Settings
from agentcom.store.jobs import JobQueue
from agentcom.store.store import Store
from services.reaper.jobs import JobWorker
from services.reaper.retention import retention_cron
from services.reaper.sweeps import Sweeper, sweeps
from services.runtime import Component, StartupError, Supervisor
from services.stores import store_service

SERVICE: Final = "reaper"


def reaper_components(store: Store, settings: Settings, *, redis_url: str) -> Sequence[Component]:
    """The loops of one reaper. ``redis_url`` holds the jobs unless the settings name another Redis for them."""
    try:
        queue = JobQueue(settings.jobs_redis_url or redis_url, namespace=settings.namespace)
    except ValueError as error:
        raise StartupError(f"AGENTCOM_JOBS_REDIS_URL is no usable Redis URL: {error}.") from error
    return (
        Sweeper(sweeps(store, settings), interval_ms=settings.sweep_interval_ms, batch=settings.sweep_batch),
        JobWorker(queue, crons=[retention_cron(queue, store.tasks, batch=settings.sweep_batch)]),
    )


@asynccontextmanager
async def build(settings: Settings) -> AsyncIterator[Supervisor]:
    async with store_service(SERVICE, settings) as (supervisor, store):
        assert settings.redis_url is not None  # noqa: S101 - store_service opened it
        for component in reaper_components(store, settings, redis_url=settings.redis_url):
            supervisor.add(component)
        yield supervisor
