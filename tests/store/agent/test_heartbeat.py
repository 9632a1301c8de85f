"""agent/heartbeat: an agent's ping; for a client that sends no progress, being alive is its progress."""

from __future__ import annotations

from agentcom.errors import ConnectionReplaced
from agentcom.store.store import Store
from tests.support.clock import T0, StoreClock
from tests.support.refusals import refused
from tests.support.snapshot import changes
from tests.support.stages import MINUTE, assigned, idle_agent, working


async def test_an_idle_agent_was_seen(store: Store, clock: StoreClock) -> None:
    await idle_agent(store)
    await clock.advance(7)
    assert await changes(store, store.agents.heartbeat("a1", conn="a1-conn")) == {"agents:seen": {"a1": T0 + 7}}
    assert await store.agents.heartbeat("a1", conn="a1-conn") == T0 + 7


async def test_a_working_agent_keeps_its_task(store: Store, clock: StoreClock) -> None:
    await working(store)
    await clock.advance(7)
    assert await changes(store, store.agents.heartbeat("a1", conn="a1-conn")) == {
        "agents:seen": {"a1": T0 + 7},
        "due:progress": {"t1": T0 + 7 + 5 * MINUTE},
    }


async def test_a_client_that_sends_progress_must_send_it(store: Store, clock: StoreClock) -> None:
    await working(store, features=["cancel", "progress"])
    await clock.advance(7)
    assert await changes(store, store.agents.heartbeat("a1", conn="a1-conn")) == {"agents:seen": {"a1": T0 + 7}}


async def test_an_assignment_must_be_accepted_all_the_same(store: Store, clock: StoreClock) -> None:
    await assigned(store)
    await clock.advance(7)
    assert await changes(store, store.agents.heartbeat("a1", conn="a1-conn")) == {"agents:seen": {"a1": T0 + 7}}


async def test_an_older_connection_is_refused(store: Store, clock: StoreClock) -> None:
    await idle_agent(store)
    await clock.advance(7)
    await refused(store, store.agents.heartbeat("a1", conn="older"), ConnectionReplaced)


async def test_an_unknown_agent_is_refused(store: Store, clock: StoreClock) -> None:
    await refused(store, store.agents.heartbeat("a1", conn="a1-conn"), ConnectionReplaced)
