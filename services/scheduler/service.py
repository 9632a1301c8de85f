"""Wiring of the scheduler."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from agentcom.settings import Settings
from agentcom.store.store import Store
from services.runtime import Component, Supervisor
from services.scheduler.reconcile import Reconciler
from services.scheduler.requests import RequestClaimer, RequestReader
from services.stores import store_service

SERVICE: Final = "scheduler"


def scheduler_components(store: Store, settings: Settings, *, instance: str) -> Sequence[Component]:
    """The loops of one scheduler. ``instance`` names its consumer: no two running copies share one."""
    return (
        RequestReader(store.matching, consumer=instance),
        RequestClaimer(store.matching, consumer=instance),
        Reconciler(store.matching, interval_ms=settings.reconcile_interval_ms),
    )


@asynccontextmanager
async def build(settings: Settings) -> AsyncIterator[Supervisor]:
    async with store_service(SERVICE, settings) as (supervisor, store):
        for component in scheduler_components(store, settings, instance=supervisor.instance):
            supervisor.add(component)
        yield supervisor
