"""Listening to the store: through outages, and how it ends."""

from __future__ import annotations

import asyncio

import pytest

from agentcom.errors import StoreUnavailable
from agentcom.settings import Settings
from agentcom.store.store import Store
from services.config_watch import ConfigWatch
from services.local.redis_server import EmbeddedRedis
from services.outage import Outage
from services.store_listener import StoreListener
from tests.services.hub import running
from tests.support.eventually import eventually


class Listener(StoreListener):
    """Fails with one error after the other, then listens until it is cancelled."""

    def __init__(self, *errors: Exception) -> None:
        super().__init__("test")
        self.errors = list(errors)
        self.losses = 0
        self.listening = False

    async def listen(self, outage: Outage) -> None:
        if self.errors:
            raise self.errors.pop(0)
        outage.over()
        self.listening = True
        await asyncio.Event().wait()

    def lost(self) -> None:
        self.losses += 1
        self.listening = False


async def test_it_listens_again_after_a_loss_and_ends_when_it_is_told_to() -> None:
    listener = Listener(StoreUnavailable(), StoreUnavailable())
    async with running([listener]):
        await eventually(lambda: listener.listening)
        assert listener.losses == 2
    assert (listener.losses, listener.listening) == (3, False)


async def test_another_error_is_a_crash() -> None:
    listener = Listener(ValueError("broken"))
    with pytest.raises(ValueError, match="broken"):
        await listener.run(asyncio.Event())
    assert listener.losses == 1


async def test_settings_are_read_again_after_a_loss(durable_redis: EmbeddedRedis, namespace: str) -> None:
    told: list[str | None] = []
    async with (
        Store(durable_redis.url, Settings(namespace=namespace)) as store,
        running([ConfigWatch(store.services, {"color": told.append}, name="test")]),
    ):
        await eventually(lambda: told == [None])
        await store.services.set_config("color", "blue")
        await eventually(lambda: told == [None, "blue"])
        durable_redis.kill()
        await durable_redis.start()
        await eventually(lambda: told[2:3] == ["blue"])
