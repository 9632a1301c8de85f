"""A deadline whose task is gone must not keep the sweep of its kind from the others."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from agentcom.store.store import Store
from agentcom.store.tasks import Swept
from tests.support.builders import a_task
from tests.support.clock import T0, StoreClock
from tests.support.snapshot import GONE, changes
from tests.support.stages import working

SWEEPS: dict[str, Callable[[Store], Awaitable[Swept]]] = {
    "accept": lambda store: store.tasks.reclaim("accept", limit=10),
    "progress": lambda store: store.tasks.reclaim("progress", limit=10),
    "runtime": lambda store: store.tasks.overrun(limit=10),
    "cancel": lambda store: store.tasks.end_cancel(limit=10),
    "delayed": lambda store: store.tasks.promote(limit=10),
    "expires": lambda store: store.tasks.expire("expires", limit=10),
    "complete_by": lambda store: store.tasks.expire("complete_by", limit=10),
}


@pytest.mark.parametrize("kind", SWEEPS)
async def test_it_is_dropped(store: Store, clock: StoreClock, kind: str) -> None:
    await store.link.call("ZADD", store.keys.due(kind), T0, "gone")
    assert await changes(store, SWEEPS[kind](store)) == {f"due:{kind}": {"gone": GONE}}


async def test_the_others_are_served(store: Store, clock: StoreClock) -> None:
    await store.link.call("ZADD", store.keys.due("expires"), T0, "gone")
    await store.tasks.submit(a_task("t1", expires_at=T0 + 1))
    await clock.advance(1)
    assert await store.tasks.expire("expires", limit=10) == Swept(2, more=False)
    assert (await store.task_reader.get("t1")).status == "dead_letter"


async def test_an_agent_whose_task_is_gone_is_forgotten(store: Store, clock: StoreClock) -> None:
    agent = await working(store)
    await store.agents.disconnect("a1", conn=agent.conn, reason="closed")
    await store.link.call("DEL", store.keys.task("t1"))
    await clock.advance(30_000)
    changed = await changes(store, store.agents.expire_grace(limit=10))
    assert changed["due:grace"] == {"a1": GONE}
    assert set(changed["agent:a1"].values()) == {GONE}
