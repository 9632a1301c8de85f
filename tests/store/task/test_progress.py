"""task/progress: assigned -> assigned; moves the progress deadline."""

from __future__ import annotations

import pytest

from agentcom.store.store import Store
from tests.support.clock import T0, StoreClock
from tests.support.refusals import FRAME_REFUSALS, FrameRefusal, refused
from tests.support.snapshot import GONE, changes
from tests.support.stages import MINUTE, assigned, working


async def test_progress_moves_the_deadline_and_keeps_the_number(store: Store, clock: StoreClock) -> None:
    await working(store)
    await clock.advance(7)
    assert await changes(store, store.tasks.progress("t1", "a1", generation=1, progress=40)) == {
        "due:progress": {"t1": T0 + 7 + 5 * MINUTE},
        "events": [
            {"event": "task_progress", "task_id": "t1", "agent_id": "a1", "generation": 1, "progress": 40},
        ],
        "task:t1": {"progress": 40, "updated_at": T0 + 7},
    }


async def test_progress_without_a_number_keeps_the_last_one(store: Store, clock: StoreClock) -> None:
    await working(store)
    await store.tasks.progress("t1", "a1", generation=None, progress=40)
    assert await changes(store, store.tasks.progress("t1", "a1", generation=None, progress=None)) == {
        "events": [{"event": "task_progress", "task_id": "t1", "agent_id": "a1", "generation": 1, "progress": ""}],
    }


async def test_progress_accepts_a_task_that_was_not_accepted(store: Store, clock: StoreClock) -> None:
    await assigned(store, max_runtime_ms=0)
    await clock.advance(7)
    assert await changes(store, store.tasks.progress("t1", "a1", generation=1, progress=None)) == {
        "agent:a1": {"state": "working", "last_state_change": T0 + 7},
        "due:accept": {"t1": GONE},
        "due:progress": {"t1": T0 + 7 + 5 * MINUTE},
        "events": [
            {"event": "task_accepted", "task_id": "t1", "agent_id": "a1", "generation": 1},
            {"event": "task_progress", "task_id": "t1", "agent_id": "a1", "generation": 1, "progress": ""},
        ],
        "task:t1": {"accepted_at": T0 + 7, "updated_at": T0 + 7},
    }


@pytest.mark.parametrize("case", FRAME_REFUSALS, ids=str)
async def test_refusals_change_nothing(store: Store, clock: StoreClock, case: FrameRefusal) -> None:
    await case.seed(store)
    await clock.advance(7)
    call = store.tasks.progress(case.task_id, case.agent_id, generation=case.generation, progress=1)
    error = await refused(store, call, case.error)
    assert error.details == case.details
