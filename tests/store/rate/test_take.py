"""rate/take, and the guarded variant of every script: token buckets that lose and invent nothing."""

from __future__ import annotations

import asyncio

import pytest

from agentcom.domain.limits import MICRO, Lane, Limit, Tier
from agentcom.errors import RateLimited, TaskNotFound
from agentcom.settings import Settings
from agentcom.store.guard import CURRENT, Guard, claim
from agentcom.store.replies import as_int
from agentcom.store.store import Store
from tests.support.builders import a_task
from tests.support.clock import StoreClock


def guard(capacity: float = 3, rate: float = 60, *, identity: str = "w1", lane: Lane = Lane.HTTP) -> Guard:
    size, gain = Limit(capacity, rate).micro
    return Guard(identity=identity, lane=lane, tier=Tier.HEAVY, capacity=size, rate=gain)


async def take(store: Store, asked: Guard) -> Guard:
    await store.rate_limits.take(asked)
    return asked


async def denied(store: Store, asked: Guard) -> int:
    """The milliseconds to wait."""
    with pytest.raises(RateLimited) as caught:
        await store.rate_limits.take(asked)
    assert asked.verdict == "deny"
    assert caught.value.details == {"retry_after_ms": asked.left, "tier": "heavy"}
    return asked.left


async def test_a_bucket_begins_full_and_empties(store: Store, clock: StoreClock) -> None:
    assert [(await take(store, guard())).left for _ in range(3)] == [2, 1, 0]
    assert await denied(store, guard()) == 1_000


async def test_it_warns_below_a_fifth(store: Store, clock: StoreClock) -> None:
    verdicts = [(await take(store, guard(10, 10))).verdict for _ in range(10)]
    assert verdicts == ["allow"] * 8 + ["warn"] * 2


async def test_waiting_refills_it(store: Store, clock: StoreClock) -> None:
    for _ in range(3):
        await take(store, guard())
    await clock.advance(999)
    await denied(store, guard())
    await clock.advance(1)
    assert (await take(store, guard())).left == 0
    await clock.advance(60_000)
    assert (await take(store, guard())).left == 2


async def test_no_polling_is_too_fast_to_refill(store: Store, clock: StoreClock) -> None:
    """Seven tokens a minute are a fraction of a millionth each millisecond; none of it is lost."""
    for _ in range(3):
        await take(store, guard(3, 7))
    steps = 0
    while True:
        await clock.advance(1)
        steps += 1
        try:
            await take(store, guard(3, 7))
        except RateLimited:
            if steps < 8_571:
                # Most of the way at once, in odd steps, to keep the test short; the last part one by one.
                jump = 13 if steps < 8_500 else 0
                await clock.advance(jump)
                steps += jump
            continue
        break
    assert steps == 8_572  # 60,000 / 7, rounded up


async def test_the_wait_is_in_whole_seconds(store: Store, clock: StoreClock) -> None:
    await take(store, guard(1, 10))
    assert await denied(store, guard(1, 10)) == 6_000
    await clock.advance(5_500)
    assert await denied(store, guard(1, 10)) == 1_000


async def test_lanes_and_identities_are_apart(store: Store, clock: StoreClock) -> None:
    await take(store, guard(1))
    await denied(store, guard(1))
    await take(store, guard(1, lane=Lane.WS))
    await take(store, guard(1, identity="w2"))


async def test_a_bucket_expires_when_it_would_be_full(store: Store, clock: StoreClock) -> None:
    await take(store, guard(3, 60))
    left = as_int(await store.link.call("PTTL", store.keys.bucket("http", "heavy", "w1")))
    assert 0 < left <= 1_000


async def test_replicas_spend_from_one_bucket(redis_url: str, namespace: str, store: Store) -> None:
    """Fifty at once over three connections: exactly ten get through."""
    settings = Settings(namespace=namespace)
    async with Store(redis_url, settings) as second, Store(redis_url, settings) as third:
        stores = [store, second, third]
        taking = [stores[number % 3].rate_limits.take(guard(10, 0.001)) for number in range(50)]
        results = await asyncio.gather(*taking, return_exceptions=True)
    assert sum(1 for result in results if result is None) == 10
    assert sum(1 for result in results if isinstance(result, RateLimited)) == 40


async def test_limits_of_its_own(store: Store, clock: StoreClock) -> None:
    await take(store, guard(1))
    await store.rate_limits.override("w1", {Tier.HEAVY: Limit(2.5, 30)})
    assert [(await take(store, guard(1))).left for _ in range(2)] == [1, 0]
    assert await denied(store, guard(1)) == 1_000
    rules = await store.rate_limits.rules()
    assert rules.overrides == {"w1": {Tier.HEAVY: Limit(2.5, 30)}}
    await store.rate_limits.remove_override("w1")
    assert (await take(store, guard(1))).limit == 1
    await denied(store, guard(1))


async def test_the_exempt_have_no_bucket(store: Store, clock: StoreClock) -> None:
    await store.rate_limits.replace_exempt(["a", "w1"])
    await store.rate_limits.add_exempt("b", now=await store.services.now())
    assert await store.rate_limits.exempt() == ["b", "a", "w1"]
    for _ in range(5):
        assert (await take(store, guard(1))).verdict == "exempt"
    assert as_int(await store.link.call("EXISTS", store.keys.bucket("http", "heavy", "w1"))) == 0
    await store.rate_limits.remove_exempt("w1")
    await take(store, guard(1))
    await denied(store, guard(1))


async def test_denials_are_counted_and_forgotten(store: Store, clock: StoreClock) -> None:
    await take(store, guard(1))
    for _ in range(3):
        await denied(store, guard(1))
    assert as_int(await store.link.call("HLEN", store.keys.rate_violations("w1"))) == 2
    assert await store.rate_limits.forget_all() == 2
    assert (await take(store, guard(1))).verdict == "allow"


class TestGuardedWork:
    async def test_the_first_script_takes_the_token(self, store: Store) -> None:
        asked = guard(2)
        await store.rate_limits.change(asked, lambda: store.tasks.submit(a_task("t1")))
        assert (asked.verdict, asked.left) == ("allow", 1)
        assert (await store.task_reader.get("t1")).id == "t1"

    async def test_denied_work_is_not_done(self, store: Store) -> None:
        await take(store, guard(1))
        with pytest.raises(RateLimited):
            await store.rate_limits.change(guard(1), lambda: store.tasks.submit(a_task("t1")))
        with pytest.raises(TaskNotFound):
            await store.task_reader.get("t1")
        assert (await store.tasks.counts()).submitted == 0

    async def test_it_is_one_round_trip(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        calls: list[object] = []
        call = store.link.call

        def counted(*command: bytes | str | float) -> object:
            calls.append(command[0])
            return call(*command)

        await store.rate_limits.change(guard(5), lambda: store.tasks.submit(a_task("t1")))  # loads the script
        monkeypatch.setattr(store.link, "call", counted)
        await store.rate_limits.change(guard(5), lambda: store.tasks.submit(a_task("t2")))
        assert calls == ["EVALSHA"]

    async def test_only_the_first_script_pays(self, store: Store) -> None:
        async def work() -> None:
            for number in range(3):
                await store.tasks.submit(a_task(f"t{number}"))

        asked = guard(1)
        await store.rate_limits.change(asked, work)
        assert (await store.tasks.counts()).submitted == 3
        assert asked.left == 0

    async def test_work_that_is_refused_pays_all_the_same(self, store: Store) -> None:
        async def refuse() -> None:
            raise TaskNotFound

        with pytest.raises(TaskNotFound):
            await store.rate_limits.change(guard(1), refuse)
        with pytest.raises(RateLimited):
            await store.rate_limits.change(guard(1), refuse)

    async def test_a_refusal_of_the_script_itself_comes_through(self, store: Store) -> None:
        with pytest.raises(TaskNotFound):
            await store.rate_limits.change(guard(5), lambda: store.tasks.retry("nothing"))

    async def test_reads_are_given_up(self, store: Store) -> None:
        await take(store, guard(1))
        finished = False

        async def read() -> int:
            nonlocal finished
            count = await store.agents.count()
            await store.agents.count()
            finished = True
            return count

        with pytest.raises(RateLimited):
            await store.rate_limits.read(guard(1), read)
        assert not finished
        assert await store.rate_limits.read(guard(1, identity="w2"), read) == 0

    async def test_the_guard_ends_with_its_work(self, store: Store) -> None:
        await store.rate_limits.change(guard(5), lambda: store.tasks.submit(a_task("t1")))
        assert CURRENT.get() is None
        assert claim() is None

    async def test_a_tier_without_a_limit_has_no_guard(self, redis_url: str, namespace: str) -> None:
        async with Store(redis_url, Settings(namespace=namespace, rate_heavy=0)) as store:
            assert store.rate_limits.guard("w1", lane=Lane.HTTP, tier=Tier.HEAVY) is None
            light = store.rate_limits.guard("w1", lane=Lane.HTTP, tier=Tier.LIGHT)
            assert light is not None
            assert (light.capacity, light.rate) == (1_200 * MICRO, 1_200 * MICRO)
