"""task/submit: nothing -> queued or delayed, and -> assigned at once if a capable agent waits."""

from __future__ import annotations

import pytest

from agentcom.domain.tasks import Priority
from agentcom.errors import IdempotencyConflict
from agentcom.store.store import Store
from agentcom.store.tasks import SUBMIT_CHUNK, Submission
from tests.support.builders import a_task, an_agent, match_requests, serve_matches
from tests.support.clock import T0, StoreClock
from tests.support.refusals import refused
from tests.support.snapshot import GONE, changes
from tests.support.stages import MINUTE, idle_agent, list_score, queue_score

HOUR = 60 * MINUTE


async def test_a_task_nobody_can_take_is_queued(store: Store, clock: StoreClock) -> None:
    task = a_task("t1", description="é", metadata='{"a":[1]}', needed_capabilities=("lua",), priority=Priority.HIGH)
    assert await changes(store, store.tasks.submit(task)) == {
        "counters": {"submitted": 1},
        "events": [{"event": "task_submitted", "task_id": "t1", "priority": 1, "submitted_by": "submitter"}],
        "history:t1": [("queued", T0, "submitted")],
        "queue:lua": {"t1": queue_score(T0, priority=1)},
        "status:queued": {"t1": list_score(T0, priority=1)},
        "task:t1": {
            "v": 1,
            "id": "t1",
            "description": "é",
            "metadata": '{"a":[1]}',
            "priority": 1,
            "status": "queued",
            "generation": 0,
            "retry_count": 0,
            "max_retries": 3,
            "delivery_count": 0,
            "max_deliveries": 5,
            "retry_backoff_ms": 1_000,
            "max_runtime_ms": 6 * HOUR,
            "signature": "lua",
            "capabilities": '["lua"]',
            "submitted_by": "submitter",
            "created_at": T0,
            "updated_at": T0,
            "score": queue_score(T0, priority=1),
            "listing": list_score(T0, priority=1),
        },
    }


async def test_what_the_submitter_sets_takes_the_place_of_the_defaults(store: Store, clock: StoreClock) -> None:
    task = a_task(
        "t1", target_agent="a9", max_retries=7, max_deliveries=8, retry_backoff_ms=9, max_runtime_ms=10, complete_by=11
    )
    changed = await changes(store, store.tasks.submit(task))
    stored = changed["task:t1"]
    assert {name: stored[name] for name in ("max_retries", "max_deliveries", "retry_backoff_ms", "max_runtime_ms")} == {
        "max_retries": 7,
        "max_deliveries": 8,
        "retry_backoff_ms": 9,
        "max_runtime_ms": 10,
    }
    assert (stored["target_agent"], stored["signature"]) == ("a9", "\x1ea9")
    assert changed["due:complete_by"] == {"t1": 11}


async def test_an_idle_agent_gets_the_task_in_the_same_step(store: Store, clock: StoreClock) -> None:
    await idle_agent(store, capabilities=["lua", "gpu"])
    await clock.advance(7)
    changed = await changes(store, store.tasks.submit(a_task("t1", needed_capabilities=("lua",), metadata='{"a":1}')))
    stored = changed.pop("task:t1")
    assert {name: stored[name] for name in ("status", "assigned_to", "assigned_at", "generation")} == {
        "status": "assigned",
        "assigned_to": "a1",
        "assigned_at": T0 + 7,
        "generation": 1,
    }
    assert changed == {
        "agent:a1": {"state": "assigned", "task": "t1", "generation": 1, "last_state_change": T0 + 7},
        "counters": {"submitted": 1},
        "due:accept": {"t1": T0 + 7 + MINUTE},
        "events": [
            {"event": "task_submitted", "task_id": "t1", "priority": 2, "submitted_by": "submitter"},
            {"event": "task_assigned", "task_id": "t1", "agent_id": "a1", "generation": 1, "wait_ms": 0},
        ],
        "history:t1": [
            ("assigned", T0 + 7, {"agent_id": "a1", "generation": 1}),
            ("queued", T0 + 7, "submitted"),
        ],
        "idle": {"a1": GONE},
        "idle:gpu": {"a1": GONE},
        "idle:lua": {"a1": GONE},
        "out:gw": [
            {
                "conn": "a1-conn",
                "kind": "assign",
                "frame": {
                    "type": "task_assign",
                    "task_id": "t1",
                    "description": "do it",
                    "metadata": {"a": 1},
                    "generation": 1,
                    "assigned_at": T0 + 7,
                    "priority": 2,
                },
            }
        ],
        "status:assigned": {"t1": list_score(T0 + 7)},
    }


async def test_the_frame_has_the_deadline_and_escapes_what_must_be(store: Store, clock: StoreClock) -> None:
    await idle_agent(store)
    task = a_task("t1", description='"\\\n\x1f\u2028 é 🙂', complete_by=T0 + HOUR)
    changed = await changes(store, store.tasks.submit(task))
    frame = changed["out:gw"][0]["frame"]
    assert (frame["description"], frame["complete_by"]) == ('"\\\n\x1f\u2028 é 🙂', T0 + HOUR)


async def test_a_task_for_later_is_delayed(store: Store, clock: StoreClock) -> None:
    await idle_agent(store)
    task = a_task("t1", run_at=T0 + MINUTE, expires_at=T0 + 2 * MINUTE)
    changed = await changes(store, store.tasks.submit(task))
    stored = changed.pop("task:t1")
    assert (stored["status"], stored["run_at"], stored["expires_at"]) == ("delayed", T0 + MINUTE, T0 + 2 * MINUTE)
    assert stored["score"] == queue_score(T0 + MINUTE)
    assert changed == {
        "counters": {"submitted": 1},
        "due:delayed": {"t1": T0 + MINUTE},
        "due:expires": {"t1": T0 + 2 * MINUTE},
        "events": [{"event": "task_submitted", "task_id": "t1", "priority": 2, "submitted_by": "submitter"}],
        "history:t1": [("queued", T0, "submitted")],
        "status:delayed": {"t1": list_score(T0)},
    }


async def test_delayed_tasks_of_one_time_keep_their_order(store: Store, clock: StoreClock) -> None:
    names = ["t3", "t1", "t2"]
    await store.tasks.submit_many([a_task(name, run_at=T0 + MINUTE) for name in names])
    await clock.advance(MINUTE)
    changed = await changes(store, store.tasks.promote(limit=10))
    assert sorted(changed["queue:"], key=changed["queue:"].__getitem__) == names


async def test_a_run_at_that_has_passed_is_now(store: Store, clock: StoreClock) -> None:
    changed = await changes(store, store.tasks.submit(a_task("t1", run_at=T0)))
    assert changed["queue:"] == {"t1": queue_score(T0)}


async def test_a_queued_task_that_may_expire_has_a_deadline(store: Store, clock: StoreClock) -> None:
    changed = await changes(store, store.tasks.submit(a_task("t1", expires_at=T0 + MINUTE)))
    assert changed["due:expires"] == {"t1": T0 + MINUTE}


async def test_an_assigned_task_does_not_expire(store: Store, clock: StoreClock) -> None:
    await idle_agent(store)
    assert "due:expires" not in await changes(store, store.tasks.submit(a_task("t1", expires_at=T0 + MINUTE)))


class TestRepetition:
    async def test_the_same_call_sent_twice_stores_once(self, store: Store, clock: StoreClock) -> None:
        task = a_task("t1")
        first = await store.tasks.submit(task)
        again: list[Submission] = []

        async def call() -> None:
            again.append(await store.tasks.submit(task))

        assert await changes(store, call()) == {}
        assert again == [first]
        assert first == Submission(task_id=task.id, status="queued", priority=2, created_at=T0, repeated=False)

    async def test_a_key_used_again_with_the_same_body_gets_the_first_task(
        self, store: Store, clock: StoreClock
    ) -> None:
        keyed = {"idempotency_digest": "d1", "body_digest": "b1"}
        changed = await changes(store, store.tasks.submit(a_task("t1", **keyed)))
        assert changed["idem:d1:submitter"] == {"id": "t1", "body": "b1", "priority": 2, "created_at": T0}
        assert changed["idem:d1:submitter ttl"] == 24 * 60 * 60
        await clock.advance(7)
        again: list[Submission] = []

        async def call() -> None:
            again.append(await store.tasks.submit(a_task("t2", **keyed)))

        assert await changes(store, call()) == {}
        assert [(s.task_id, s.status, s.created_at, s.repeated) for s in again] == [("t1", "queued", T0, True)]

    async def test_a_key_used_again_with_another_body_is_refused(self, store: Store, clock: StoreClock) -> None:
        await store.tasks.submit(a_task("t1", idempotency_digest="d1", body_digest="b1"))
        call = store.tasks.submit(a_task("t2", idempotency_digest="d1", body_digest="b2"))
        error = await refused(store, call, IdempotencyConflict)
        assert error.details == {"task_id": "t1"}

    async def test_a_key_belongs_to_its_submitter(self, store: Store, clock: StoreClock) -> None:
        await store.tasks.submit(a_task("t1", idempotency_digest="d1", body_digest="b1"))
        other = a_task("t2", idempotency_digest="d1", body_digest="b2", submitted_by="other")
        assert (await store.tasks.submit(other)).task_id == "t2"

    async def test_a_key_outlives_its_task(self, store: Store, clock: StoreClock) -> None:
        keyed = {"idempotency_digest": "d1", "body_digest": "b1"}
        await store.tasks.submit(a_task("t1", priority=Priority.LOW, **keyed))
        await store.tasks.cancel("t1", requester="submitter", privileged=False, reason="r")
        await clock.advance(7 * 24 * HOUR)
        await store.tasks.prune("finished", limit=10)
        again = await store.tasks.submit(a_task("t2", priority=Priority.LOW, **keyed))
        assert again == Submission(task_id=a_task("t1").id, status="pruned", priority=3, created_at=T0, repeated=True)

    async def test_a_key_used_twice_in_one_bulk_makes_one_task(self, store: Store, clock: StoreClock) -> None:
        keyed = {"idempotency_digest": "d1", "body_digest": "b1"}
        results = await store.tasks.submit_many([a_task("t1", **keyed), a_task("t2", **keyed)])
        assert [(r.task_id, r.repeated) for r in results if isinstance(r, Submission)] == [("t1", False), ("t1", True)]
        assert (await store.tasks.counts()).submitted == 1


class TestBulk:
    async def test_results_come_in_the_order_of_the_tasks(self, store: Store, clock: StoreClock) -> None:
        await store.tasks.submit(a_task("t0", idempotency_digest="d", body_digest="b"))
        conflict = a_task("t2", idempotency_digest="d", body_digest="other")
        first, second, third = await store.tasks.submit_many([a_task("t1"), conflict, a_task("t3")])
        assert isinstance(first, Submission)
        assert first.task_id == "t1"
        assert isinstance(second, IdempotencyConflict)
        assert isinstance(third, Submission)
        assert third.task_id == "t3"

    async def test_more_than_one_call_holds_keeps_its_order(self, store: Store, clock: StoreClock) -> None:
        names = [f"t{number}" for number in range(SUBMIT_CHUNK + 20)]
        pending = store.tasks.submit_many([a_task(name) for name in names])
        results = await pending
        assert [r.task_id for r in results if isinstance(r, Submission)] == names

    async def test_tasks_of_one_call_are_queued_in_order(self, store: Store, clock: StoreClock) -> None:
        names = [f"t{number}" for number in (3, 1, 2)]
        changed = await changes(store, store.tasks.submit_many([a_task(name) for name in names]))
        assert changed["queue:"] == {
            "t3": queue_score(T0, index=1),
            "t1": queue_score(T0, index=2),
            "t2": queue_score(T0, index=3),
        }

    async def test_each_finds_an_agent_of_its_own(self, store: Store, clock: StoreClock) -> None:
        for name in ("a1", "a2"):
            await idle_agent(store, name)
            await clock.advance(1)
        await store.tasks.submit_many([a_task(f"t{number}") for number in range(3)])
        owners = [(await store.task_reader.get(f"t{number}")).assigned_to for number in range(3)]
        assert owners == ["a1", "a2", None]

    async def test_nothing_is_nothing(self, store: Store, clock: StoreClock) -> None:
        assert await store.tasks.submit_many([]) == []


class TestChoiceOfAgent:
    async def test_the_one_that_waits_longest(self, store: Store, clock: StoreClock) -> None:
        for name in ("late", "later", "latest"):
            await idle_agent(store, name)
            await clock.advance(1)
        owners = []
        for number in range(3):
            await store.tasks.submit(a_task(f"t{number}"))
            owners.append((await store.task_reader.get(f"t{number}")).assigned_to)
        assert owners == ["late", "later", "latest"]

    async def test_the_one_that_was_busy_longest_ago(self, store: Store, clock: StoreClock) -> None:
        first = await idle_agent(store, "first")
        await clock.advance(1)
        await idle_agent(store, "second")
        await store.tasks.submit(a_task("t1"))
        await clock.advance(1)
        await store.tasks.complete("t1", "first", conn=first.conn, generation=1, result=b"1", tokens_used=None)
        await store.tasks.submit(a_task("t2"))
        assert (await store.task_reader.get("t2")).assigned_to == "second"

    async def test_an_unresponsive_one_comes_last(self, store: Store, clock: StoreClock) -> None:
        await idle_agent(store, "lost")
        await store.tasks.submit(a_task("t1", target_agent="lost"))
        await clock.advance(MINUTE)
        await store.tasks.reclaim("accept", limit=10)
        await store.tasks.cancel("t1", requester="", privileged=True, reason="r")
        await serve_matches(store)
        await clock.advance(HOUR)
        await idle_agent(store, "fresh")
        await store.tasks.submit_many([a_task("t2"), a_task("t3")])
        assert (await store.task_reader.get("t2")).assigned_to == "fresh"
        assert (await store.task_reader.get("t3")).assigned_to == "lost"

    async def test_all_capabilities_are_needed(self, store: Store, clock: StoreClock) -> None:
        await idle_agent(store, "a1", capabilities=["gpu", "lua"])
        await idle_agent(store, "a2", capabilities=["lua", "vim"])
        await idle_agent(store, "a3", capabilities=["gpu", "lua", "vim"])
        await store.tasks.submit(a_task("t1", needed_capabilities=("vim", "gpu")))
        assert (await store.task_reader.get("t1")).assigned_to == "a3"

    @pytest.mark.parametrize("needs", [("GPU",), ("gp",), ("gpu", "gpus")])
    async def test_capabilities_are_compared_exactly(
        self, store: Store, clock: StoreClock, needs: tuple[str, ...]
    ) -> None:
        await idle_agent(store, capabilities=["gpu"])
        assert (await store.tasks.submit(a_task("t1", needed_capabilities=needs))).status == "queued"
        assert (await store.task_reader.get("t1")).status == "queued"

    async def test_a_pinned_task_waits_for_its_agent(self, store: Store, clock: StoreClock) -> None:
        await idle_agent(store, "other")
        await store.tasks.submit(a_task("t1", target_agent="chosen", needed_capabilities=("gpu",)))
        assert (await store.task_reader.get("t1")).status == "queued"
        await idle_agent(store, "chosen")
        assert (await store.task_reader.get("t1")).assigned_to == "chosen"

    async def test_a_pinned_task_goes_to_its_idle_agent(self, store: Store, clock: StoreClock) -> None:
        await idle_agent(store, "chosen")
        await store.tasks.submit(a_task("t1", target_agent="chosen", needed_capabilities=("gpu",)))
        assert (await store.task_reader.get("t1")).assigned_to == "chosen"

    async def test_agents_of_a_dead_gateway_are_passed_over(self, store: Store, clock: StoreClock) -> None:
        await idle_agent(store, "a1", gateway="dying", lease_ms=1_000)
        await clock.advance(1_000)
        await idle_agent(store, "a2", gateway="alive")
        await store.tasks.submit(a_task("t1"))
        assert (await store.task_reader.get("t1")).assigned_to == "a2"

    async def test_a_long_search_is_left_to_the_scheduler(self, store: Store, clock: StoreClock) -> None:
        """65 agents of a dead gateway stand in front of the one that could take the task."""
        for number in range(65):
            await idle_agent(store, f"dead{number}", gateway="dying", lease_ms=1_000)
        await clock.advance(1_000)
        await idle_agent(store, "alive")
        changed = await changes(store, store.tasks.submit(a_task("t1")))
        assert changed["match"] == [{"kind": "signature", "name": "", "skip": 64}]
        assert await serve_matches(store) == 1
        assert (await store.task_reader.get("t1")).assigned_to == "alive"

    async def test_a_task_behind_others_does_not_overtake_them(self, store: Store, clock: StoreClock) -> None:
        await store.tasks.submit(a_task("first"))
        await an_agent(store)
        await store.tasks.submit(a_task("second"))
        assert (await store.task_reader.get("second")).status == "queued"
        assert [request.kind for request in await match_requests(store)] == ["agent"]
        await serve_matches(store)
        assert (await store.task_reader.get("first")).assigned_to == "a1"
