"""Scheduler, reaper and alerter as processes: how they start, are seen, and end."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from agentcom.settings import Settings
from agentcom.store.store import Store
from services.local.redis_server import EmbeddedRedis
from tests.support.eventually import eventually
from tests.support.hub import ServiceProcess

ROOT = Path(__file__).parents[2]
SERVICES = ("scheduler", "reaper", "alerter")


@pytest.fixture
async def store(redis_url: str, namespace: str) -> AsyncIterator[Store]:
    async with Store(redis_url, Settings(redis_url=redis_url, namespace=namespace)) as opened:
        yield opened


@pytest.fixture(params=SERVICES)
def process(request: pytest.FixtureRequest, redis_url: str, namespace: str, tmp_path: Path) -> Iterator[ServiceProcess]:
    settings = {"AGENTCOM_REDIS_URL": redis_url, "AGENTCOM_NAMESPACE": namespace, "AGENTCOM_LOG_FORMAT": "json"}
    made = ServiceProcess(request.param, 0, folder=tmp_path, settings=settings)
    yield made
    made.kill()


async def seen(store: Store) -> list[str]:
    return [beat.service for beat in await store.services.beats(live_within_ms=20_000) if beat.live]


async def test_it_is_seen_while_it_runs_and_takes_its_leave(process: ServiceProcess, store: Store) -> None:
    await process.start()

    async def is_seen() -> None:
        assert await seen(store) == [process.service]

    await eventually(is_seen)
    process.terminate()
    assert await process.wait() == 0
    assert await seen(store) == []
    assert process.logged("service_ready")
    assert process.logged("service_stopped")
    assert process.defects() == []


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        (None, "AGENTCOM_REDIS_URL is not set: give the URL of a running Redis"),
        ("http://example", "AGENTCOM_REDIS_URL is no usable Redis URL"),
    ],
)
def test_without_a_usable_redis_url_it_says_so_in_one_sentence(service: str, url: str | None, sentence: str) -> None:
    environment = {"PATH": "", "AGENTCOM_LOG_FORMAT": "json"} | ({"AGENTCOM_REDIS_URL": url} if url else {})
    done = subprocess.run(
        [sys.executable, "-m", f"services.{service}"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"{service}: {sentence}")
    assert len(done.stderr.splitlines()) == 1
    assert "Traceback" not in done.stdout


async def test_the_alerter_names_what_endangers_the_data(tmp_path: Path) -> None:
    redis = EmbeddedRedis(tmp_path, port=0, persistent=False)
    await redis.start()
    settings = {"AGENTCOM_REDIS_URL": redis.url, "AGENTCOM_LOG_FORMAT": "json"}
    alerter = ServiceProcess("alerter", 0, folder=tmp_path, settings=settings)
    try:
        await alerter.start()
        await eventually(lambda: bool(alerter.logged("redis_concern")))
        assert [line["code"] for line in alerter.logged("redis_concern")] == ["append_only_off"]
    finally:
        alerter.kill()
        redis.stop()
