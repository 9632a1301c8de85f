"""task/accept: assigned -> assigned, now with a progress deadline."""

from __future__ import annotations

import pytest

from agentcom.store.store import Store
from tests.support.builders import serve_matches
from tests.support.clock import T0, StoreClock
from tests.support.refusals import FRAME_REFUSALS, FrameRefusal, refused
from tests.support.snapshot import GONE, changes
from tests.support.stages import MINUTE, assigned, working

HOUR = 60 * MINUTE


async def test_the_agent_works_and_must_show_signs_of_life(store: Store, clock: StoreClock) -> None:
    await assigned(store)
    await clock.advance(7)
    assert await changes(store, store.tasks.accept("t1", "a1", generation=1)) == {
        "agent:a1": {"state": "working", "last_state_change": T0 + 7},
        "due:accept": {"t1": GONE},
        "due:progress": {"t1": T0 + 7 + 5 * MINUTE},
        "due:runtime": {"t1": T0 + 7 + 6 * HOUR},
        "events": [{"event": "task_accepted", "task_id": "t1", "agent_id": "a1", "generation": 1}],
        "task:t1": {"accepted_at": T0 + 7, "updated_at": T0 + 7},
    }


async def test_accepting_again_only_moves_the_progress_deadline(store: Store, clock: StoreClock) -> None:
    await working(store)
    await clock.advance(7)
    assert await changes(store, store.tasks.accept("t1", "a1", generation=1)) == {
        "due:progress": {"t1": T0 + 7 + 5 * MINUTE},
        "task:t1": {"updated_at": T0 + 7},
    }


async def test_clients_that_know_no_generation_may_leave_it_out(store: Store, clock: StoreClock) -> None:
    await assigned(store)
    assert await store.tasks.accept("t1", "a1", generation=None) == 1


async def test_a_run_without_limit_has_no_runtime_deadline(store: Store, clock: StoreClock) -> None:
    await assigned(store, max_runtime_ms=0)
    assert "due:runtime" not in await changes(store, store.tasks.accept("t1", "a1", generation=1))


async def test_a_max_runtime_of_its_own_counts_from_acceptance(store: Store, clock: StoreClock) -> None:
    await assigned(store, max_runtime_ms=1_234)
    await clock.advance(7)
    changed = await changes(store, store.tasks.accept("t1", "a1", generation=1))
    assert changed["due:runtime"] == {"t1": T0 + 7 + 1_234}


async def test_an_agent_that_lost_a_task_is_trusted_again(store: Store, clock: StoreClock) -> None:
    await assigned(store)
    await clock.advance(MINUTE)
    await store.tasks.reclaim("accept", limit=10)
    await serve_matches(store)
    agent = await store.agents.get("a1")
    assert (agent.current_task_id, agent.flags) == ("t1", ("unresponsive",))
    changed = await changes(store, store.tasks.accept("t1", "a1", generation=3))
    assert changed["agent:a1"] == {"state": "working", "unresponsive": GONE}


async def test_a_disconnected_agent_stays_offline(store: Store, clock: StoreClock) -> None:
    await assigned(store)
    await store.agents.disconnect("a1", conn="a1-conn", reason="closed")
    changed = await changes(store, store.tasks.accept("t1", "a1", generation=1))
    assert changed["due:progress"] == {"t1": T0 + 5 * MINUTE}
    assert "agent:a1" not in changed


@pytest.mark.parametrize("case", FRAME_REFUSALS, ids=str)
async def test_refusals_change_nothing(store: Store, clock: StoreClock, case: FrameRefusal) -> None:
    await case.seed(store)
    await clock.advance(7)
    call = store.tasks.accept(case.task_id, case.agent_id, generation=case.generation)
    error = await refused(store, call, case.error)
    assert error.details == case.details
