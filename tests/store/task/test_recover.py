"""task/recover: whether a client that came back still holds its task."""

from __future__ import annotations

from agentcom.store.store import Store
from tests.support.builders import a_task, an_agent, serve_matches
from tests.support.clock import T0, StoreClock
from tests.support.snapshot import GONE, changes
from tests.support.stages import MINUTE, assigned, working


async def test_the_holder_goes_on_in_the_current_generation(store: Store, clock: StoreClock) -> None:
    agent = await assigned(store, max_runtime_ms=0)
    await store.agents.disconnect("a1", conn=agent.conn, reason="closed")
    await an_agent(store, "a1", conn="newer", token_digest=agent.token_digest)
    await clock.advance(7)
    generations: list[int | None] = []

    async def call() -> None:
        generations.append(await store.tasks.recover("t1", "a1"))

    assert await changes(store, call()) == {
        "agent:a1": {"state": "working", "last_state_change": T0 + 7},
        "due:accept": {"t1": GONE},
        "due:progress": {"t1": T0 + 7 + 5 * MINUTE},
        "events": [{"event": "task_accepted", "task_id": "t1", "agent_id": "a1", "generation": 1}],
        "task:t1": {"accepted_at": T0 + 7, "updated_at": T0 + 7},
    }
    assert generations == [1]


async def test_recovering_again_only_moves_the_progress_deadline(store: Store, clock: StoreClock) -> None:
    await working(store)
    await clock.advance(7)
    assert await changes(store, store.tasks.recover("t1", "a1")) == {
        "due:progress": {"t1": T0 + 7 + 5 * MINUTE},
        "task:t1": {"updated_at": T0 + 7},
    }


async def test_a_task_that_came_back_to_its_agent_has_a_newer_generation(store: Store, clock: StoreClock) -> None:
    await assigned(store)
    await clock.advance(MINUTE)
    await store.tasks.reclaim("accept", limit=10)
    await serve_matches(store)
    assert await store.tasks.recover("t1", "a1") == 3


async def test_whoever_does_not_hold_the_task_must_drop_it(store: Store, clock: StoreClock) -> None:
    await working(store)
    await store.tasks.submit(a_task("t2", target_agent="nobody"))
    answers: list[int | None] = []

    async def call() -> None:
        answers.extend(
            [
                await store.tasks.recover("t1", "a2"),
                await store.tasks.recover("t2", "a1"),
                await store.tasks.recover("unknown", "a1"),
            ]
        )

    assert await changes(store, call()) == {}
    assert answers == [None, None, None]


async def test_a_task_whose_cancel_was_asked_for_must_be_dropped(store: Store, clock: StoreClock) -> None:
    await working(store)
    await store.tasks.cancel("t1", requester="submitter", privileged=False, reason="not needed")
    assert await store.tasks.recover("t1", "a1") is None


async def test_a_resting_agent_that_drops_its_task_is_free(store: Store, clock: StoreClock) -> None:
    await assigned(store)
    await store.tasks.reject("t1", "a1", generation=1, reason="busy")
    assert await changes(store, store.tasks.recover("t1", "a1")) == {
        "agent:a1": {"state": "idle"},
        "due:unblock": {"a1": GONE},
        "idle": {"a1": T0},
        "match": [{"kind": "agent", "name": "a1", "skip": 0}],
    }
