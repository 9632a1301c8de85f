"""Fixtures of all test tiers: one Redis for each worker, one namespace for each test."""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from xdist.remote import Producer

from agentcom.settings import Settings
from agentcom.store import link
from agentcom.store.store import Store
from services.local.redis_server import EmbeddedRedis
from tests.support.clock import StoreClock
from tests.support.distribution import OneWorkerForEachHub
from tests.support.proxy import LossyProxy, lossy_proxy
from tests.support.redis import redis_for_tests
from tests.support.snapshot import wipe


def pytest_configure() -> None:
    """What the developer has configured for a hub of their own must not reach the tests, nor how they were started."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in the background of a shell; processes would inherit it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in list(os.environ):
        if name == "PORT" or (name.startswith("AGENTCOM_") and not name.startswith("AGENTCOM_TEST_")):
            del os.environ[name]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> OneWorkerForEachHub | None:
    return OneWorkerForEachHub(config, log) if config.getoption("dist") == "loadscope" else None


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running Redis without persistence, shared by the tests of one worker: keep to your namespace."""
    with redis_for_tests(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture
def namespace() -> str:
    """A namespace that no other test uses."""
    return f"t-{secrets.token_hex(6)}"


@pytest.fixture
def durable_redis(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    """A started Redis of the test's own, fsync always: ``kill()`` it, ``start()`` it again on its data."""
    server = EmbeddedRedis(tmp_path, port=0)
    server.start_blocking()
    yield server
    server.stop()


@pytest.fixture
async def proxy(redis_url: str) -> AsyncIterator[LossyProxy]:
    """Stands in front of the Redis of ``redis_url`` and loses what it is told to lose."""
    where = urlsplit(redis_url)
    async with lossy_proxy(where.hostname or "127.0.0.1", where.port or 6379) as running:
        yield running


@pytest.fixture
def proxy_url(proxy: LossyProxy) -> str:
    return f"redis://127.0.0.1:{proxy.port}/0"


@pytest.fixture
def patient_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls in this process wait as long as they may for a Redis that is started again, however slow the machine."""
    monkeypatch.setattr(link, "PATIENCE_S", 60.0)


@pytest.fixture
async def store(redis_url: str, namespace: str) -> AsyncIterator[Store]:
    """An open store in the test's namespace. Its clock is moved by the ``clock`` fixture, else it is Redis's."""
    settings = Settings(redis_url=redis_url, namespace=namespace)
    async with Store(redis_url, settings, shifted_clock=True) as opened:
        yield opened
        await wipe(opened)


@pytest.fixture
async def clock(store: Store) -> StoreClock:
    """The clock of ``store``, which stands still at ``T0`` until it is moved."""
    stopped = StoreClock(store)
    await stopped.start()
    return stopped
