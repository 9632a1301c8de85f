"""A gateway's outbox: read in order, after what was read before, and trimmed."""

from __future__ import annotations

import asyncio
import json

from agentcom.store.store import Store
from tests.support.builders import a_task, an_agent
from tests.support.clock import StoreClock
from tests.support.snapshot import GONE, changes
from tests.support.stages import idle_agent, working


async def test_what_was_pushed_is_read_in_order(store: Store, clock: StoreClock) -> None:
    agent = await working(store)
    await store.tasks.cancel("t1", requester="submitter", privileged=False, reason="r")
    await store.tokens.revoke("a1")
    assign, cancel, close = await store.gateways.read_outbox("gw", after="0-0")
    assert [entry.conn for entry in (assign, cancel, close)] == [agent.conn] * 3
    assert [(entry.kind, entry.code) for entry in (assign, cancel, close)] == [
        ("assign", None),
        ("cancel", None),
        ("close", 4501),
    ]
    assert json.loads(assign.frame)["type"] == "task_assign"
    assert json.loads(cancel.frame)["type"] == "task_cancel"
    assert close.frame == b"token revoked"
    assert await store.gateways.read_outbox("gw", after=assign.entry_id) == [cancel, close]


async def test_the_wait_for_an_empty_outbox_ends(store: Store, clock: StoreClock) -> None:
    assert await store.gateways.read_outbox("gw", after="0-0") == []


async def test_a_waiting_reader_gets_what_comes(store: Store, clock: StoreClock) -> None:
    await idle_agent(store)
    reading = asyncio.create_task(store.gateways.read_outbox("gw", after="0-0"))
    await store.tasks.submit(a_task("t1"))
    [entry] = await reading
    assert entry.kind == "assign"


async def test_a_waiting_reader_does_not_hold_up_the_rest(store: Store, clock: StoreClock) -> None:
    reading = asyncio.create_task(store.gateways.read_outbox("gw", after="0-0"))
    await asyncio.sleep(0)
    await store.tasks.submit(a_task("t1"))
    assert not reading.done()
    assert await reading == []


async def test_what_was_pushed_on_is_trimmed(store: Store, clock: StoreClock) -> None:
    agent = await idle_agent(store)
    for number in range(3):
        agent = await an_agent(store, "a1", conn=f"c{number}", token_digest=agent.token_digest)
    entries = await store.gateways.read_outbox("gw", after="0-0")
    assert len(entries) == 3
    changed = await changes(store, store.gateways.trim_outbox("gw", through=entries[1].entry_id))
    assert changed == {"out:gw": [GONE, GONE]}
    assert await store.gateways.read_outbox("gw", after="0-0") == entries[2:]
