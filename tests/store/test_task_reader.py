"""Reading tasks: one, and pages of filtered lists."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from typing import Any

import pytest

from agentcom.domain.tasks import HistoryEntry, Priority, TaskStatus
from agentcom.errors import InvalidCursor, TaskNotFound
from agentcom.store import task_reader
from agentcom.store.store import Store
from agentcom.store.task_reader import TaskFilter, TaskPage
from tests.support.builders import a_task
from tests.support.clock import T0, StoreClock
from tests.support.stages import MINUTE, idle_agent, working

QUEUED = (TaskStatus.QUEUED,)
EVERY = tuple(TaskStatus)


async def submit(store: Store, clock: StoreClock, *names: str, **fields: Any) -> None:
    for name in names:
        await store.tasks.submit(a_task(name, **({"target_agent": "nobody"} | fields)))
        await clock.advance(1)


async def page(
    store: Store, *, statuses: Sequence[TaskStatus] = QUEUED, limit: int = 10, **fields: Any
) -> tuple[list[str], TaskPage]:
    found = await store.task_reader.page(TaskFilter(statuses=statuses, limit=limit, **fields))
    return [task.id for task in found.tasks], found


async def whole(store: Store, *, limit: int, **fields: Any) -> list[str]:
    """All pages, one after the other."""
    names, found = await page(store, limit=limit, **fields)
    while found.cursor is not None:
        assert len(found.tasks) <= limit
        more, found = await page(store, limit=limit, cursor=found.cursor, **fields)
        names += more
    return names


class TestOne:
    async def test_every_field_is_read(self, store: Store, clock: StoreClock) -> None:
        await idle_agent(store, "a9", capabilities=["lua"])
        task = a_task(
            "t1",
            description="é",
            metadata='{"a":1}',
            priority=Priority.URGENT,
            needed_capabilities=("lua", "gpu"),
            target_agent="a9",
            max_retries=7,
            max_deliveries=8,
            retry_backoff_ms=9,
            max_runtime_ms=10_000,
            complete_by=T0 + MINUTE,
            expires_at=T0 + 2 * MINUTE,
        )
        await store.tasks.submit(task)
        await clock.advance(7)
        await store.tasks.progress("t1", "a9", generation=1, progress=55)
        stored = await store.task_reader.get("t1")
        assert stored.history == (
            HistoryEntry(event="assigned", timestamp=T0, details='{"agent_id":"a9","generation":1}'),
            HistoryEntry(event="queued", timestamp=T0, details='"submitted"'),
        )
        assert {name: getattr(stored, name) for name in stored.__slots__ if name != "history"} == {
            "id": "t1",
            "description": "é",
            "metadata": '{"a":1}',
            "priority": Priority.URGENT,
            "status": TaskStatus.ASSIGNED,
            "assigned_to": "a9",
            "assigned_at": T0,
            "accepted_at": T0 + 7,
            "generation": 1,
            "retry_count": 0,
            "max_retries": 7,
            "delivery_count": 0,
            "max_deliveries": 8,
            "retry_backoff_ms": 9,
            "max_runtime_ms": 10_000,
            "needed_capabilities": ("lua", "gpu"),
            "target_agent": "a9",
            "last_error": None,
            "complete_by": T0 + MINUTE,
            "run_at": None,
            "expires_at": T0 + 2 * MINUTE,
            "cancel_requested_at": None,
            "progress": 55,
            "result": None,
            "tokens_used": None,
            "submitted_by": "submitter",
            "created_at": T0,
            "updated_at": T0 + 7,
            "finished_at": None,
        }

    async def test_results_and_failures_are_read(self, store: Store, clock: StoreClock) -> None:
        agent = await working(store)
        await store.tasks.complete("t1", "a1", conn=agent.conn, generation=1, result=b'{"x": [1]}', tokens_used=42)
        done = await store.task_reader.get("t1")
        assert (done.result, done.tokens_used, done.finished_at) == ('{"x": [1]}', 42, T0)
        assert done.history[0].details == '{"tokens_used":42}'

    async def test_a_record_of_an_older_schema_gets_defaults(self, store: Store) -> None:
        await store.link.call("HSET", store.keys.task("old"), "id", "old", "description", "d", "status", "queued")
        task = await store.task_reader.get("old")
        assert (task.priority, task.max_retries, task.metadata, task.history) == (Priority.NORMAL, 3, "{}", ())

    async def test_an_unknown_task_is_refused(self, store: Store) -> None:
        with pytest.raises(TaskNotFound) as caught:
            await store.task_reader.get("unknown")
        assert caught.value.details == {"task_id": "unknown"}


class TestPages:
    async def test_by_priority_and_then_by_age(self, store: Store, clock: StoreClock) -> None:
        await submit(store, clock, "low", priority=Priority.LOW)
        await submit(store, clock, "n2", "n1")
        await submit(store, clock, "urgent", priority=Priority.URGENT)
        await submit(store, clock, "n0")
        assert (await page(store))[0] == ["urgent", "n2", "n1", "n0", "low"]

    @pytest.mark.parametrize("limit", [1, 2, 3, 7, 8])
    async def test_pages_join_without_gaps_and_repetitions(self, store: Store, clock: StoreClock, limit: int) -> None:
        names = [f"t{number}" for number in range(7)]
        await submit(store, clock, *names)
        assert await whole(store, limit=limit) == names

    @pytest.mark.parametrize("limit", [1, 2, 5])
    async def test_tasks_of_one_moment_are_not_lost(self, store: Store, clock: StoreClock, limit: int) -> None:
        names = [f"t{number}" for number in range(7)]
        for name in names:
            await store.tasks.submit(a_task(name, target_agent="nobody"))
        assert await whole(store, limit=limit) == names

    async def test_statuses_are_merged_in_list_order(self, store: Store, clock: StoreClock) -> None:
        await submit(store, clock, "q1")
        await submit(store, clock, "d1", run_at=T0 + MINUTE)
        await submit(store, clock, "q2", "c1")
        await store.tasks.cancel("c1", requester="submitter", privileged=False, reason="r")
        await submit(store, clock, "d2", run_at=T0 + MINUTE, priority=Priority.HIGH)
        assert await whole(store, limit=2, statuses=EVERY) == ["d2", "q1", "d1", "q2", "c1"]
        assert await whole(store, limit=2, statuses=(TaskStatus.DELAYED, TaskStatus.CANCELLED)) == ["d2", "d1", "c1"]

    async def test_one_priority(self, store: Store, clock: StoreClock) -> None:
        for priority in Priority:
            await submit(store, clock, f"{priority.label}1", f"{priority.label}2", priority=priority)
        for priority in Priority:
            found = await whole(store, limit=1, statuses=EVERY, priority=priority)
            assert found == [f"{priority.label}1", f"{priority.label}2"]

    async def test_no_task_is_an_empty_page(self, store: Store) -> None:
        names, found = await page(store, statuses=EVERY)
        assert (names, found.cursor) == ([], None)

    async def test_a_task_pruned_since_its_place_was_read_is_left_out(self, store: Store, clock: StoreClock) -> None:
        await submit(store, clock, "t1", "t2")
        await store.link.call("DEL", store.keys.task("t1"))
        assert (await page(store))[0] == ["t2"]


class TestWhileTasksMove:
    async def test_those_that_stay_are_seen_once_each(self, store: Store, clock: StoreClock) -> None:
        names = [f"t{number:03}" for number in range(60)]
        await submit(store, clock, *names)
        going, staying = names[::3], [name for number, name in enumerate(names) if number % 3]

        async def churn() -> None:
            for number, name in enumerate(going):
                await store.tasks.cancel(name, requester="submitter", privileged=False, reason="r")
                await store.tasks.submit(a_task(f"new{number}", target_agent="nobody", priority=Priority(number % 4)))
                await asyncio.sleep(0)

        moving = asyncio.create_task(churn())
        seen = await whole(store, limit=4)
        await moving
        assert len(seen) == len(set(seen))
        assert [name for name in seen if name in staying] == staying

    async def test_a_page_goes_on_though_its_last_task_has_gone(self, store: Store, clock: StoreClock) -> None:
        await submit(store, clock, "t1", "t2", "t3", "t4")
        _, first = await page(store, limit=2)
        await store.tasks.cancel("t2", requester="submitter", privileged=False, reason="r")
        assert (await page(store, limit=2, cursor=first.cursor))[0] == ["t3", "t4"]

    async def test_a_task_that_moves_between_wanted_statuses_is_listed_once(
        self, store: Store, clock: StoreClock
    ) -> None:
        """Its place in the list is the same in every status."""
        await submit(store, clock, "t1", "t2")
        _, first = await page(store, limit=1, statuses=EVERY)
        await store.tasks.cancel("t1", requester="submitter", privileged=False, reason="r")
        assert (await page(store, limit=5, statuses=EVERY, cursor=first.cursor))[0] == ["t2"]


class TestAssignedTo:
    async def held(self, store: Store, clock: StoreClock, owners: Sequence[str]) -> None:
        for number, owner in enumerate(owners):
            await submit(store, clock, f"t{number}")
            await store.link.call("HSET", store.keys.task(f"t{number}"), "assigned_to", owner)

    async def test_only_those_of_one_agent(self, store: Store, clock: StoreClock) -> None:
        await self.held(store, clock, ["a", "b", "a", "c", "a", "b"])
        assert await whole(store, limit=2, assigned_to="a") == ["t0", "t2", "t4"]
        assert await whole(store, limit=2, assigned_to="b") == ["t1", "t5"]
        assert await whole(store, limit=2, assigned_to="nobody") == []

    async def test_a_full_page_does_not_skip_what_follows(self, store: Store, clock: StoreClock) -> None:
        await self.held(store, clock, ["a"] * 5)
        names, first = await page(store, limit=2, assigned_to="a")
        assert names == ["t0", "t1"]
        assert (await page(store, limit=3, assigned_to="a", cursor=first.cursor))[0] == ["t2", "t3", "t4"]

    async def test_the_work_of_one_page_is_bounded(
        self, store: Store, clock: StoreClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(task_reader, "SCAN_LIMIT", 4)
        monkeypatch.setattr(task_reader, "SCAN_CHUNK", 2)
        await self.held(store, clock, ["b"] * 9 + ["a"])
        names, first = await page(store, limit=1, assigned_to="a")
        assert names == []
        assert first.cursor is not None
        assert await whole(store, limit=1, assigned_to="a") == ["t9"]


class TestCursor:
    @pytest.mark.parametrize(
        "cursor",
        [
            "x",
            "not a cursor",
            "é",
            "!!!!",
            "====",
            base64.urlsafe_b64encode(b"12:t1").decode()[1:],
            *[
                base64.urlsafe_b64encode(text).decode().rstrip("=")
                for text in (b"12", b":t1", b"-1:t1", b"1e3:t1", b"nan:t1", b"12345678901234567:t1", b"\xff:t1")
            ],
            base64.urlsafe_b64encode("²:t1".encode()).decode().rstrip("="),
        ],
    )
    async def test_what_the_hub_did_not_give_out_is_refused(self, store: Store, cursor: str) -> None:
        with pytest.raises(InvalidCursor):
            await page(store, cursor=cursor)

    async def test_an_empty_cursor_is_the_beginning(self, store: Store, clock: StoreClock) -> None:
        await submit(store, clock, "t1")
        assert (await page(store, cursor=""))[0] == ["t1"]

    async def test_a_cursor_is_safe_in_a_url(self, store: Store, clock: StoreClock) -> None:
        await submit(store, clock, "t1", "t2")
        cursor = (await page(store, limit=1))[1].cursor
        assert cursor is not None
        assert cursor.replace("-", "").replace("_", "").isalnum()
