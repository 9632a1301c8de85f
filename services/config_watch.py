"""Settings that change at run time, in every process that they concern."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import structlog

from agentcom.observe.logging import LEVELS, set_level
from agentcom.settings import Settings
from agentcom.store.config import LOG_LEVEL
from agentcom.store.services import ServiceStore
from agentcom.store.store import Store
from services.outage import Outage
from services.store_listener import StoreListener

log = structlog.get_logger(__name__)

Handler = Callable[[str | None], None]
"""Gets a setting's value as it was stored; None if it was never changed."""


class ConfigWatch(StoreListener):
    """Calls a handler with its setting's value at the start, at every change, and after every loss of the store."""

    def __init__(self, services: ServiceStore, handlers: Mapping[str, Handler], *, name: str) -> None:
        super().__init__(name, max_silence=30.0)
        self._services = services
        self._handlers = handlers

    async def listen(self, outage: Outage) -> None:
        async for name in self._services.config_changes():
            if name is None:
                outage.over()
                current = await self._services.configuration()
                for setting, handler in self._handlers.items():
                    handler(current.get(setting))
                self.touch()
            elif name in self._handlers:
                self._handlers[name](await self._services.config(name))


def log_level_watch(store: Store, settings: Settings) -> ConfigWatch:
    """Keeps the log level of this process at what the hub's is, or at its own setting's if nobody changed the hub's."""
    applied = settings.log_level

    def apply(value: str | None) -> None:
        nonlocal applied
        level = value if value in LEVELS else settings.log_level
        if level != applied:
            set_level(level)
            log.warning("log_level_changed", level=level, before=applied)
            applied = level  # type: ignore[assignment]

    return ConfigWatch(store.services, {LOG_LEVEL: apply}, name="log-level")
