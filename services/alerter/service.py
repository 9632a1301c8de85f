"""Wiring of the alerter."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from agentcom.settings import Settings
from agentcom.store.store import Store
from services.alerter.server_watch import ServerWatch
from services.runtime import Component, Supervisor
from services.stores import store_service

SERVICE: Final = "alerter"


def alerter_components(store: Store) -> Sequence[Component]:
    """The loops of one alerter."""
    return (ServerWatch(store.server),)


@asynccontextmanager
async def build(settings: Settings) -> AsyncIterator[Supervisor]:
    async with store_service(SERVICE, settings) as (supervisor, store):
        for component in alerter_components(store):
            supervisor.add(component)
        yield supervisor
