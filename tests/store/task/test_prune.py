"""task/prune: removes the oldest finished tasks, by age and by count."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from agentcom.settings import DAY, Settings
from agentcom.store.store import Store
from agentcom.store.tasks import Swept
from tests.support.builders import a_task
from tests.support.clock import T0, StoreClock
from tests.support.snapshot import GONE, changes
from tests.support.stages import dead, working


@pytest.fixture
async def few(redis_url: str, namespace: str) -> AsyncIterator[Store]:
    """The same namespace as ``store``, keeping two finished tasks and one dead letter."""
    settings = Settings(redis_url=redis_url, namespace=namespace, finished_max_count=2, dead_max_count=1)
    async with Store(redis_url, settings, shifted_clock=True) as opened:
        yield opened


async def cancelled(store: Store, clock: StoreClock, *names: str) -> None:
    for name in names:
        await store.tasks.submit(a_task(name))
        await store.tasks.cancel(name, requester="submitter", privileged=False, reason="r")
        await clock.advance(1)


async def test_a_task_finished_long_ago_is_removed_with_all_it_left(store: Store, clock: StoreClock) -> None:
    agent = await working(store)
    await store.tasks.complete("t1", "a1", conn=agent.conn, generation=1, result=b"1", tokens_used=1)
    await clock.advance(7 * DAY)
    changed = await changes(store, store.tasks.prune("finished", limit=10))
    assert set(changed.pop("task:t1").values()) == {GONE}
    assert changed == {
        "counters": {"pruned": 1},
        "events": [{"event": "task_pruned", "count": 1}],
        "finished": {"t1": GONE},
        "history:t1": GONE,
        "status:completed": {"t1": GONE},
    }
    assert (await store.tasks.counts()).unaccounted == 0


async def test_dead_letters_are_kept_longer(store: Store, clock: StoreClock) -> None:
    await dead(store)
    await clock.advance(30 * DAY - 1)
    assert await changes(store, store.tasks.prune("dead", limit=10)) == {}
    await clock.advance(1)
    changed = await changes(store, store.tasks.prune("dead", limit=10))
    assert changed["dead"] == {"t1": GONE}
    assert changed["status:dead_letter"] == {"t1": GONE}


async def test_each_kind_leaves_the_other_alone(store: Store, clock: StoreClock) -> None:
    await cancelled(store, clock, "t1")
    await clock.advance(60 * DAY)
    assert await store.tasks.prune("dead", limit=10) == Swept(0, more=False)


async def test_the_newest_are_kept_up_to_a_count(store: Store, few: Store, clock: StoreClock) -> None:
    await cancelled(store, clock, "t1", "t2", "t3", "t4")
    changed = await changes(store, few.tasks.prune("finished", limit=10))
    assert changed["finished"] == {"t1": GONE, "t2": GONE}
    assert changed["events"] == [{"event": "task_pruned", "count": 2}]


async def test_age_and_count_work_together(store: Store, few: Store, clock: StoreClock) -> None:
    await cancelled(store, clock, "t1")
    await clock.advance(7 * DAY)
    await cancelled(store, clock, "t2", "t3", "t4")
    assert await few.tasks.prune("finished", limit=10) == Swept(2, more=False)
    assert await changes(store, few.tasks.prune("finished", limit=10)) == {}


async def test_a_batch_is_bounded_and_says_that_more_is_to_do(store: Store, few: Store, clock: StoreClock) -> None:
    await cancelled(store, clock, *(f"t{number}" for number in range(5)))
    assert await few.tasks.prune("finished", limit=2) == Swept(2, more=True)
    assert await few.tasks.prune("finished", limit=2) == Swept(1, more=False)
    assert await store.link.call("ZRANGE", store.keys.finished(), 0, -1) == [b"t3", b"t4"]


async def test_live_tasks_are_never_pruned(store: Store, clock: StoreClock) -> None:
    await working(store)
    await store.tasks.submit(a_task("t2", target_agent="nobody"))
    await store.tasks.submit(a_task("t3", run_at=T0 + 1))
    await clock.advance(365 * DAY)
    assert await changes(store, store.tasks.prune("finished", limit=10)) == {}
    assert await changes(store, store.tasks.prune("dead", limit=10)) == {}
