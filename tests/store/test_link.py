"""The pipelined connection: order, losses, time limits, and the ways to reach Redis."""

from __future__ import annotations

import asyncio
import gc
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import structlog
from redis.asyncio import ConnectionPool

from agentcom.errors import StoreUnavailable
from agentcom.settings import Settings
from agentcom.store import link as link_module
from agentcom.store.link import CommandError, Link, RedisValue
from agentcom.store.replies import as_int, as_list
from agentcom.store.store import Store
from services.local.redis_server import EmbeddedRedis
from tests.support.builders import a_task
from tests.support.eventually import eventually
from tests.support.proxy import LossyProxy


def no_greeting() -> Sequence[tuple[bytes, ...]]:
    return []


@asynccontextmanager
async def linked(
    url: str, *, greeting: Callable[[], Sequence[tuple[bytes, ...]]] = no_greeting, timeout_s: float = 10.0
) -> AsyncIterator[Link]:
    link = Link(ConnectionPool.from_url(url, socket_connect_timeout=1), greeting=greeting, timeout_s=timeout_s)
    link.start()
    try:
        yield link
    finally:
        await link.close()


@pytest.fixture
def key(namespace: str) -> str:
    return f"{namespace}:list"


@pytest.fixture
def little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "PATIENCE_S", 0.2)


def appended(link: Link, key: str, values: Sequence[int]) -> list[asyncio.Future[RedisValue]]:
    """Calls that are safe to run twice: a value that is there already is not appended again."""
    script = (
        "if redis.call('ZSCORE', KEYS[1], ARGV[1]) then return 'again' end "
        "return redis.call('ZADD', KEYS[1], redis.call('ZCARD', KEYS[1]), ARGV[1])"
    )
    return [link.call("EVAL", script, 1, key, value) for value in values]


async def values_of(link: Link, key: str) -> list[int]:
    return [as_int(value) for value in as_list(await link.call("ZRANGE", key, 0, -1))]


class TestCalls:
    async def test_replies_come_in_the_order_of_the_calls(self, redis_url: str, key: str) -> None:
        async with linked(redis_url) as link:
            calls = [link.call("INCR", key) for _ in range(1_000)]
            done: list[RedisValue] = []
            for call in calls:
                call.add_done_callback(lambda answered: done.append(answered.result()))
            assert [await call for call in calls] == list(range(1, 1_001))
            await asyncio.sleep(0)
            assert done == list(range(1, 1_001))

    async def test_calls_of_one_turn_travel_in_one_write(self, redis_url: str, key: str) -> None:
        async with linked(redis_url) as link:
            await link.call("PING")
            before = await _net_reads(link)
            await asyncio.gather(*[link.call("INCR", key) for _ in range(100)])
            assert await _net_reads(link) - before < 20

    async def test_a_refused_command_fails_alone(self, redis_url: str, key: str) -> None:
        async with linked(redis_url) as link:
            first, wrong, last = link.call("SET", key, "x"), link.call("LPUSH", key, "y"), link.call("GET", key)
            assert await first == b"OK"
            with pytest.raises(CommandError, match="WRONGTYPE"):
                await wrong
            assert await last == b"x"

    async def test_all_argument_types_arrive(self, redis_url: str, key: str) -> None:
        async with linked(redis_url) as link:
            await link.call(b"RPUSH", key, b"\x00\r\n", "é", 1, 2.5)
            assert await link.call("LRANGE", key, 0, -1) == [b"\x00\r\n", "é".encode(), b"1", b"2.5"]

    async def test_a_call_before_the_link_is_started_is_a_mistake(self, redis_url: str) -> None:
        link = Link(ConnectionPool.from_url(redis_url), greeting=no_greeting)
        with pytest.raises(RuntimeError, match="not started"):
            link.call("PING")

    async def test_calls_may_be_made_before_the_connection_stands(self, redis_url: str) -> None:
        async with linked(redis_url) as link:
            assert not link.connected
            assert await link.call("PING") == b"PONG"
            assert link.connected

    async def test_a_caller_that_goes_away_disturbs_nobody(self, redis_url: str, key: str) -> None:
        async with linked(redis_url) as link:
            calls = [link.call("INCR", key) for _ in range(3)]
            calls[1].cancel()
            assert await calls[0] == 1
            later = await link.call("INCR", key)
            assert later == await calls[2] + 1  # type: ignore[operator]


async def _net_reads(link: Link) -> int:
    info = await link.call("INFO", "stats")
    assert isinstance(info, bytes)
    fields = dict(line.split(":", 1) for line in info.decode().splitlines() if ":" in line)
    return int(fields["total_reads_processed"])


class TestLostConnections:
    async def test_a_cut_connection_is_replaced(self, proxy: LossyProxy, proxy_url: str) -> None:
        async with linked(proxy_url) as link:
            assert await link.call("PING") == b"PONG"
            proxy.cut()
            assert await link.call("PING") == b"PONG"
            assert proxy.accepted == 2

    async def test_calls_without_a_reply_are_sent_again_in_order(
        self, proxy: LossyProxy, proxy_url: str, key: str
    ) -> None:
        async with linked(proxy_url) as link:
            await link.call("PING")
            for start in range(0, 500, 100):
                calls = appended(link, key, range(start, start + 50))
                if start % 200:
                    await asyncio.sleep(0)
                proxy.cut()
                calls += appended(link, key, range(start + 50, start + 100))
                await asyncio.gather(*calls)
            assert await values_of(link, key) == list(range(500))
            assert proxy.accepted > 3

    @pytest.mark.usefixtures("patient_calls")
    async def test_a_killed_and_restarted_server_gets_them_in_order(
        self, durable_redis: EmbeddedRedis, key: str
    ) -> None:
        async with linked(durable_redis.url) as link:
            await asyncio.gather(*appended(link, key, range(100)))
            calls = appended(link, key, range(100, 200))
            await asyncio.sleep(0)
            durable_redis.kill()
            calls += appended(link, key, range(200, 300))
            await durable_redis.start()
            calls += appended(link, key, range(300, 400))
            await asyncio.gather(*calls)
            assert await values_of(link, key) == list(range(400))

    async def test_what_a_silent_partition_swallowed_is_sent_again(
        self, proxy: LossyProxy, proxy_url: str, key: str
    ) -> None:
        async with linked(proxy_url, timeout_s=1.0) as link:
            await link.call("PING")
            proxy.lose()
            swallowed = appended(link, key, [0])[0]
            await asyncio.sleep(0.5)
            later = appended(link, key, [1])[0]
            proxy.release()
            # The connection that swallowed both is given up when the time of the first is over; only the later one is
            # still wanted then.
            with pytest.raises(StoreUnavailable):
                await swallowed
            await later
            assert await values_of(link, key) == [1]

    async def test_a_slow_network_is_only_slow(self, proxy: LossyProxy, proxy_url: str, key: str) -> None:
        proxy.delay_s = 0.02
        async with linked(proxy_url) as link:
            await asyncio.gather(*appended(link, key, range(10)))
            assert await values_of(link, key) == list(range(10))
            assert proxy.accepted == 1

    async def test_it_keeps_trying_while_nobody_listens(self, proxy: LossyProxy, proxy_url: str) -> None:
        proxy.refuse()
        async with linked(proxy_url) as link:
            call = link.call("PING")
            await eventually(lambda: proxy.accepted >= 3)
            proxy.release()
            assert await call == b"PONG"

    async def test_a_crash_of_the_connection_loop_is_survived(
        self, redis_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        greetings = iter([ValueError("no greeting")])

        def greeting() -> Sequence[tuple[bytes, ...]]:
            for error in greetings:
                raise error
            return [(b"PING",)]

        with structlog.testing.capture_logs() as logs:
            async with linked(redis_url, greeting=greeting) as link:
                assert await link.call("PING") == b"PONG"
        assert "store_connection_crashed" in [entry["event"] for entry in logs]


class TestTimeLimits:
    async def test_without_a_server_calls_fail_in_time(self, proxy: LossyProxy, proxy_url: str) -> None:
        proxy.refuse()
        async with linked(proxy_url, timeout_s=0.2) as link:
            calls = [link.call("PING") for _ in range(10)]
            for call in calls:
                with pytest.raises(StoreUnavailable):
                    await call

    async def test_a_stopped_server_fails_calls_in_time(self, proxy: LossyProxy, proxy_url: str) -> None:
        async with linked(proxy_url, timeout_s=0.2) as link:
            await link.call("PING")
            proxy.hold()
            with pytest.raises(StoreUnavailable):
                await link.call("PING")
            proxy.release()
            assert await eventually_answers(link) == b"PONG"

    async def test_a_call_that_was_given_up_is_not_sent_later(
        self, proxy: LossyProxy, proxy_url: str, key: str
    ) -> None:
        proxy.refuse()
        async with linked(proxy_url, timeout_s=0.3) as link:
            late = link.call("RPUSH", key, "late")
            cancelled = link.call("RPUSH", key, "cancelled")
            cancelled.cancel()
            with pytest.raises(StoreUnavailable):
                await late
            proxy.release()
            assert await eventually_answers(link) == b"PONG"
            assert await link.call("EXISTS", key) == 0

    async def test_too_many_waiting_calls_are_refused(
        self, proxy: LossyProxy, proxy_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(link_module, "MAX_WAITING", 5)
        proxy.refuse()
        async with linked(proxy_url) as link:
            calls = [link.call("PING") for _ in range(6)]
            with pytest.raises(StoreUnavailable, match="too many"):
                await calls[5]
            proxy.release()
            assert await asyncio.gather(*calls[:5]) == [b"PONG"] * 5

    async def test_closing_fails_what_waits(self, proxy: LossyProxy, proxy_url: str) -> None:
        async with linked(proxy_url) as link:
            await link.call("PING")
            proxy.hold()
            sent, waiting = link.call("PING"), link.call("PING")
            await asyncio.sleep(0)
        for call in (sent, waiting):
            with pytest.raises(StoreUnavailable, match="was closed"):
                await call

    async def test_a_call_after_closing_fails_at_once(self, redis_url: str) -> None:
        async with linked(redis_url) as link:
            await link.call("PING")
        assert isinstance(link.call("PING").exception(), StoreUnavailable)

    async def test_a_connection_without_an_answer_to_its_greeting_is_given_up(self) -> None:
        async with (
            scripted_server(refusals=1, refusal=b"") as (url, served),
            linked(url, greeting=lambda: [(b"GET", b"hello")], timeout_s=0.3) as link,
        ):
            await eventually(lambda: link.connected)
            assert await link.call("GET", "x") == b"x"
        assert served == [b"hello", b"x"]


@pytest.mark.usefixtures("little_patience")
class TestLongLosses:
    """The calls here have a minute: what fails, fails because the connection is missing."""

    async def test_calls_fail_that_wait_and_new_ones_at_once(self, proxy: LossyProxy, proxy_url: str) -> None:
        async with linked(proxy_url, timeout_s=60.0) as link:
            await link.call("PING")
            proxy.hold()
            sent = link.call("PING")
            await asyncio.sleep(0)
            proxy.refuse()
            proxy.cut()
            await eventually(lambda: not link.connected)
            unsent = link.call("PING")
            for call in (sent, unsent):
                with pytest.raises(StoreUnavailable):
                    await call
            refused = link.call("PING")
            assert isinstance(refused.exception(), StoreUnavailable)

    async def test_it_ends_as_soon_as_a_connection_stands(self, proxy: LossyProxy, proxy_url: str, key: str) -> None:
        proxy.refuse()
        async with linked(proxy_url, timeout_s=60.0) as link:
            with pytest.raises(StoreUnavailable):
                await appended(link, key, [99])[0]
            await asyncio.gather(*appended(link, key, range(3)), return_exceptions=True)
            proxy.release()
            await eventually(lambda: link.connected)
            await asyncio.gather(*appended(link, key, [100]))
            assert await values_of(link, key) == [100], "what was refused must not be done later"

    async def test_a_server_that_connects_but_refuses_is_no_connection(self) -> None:
        async with scripted_server(refusals=1_000, refusal=b"READONLY") as (url, _), linked(url, timeout_s=60) as link:
            with pytest.raises(StoreUnavailable):
                await link.call("GET", "x")
            await eventually(lambda: not link.connected)
            with pytest.raises(StoreUnavailable):
                await link.call("GET", "x")

    async def test_who_looks_at_the_first_of_several_calls_alone_leaves_no_errors(
        self, proxy: LossyProxy, proxy_url: str
    ) -> None:
        unhandled: list[dict[str, object]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
        proxy.refuse()
        async with linked(proxy_url) as link:
            for _ in range(2):  # calls that waited, and calls refused at once
                calls = [link.call("PING") for _ in range(3)]
                with pytest.raises(StoreUnavailable):
                    await calls[0]
                del calls
        gc.collect()
        assert unhandled == []

    async def test_its_reason_is_logged_once(self, proxy: LossyProxy, proxy_url: str) -> None:
        proxy.refuse()
        with structlog.testing.capture_logs() as logs:
            async with linked(proxy_url):
                await eventually(lambda: proxy.accepted >= 6)
        reasons = [entry["error"] for entry in logs if entry["event"] == "store_connection_failed"]
        assert reasons
        assert all(one != other for one, other in itertools.pairwise(reasons))


async def eventually_answers(link: Link) -> RedisValue:
    async def answers() -> RedisValue:
        try:
            return await link.call("PING")
        except StoreUnavailable as error:
            raise AssertionError("no answer yet") from error

    return await eventually(answers)


class TestServersThatCannotYet:
    """A server that loads its data or became a replica refuses; the calls wait for one that takes them."""

    @pytest.mark.parametrize(
        "refusal", [b"LOADING Redis is loading the dataset in memory", b"READONLY You can't write"]
    )
    @pytest.mark.parametrize("times", [1, 3])
    async def test_calls_wait_until_it_can(self, refusal: bytes, times: int) -> None:
        async with scripted_server(refusals=times, refusal=refusal) as (url, served), linked(url) as link:
            calls = [link.call("GET", str(number)) for number in range(5)]
            assert await asyncio.gather(*calls) == [b"0", b"1", b"2", b"3", b"4"]
        assert served == [b"0", b"1", b"2", b"3", b"4"]

    async def test_a_refused_greeting_is_tried_again(self) -> None:
        """And no call is sent before it was answered: half of them could run before those that were refused."""
        greeting = [(b"GET", b"hello")]
        async with (
            scripted_server(refusals=2, refusal=b"LOADING wait", ready_at_once=True) as (url, served),
            linked(url, greeting=lambda: greeting) as link,
        ):
            assert await link.call("GET", "x") == b"x"
        assert served == [b"hello", b"x"]


async def _command(reader: asyncio.StreamReader) -> list[bytes]:
    """The next command; empty when the client has gone."""
    parts = []
    header = await reader.readline()
    for _ in range(int(header[1:] or 0)):
        size = int((await reader.readline())[1:])
        parts.append((await reader.readexactly(size + 2))[:-2])
    return parts


@asynccontextmanager
async def scripted_server(
    *, refusals: int, refusal: bytes, ready_at_once: bool = False
) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that answers GET with the key, but refuses to on its first connections, or only at their beginning.

    An empty refusal is no answer at all.
    """
    served: list[bytes] = []
    left = refusals

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal left
        refusing = left > 0
        left -= 1
        while command := await _command(reader):
            if command[0] != b"GET":
                writer.write(b"+OK\r\n")  # what a client says of itself
            elif refusing:
                refusing = not ready_at_once
                writer.write(b"-" + refusal + b"\r\n" if refusal else b"")
            else:
                served.append(command[1])
                writer.write(b"$%d\r\n%s\r\n" % (len(command[1]), command[1]))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0", served
    finally:
        server.close()


class TestWaysToReachRedis:
    async def test_unix_socket(self, tmp_path: Path, key: str) -> None:
        server = EmbeddedRedis(tmp_path, persistent=False)
        await server.start()
        try:
            assert server.url.startswith("unix://")
            async with linked(server.url) as link:
                assert await link.call("INCR", key) == 1
        finally:
            server.stop()

    async def test_password_in_the_url(self, tmp_path: Path) -> None:
        server = EmbeddedRedis(tmp_path, port=0, persistent=False)
        await server.start()
        try:
            async with linked(server.url) as link:
                await link.call("CONFIG", "SET", "requirepass", "s3cret/:@")
            url = f"redis://:s3cret%2F%3A%40@127.0.0.1:{server.port}/0"
            async with linked(url) as link:
                assert await link.call("PING") == b"PONG"
            with structlog.testing.capture_logs() as logs:
                async with linked(url.replace("s3cret", "wrong"), timeout_s=0.5) as link:
                    with pytest.raises(StoreUnavailable):
                        await link.call("PING")
            assert {entry["log_level"] for entry in logs} == {"error"}
            assert not any("wrong" in str(entry) for entry in logs)
        finally:
            server.stop()

    async def test_another_database(self, redis_url: str, key: str) -> None:
        async with linked(redis_url.rpartition("/")[0] + "/1") as one, linked(redis_url) as zero:
            await one.call("SET", key, "1")
            assert await zero.call("GET", key) is None
            await one.call("DEL", key)


class TestScripts:
    async def test_scripts_that_were_flushed_are_loaded_again(self, store: Store) -> None:
        await store.tasks.counts()
        await store.link.call("SCRIPT", "FLUSH")
        assert (await store.tasks.counts()).submitted == 0
        assert (await store.tasks.submit(a_task())).status == "queued"

    @pytest.mark.usefixtures("patient_calls")
    async def test_a_restarted_server_knows_them_before_the_first_call(
        self, durable_redis: EmbeddedRedis, namespace: str
    ) -> None:
        settings = Settings(redis_url=durable_redis.url, namespace=namespace)
        async with Store(durable_redis.url, settings) as store:
            await store.tasks.submit(a_task("t1"))
            durable_redis.kill()
            submissions = [asyncio.create_task(store.tasks.submit(a_task(f"later{number}"))) for number in range(20)]
            await durable_redis.start()
            assert [(await task).task_id for task in submissions] == [f"later{number}" for number in range(20)]
            assert (await store.tasks.counts()).submitted == 21
            stats = await store.link.call("INFO", "errorstats")
            assert b"NOSCRIPT" not in (stats if isinstance(stats, bytes) else b"")

    @pytest.mark.usefixtures("patient_calls")
    async def test_an_acknowledged_task_survives_a_kill(self, durable_redis: EmbeddedRedis, namespace: str) -> None:
        settings = Settings(redis_url=durable_redis.url, namespace=namespace)
        async with Store(durable_redis.url, settings) as store:
            for number in range(50):
                await store.tasks.submit(a_task(f"t{number}"))
            durable_redis.kill()
            await durable_redis.start()
            counts = await store.tasks.counts()
            assert (counts.submitted, counts.unaccounted) == (50, 0)

    async def test_an_error_in_a_script_is_the_callers(self, redis_url: str, key: str) -> None:
        async with linked(redis_url) as link:
            with pytest.raises(CommandError):
                await link.call("EVAL", "return redis.call('HGET', KEYS[1])", 1, key)
            assert await link.call("PING") == b"PONG"
