"""The embedded Redis as a component: it is looked after like every other part of the hub."""

from __future__ import annotations

import asyncio
from typing import Final

from services.local.redis_server import EmbeddedRedis
from services.runtime import BaseComponent, pause

_LOOK_EVERY_S: Final = 0.25


class RedisComponent(BaseComponent):
    """Starts the server if nobody has yet, starts it again on its data when it died, and stops it last.

    Put it first in the supervisor, so that everything that needs Redis has ended before. ``stops_it`` False leaves the
    stop to whoever started it, for connections that outlive the supervisor.
    """

    def __init__(self, redis: EmbeddedRedis, *, stops_it: bool = True) -> None:
        super().__init__("redis", max_silence=150.0)  # longer than a start that loads a large file
        self._redis = redis
        self._stops_it = stops_it

    async def run(self, stop: asyncio.Event) -> None:
        if not self._redis.running:
            await self._redis.start()
        while not stop.is_set():
            if not self._redis.running:
                raise RuntimeError("the embedded Redis has died")
            self.touch()
            await pause(stop, _LOOK_EVERY_S)
        if self._stops_it:
            await asyncio.to_thread(self._redis.stop)
