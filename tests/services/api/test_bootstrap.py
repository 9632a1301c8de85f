"""The first admin."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from agentcom.settings import Settings
from agentcom.store.store import Store
from agentcom.store.tokens import Principal, Role, digest
from services.api.bootstrap import ADMIN_FILE, FirstAdmin, ensure_first_admin
from services.local.redis_server import EmbeddedRedis
from services.runtime import StartupError, Supervisor
from tests.support.eventually import eventually

ADMIN = Principal("admin", Role.ADMIN)
CONFIGURED = "a-configured-token-of-more-than-32-characters"


@pytest.fixture
async def store(redis_url: str, settings: Settings) -> AsyncIterator[Store]:
    async with Store(redis_url, settings) as store:
        yield store


def in_folder(settings: Settings, folder: Path) -> Settings:
    return settings.model_copy(update={"data_dir": folder})


async def test_a_new_store_gets_an_admin(store: Store, settings: Settings) -> None:
    path = await ensure_first_admin(store, settings)
    assert path == settings.data_dir / ADMIN_FILE
    token = path.read_text().strip()
    assert len(token) == 64
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert await store.tokens.find(digest(token)) == ADMIN


async def test_only_once(store: Store, settings: Settings, tmp_path: Path) -> None:
    path = await ensure_first_admin(store, settings)
    assert path is not None
    before = path.read_text()
    assert await ensure_first_admin(store, settings) is None
    assert await ensure_first_admin(store, in_folder(settings, tmp_path / "other")) is None
    assert path.read_text() == before
    assert not (tmp_path / "other").exists()


async def test_a_store_with_tokens_gets_none(store: Store, settings: Settings) -> None:
    await store.tokens.mint("somebody", role=Role.AGENT)
    assert await ensure_first_admin(store, settings) is None
    assert not (settings.data_dir / ADMIN_FILE).exists()


async def test_a_token_written_down_before_a_crash_is_the_one(store: Store, settings: Settings) -> None:
    path = settings.data_dir / ADMIN_FILE
    path.write_text("ab" * 32 + "\n")
    path.chmod(0o644)
    assert await ensure_first_admin(store, settings) == path
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert await store.tokens.find(digest("ab" * 32)) == ADMIN


@pytest.mark.parametrize("text", ["", "abc", "not a token but a sentence of some length\n"])
async def test_a_file_cut_short_is_written_anew(store: Store, settings: Settings, text: str) -> None:
    path = settings.data_dir / ADMIN_FILE
    path.write_text(text)
    assert await ensure_first_admin(store, settings) == path
    assert await store.tokens.find(digest(path.read_text().strip())) == ADMIN


async def test_of_many_that_start_at_once_one_makes_it(redis_url: str, settings: Settings, tmp_path: Path) -> None:
    async def start(number: int) -> Path | None:
        mine = in_folder(settings, tmp_path / str(number))
        async with Store(redis_url, mine) as store:
            return await ensure_first_admin(store, mine)

    made = [path for path in await asyncio.gather(*[start(n) for n in range(6)]) if path is not None]
    assert len(made) == 1
    assert [path.parent.name for path in tmp_path.rglob(ADMIN_FILE)] == [made[0].parent.name]


async def test_of_many_in_one_folder_all_agree(redis_url: str, settings: Settings) -> None:
    async def start() -> None:
        async with Store(redis_url, settings) as store:
            await ensure_first_admin(store, settings)

    await asyncio.gather(*[start() for _ in range(6)])
    async with Store(redis_url, settings) as store:
        tokens = [token async for token in store.tokens.all()]
        assert len(tokens) == 1
        written = (settings.data_dir / ADMIN_FILE).read_text().strip()
        assert await store.tokens.find(digest(written)) == ADMIN


async def test_a_folder_that_is_not_writable_is_said_in_a_sentence(
    store: Store, settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartupError, match="AGENTCOM_ADMIN_TOKEN"):
        await ensure_first_admin(store, in_folder(settings, tmp_path / "file"))


class TestConfigured:
    @pytest.fixture
    def configured(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"admin_token": SecretStr(CONFIGURED)})

    async def test_it_is_valid_and_nothing_is_written(self, store: Store, configured: Settings) -> None:
        for _ in range(2):
            assert await ensure_first_admin(store, configured) is None
        assert await store.tokens.find(digest(CONFIGURED)) == ADMIN
        assert list(configured.data_dir.iterdir()) == []

    async def test_it_is_made_valid_again(self, store: Store, configured: Settings) -> None:
        await store.tokens.mint("somebody", role=Role.AGENT)
        await ensure_first_admin(store, configured)
        await store.tokens.revoke("admin")
        await ensure_first_admin(store, configured)
        assert await store.tokens.find(digest(CONFIGURED)) == ADMIN

    async def test_it_is_nobody_elses(self, store: Store, configured: Settings) -> None:
        await store.tokens.mint("w1", role=Role.AGENT, token=CONFIGURED)
        with pytest.raises(StartupError, match="agent w1") as raised:
            await ensure_first_admin(store, configured)
        assert CONFIGURED not in str(raised.value)


async def test_it_waits_for_redis(durable_redis: EmbeddedRedis, settings: Settings) -> None:
    url = durable_redis.url
    durable_redis.kill()
    async with Store(url, settings) as store:
        component = FirstAdmin(store, settings)
        supervisor = Supervisor("api", [component])
        running = asyncio.create_task(supervisor.run())
        assert not component.ready.is_set()
        await durable_redis.start()
        await eventually(component.ready.is_set, timeout=30)
        assert (settings.data_dir / ADMIN_FILE).exists()
        supervisor.request_stop("test")
        await running
