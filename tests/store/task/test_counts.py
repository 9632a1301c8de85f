"""task/counts: how many tasks are in each place."""

from __future__ import annotations

from agentcom.domain.tasks import TaskStatus
from agentcom.store.store import Store
from tests.support.builders import a_task
from tests.support.clock import T0, StoreClock
from tests.support.snapshot import changes
from tests.support.stages import MINUTE, dead, working


async def test_an_empty_store_counts_nothing(store: Store, clock: StoreClock) -> None:
    counts = await store.tasks.counts()
    assert (counts.submitted, counts.pruned, counts.unaccounted) == (0, 0, 0)
    assert counts.by_status == dict.fromkeys(TaskStatus, (0, 0, 0, 0))


async def test_every_place_is_counted_by_priority(store: Store, clock: StoreClock) -> None:
    await dead(store, "dead", priority=3)
    await working(store, "done", "a2", target_agent="a2")
    await store.tasks.complete("done", "a2", conn="a2-conn", generation=1, result=b"1", tokens_used=None)
    await working(store, "held", "a3", target_agent="a3", priority=0)
    await store.tasks.submit_many([a_task(f"q{n}", target_agent="nobody", priority=1) for n in range(3)])
    await store.tasks.submit(a_task("later", run_at=T0 + MINUTE))
    await store.tasks.submit(a_task("unwanted", target_agent="nobody"))
    await store.tasks.cancel("unwanted", requester="submitter", privileged=False, reason="r")
    counts = await store.tasks.counts()
    assert counts.by_status == {
        TaskStatus.QUEUED: (0, 3, 0, 0),
        TaskStatus.DELAYED: (0, 0, 1, 0),
        TaskStatus.ASSIGNED: (1, 0, 0, 0),
        TaskStatus.COMPLETED: (0, 0, 1, 0),
        TaskStatus.CANCELLED: (0, 0, 1, 0),
        TaskStatus.DEAD_LETTER: (0, 0, 0, 1),
    }
    assert (counts.submitted, counts.unaccounted) == (8, 0)


async def test_a_lost_task_is_noticed(store: Store, clock: StoreClock) -> None:
    await store.tasks.submit(a_task("t1"))
    await store.link.call("ZREM", store.keys.status("queued"), "t1")
    assert (await store.tasks.counts()).unaccounted == 1


async def test_counting_changes_nothing(store: Store, clock: StoreClock) -> None:
    await working(store)
    assert await changes(store, store.tasks.counts()) == {}
