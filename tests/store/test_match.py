"""match: bringing queued tasks and idle agents together, and the order in which that happens."""

from __future__ import annotations

import pytest

from agentcom.domain.tasks import Priority
from agentcom.store.matching import MatchRequest
from agentcom.store.store import Store
from tests.support.builders import ConnectedAgent, a_task, an_agent, match_requests, serve_matches
from tests.support.clock import T0, StoreClock
from tests.support.snapshot import GONE, changes
from tests.support.stages import MINUTE, assigned, idle_agent, list_score, queue_score, working


def request(kind: str, name: str, *, skip: int = 0) -> MatchRequest:
    return MatchRequest(entry="", kind=kind, name=name, skip=skip)


async def work_off(store: Store, agent: ConnectedAgent, count: int) -> list[str]:
    """Completes what the agent holds, again and again. Returns the tasks in the order in which it got them."""
    order = []
    for _ in range(count):
        held = await store.agents.get(agent.id)
        assert held.current_task_id is not None
        order.append(held.current_task_id)
        await store.tasks.complete(order[-1], agent.id, conn=agent.conn, generation=1, result=b"null", tokens_used=None)
    return order


async def test_a_request_for_an_agent_gives_it_the_head_of_a_queue(store: Store, clock: StoreClock) -> None:
    await store.tasks.submit(a_task("t1", needed_capabilities=("gpu", "lua"), expires_at=T0 + MINUTE))
    await an_agent(store, capabilities=["lua", "gpu", "vim"])
    await clock.advance(7)
    assert await changes(store, serve_matches(store)) == {
        "agent:a1": {"state": "assigned", "task": "t1", "generation": 1, "last_state_change": T0 + 7},
        "due:accept": {"t1": T0 + 7 + MINUTE},
        "due:expires": {"t1": GONE},
        "events": [
            {"event": "task_assigned", "task_id": "t1", "agent_id": "a1", "generation": 1, "wait_ms": 7},
        ],
        "history:t1": [("assigned", T0 + 7, {"agent_id": "a1", "generation": 1})],
        "idle": {"a1": GONE},
        "idle:gpu": {"a1": GONE},
        "idle:lua": {"a1": GONE},
        "idle:vim": {"a1": GONE},
        "match": [GONE],
        "out:gw": [
            {
                "conn": "a1-conn",
                "kind": "assign",
                "frame": {
                    "type": "task_assign",
                    "task_id": "t1",
                    "description": "do it",
                    "metadata": {},
                    "generation": 1,
                    "assigned_at": T0 + 7,
                    "priority": 2,
                },
            }
        ],
        "queue:gpu\x1flua": {"t1": GONE},
        "sigs": {"gpu\x1flua": GONE},
        "sigs:gpu": {"gpu\x1flua": GONE},
        "status:assigned": {"t1": list_score(T0)},
        "status:queued": {"t1": GONE},
        "task:t1": {
            "status": "assigned",
            "assigned_to": "a1",
            "assigned_at": T0 + 7,
            "generation": 1,
            "updated_at": T0 + 7,
        },
    }


async def test_a_request_for_a_signature_serves_its_whole_queue(store: Store, clock: StoreClock) -> None:
    await store.tasks.submit_many([a_task(f"t{number}") for number in range(5)])
    for number in range(3):
        await an_agent(store, f"a{number}")
        await clock.advance(1)
    assert await store.matching.serve([request("signature", "")]) == 3
    owners = [(await store.task_reader.get(f"t{number}")).assigned_to for number in range(5)]
    assert owners == ["a0", "a1", "a2", None, None]


async def test_a_long_queue_is_served_in_several_requests(store: Store, clock: StoreClock) -> None:
    await store.tasks.submit_many([a_task(f"t{number}") for number in range(40)])
    for number in range(40):
        await an_agent(store, f"a{number}")
    for entry in await match_requests(store):
        await store.link.call("XDEL", store.keys.match(), entry.entry)
    assert await store.matching.serve([request("signature", "")]) == 32
    [left] = await match_requests(store)
    assert (left.kind, left.name, left.skip) == ("signature", "", 0)
    assert await serve_matches(store) == 8


@pytest.mark.parametrize(
    "pointless",
    [
        request("agent", "unknown"),
        request("agent", "busy"),
        request("agent", "waits"),
        request("signature", "unknown"),
        request("signature", "lua"),
        request("signature", "", skip=64),
    ],
    ids=lambda entry: f"{entry.kind} {entry.name} {entry.skip}",
)
async def test_a_request_without_a_match_changes_nothing(
    store: Store, clock: StoreClock, pointless: MatchRequest
) -> None:
    await working(store, "t1", "busy")
    await idle_agent(store, "waits")
    await store.tasks.submit(a_task("t2", needed_capabilities=("lua",)))
    assert await changes(store, store.matching.serve([pointless])) == {}


async def test_a_served_request_is_removed_from_the_group_too(store: Store, clock: StoreClock) -> None:
    await store.matching.ensure_group()
    await an_agent(store)
    [read] = await store.matching.read("scheduler-1")
    assert (read.kind, read.name) == ("agent", "a1")
    assert await store.link.call("XPENDING", store.keys.match(), "scheduler") != [0, None, None, None]
    await store.matching.serve([read])
    assert await store.link.call("XPENDING", store.keys.match(), "scheduler") == [0, None, None, None]
    assert await match_requests(store) == []


async def test_serving_a_request_twice_is_safe(store: Store, clock: StoreClock) -> None:
    await store.tasks.submit_many([a_task("t1"), a_task("t2")])
    await an_agent(store)
    requests = await match_requests(store)
    assert await store.matching.serve(requests) == 1
    assert await changes(store, store.matching.serve(requests)) == {}


async def test_a_request_whose_scheduler_died_is_claimed(
    store: Store, clock: StoreClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentcom.store.matching.CLAIM_IDLE_MS", 0)
    await store.matching.ensure_group()
    await an_agent(store)
    read = await store.matching.read("dead")
    assert await store.matching.claim("alive") == read


async def test_the_group_is_made_when_it_is_missing(store: Store, clock: StoreClock) -> None:
    await an_agent(store)
    assert await store.matching.read("scheduler-1") == []
    assert len(await store.matching.read("scheduler-1")) == 1
    await store.matching.ensure_group()


class TestOrder:
    async def test_a_lane_is_first_in_first_out(self, store: Store, clock: StoreClock) -> None:
        agent = await assigned(store, "t0")
        names = ["t5", "t3", "t4", "t1"]
        for name in names:
            await clock.advance(us=1)
            await store.tasks.submit(a_task(name))
        assert await work_off(store, agent, 5) == ["t0", *names]

    async def test_better_lanes_come_first(self, store: Store, clock: StoreClock) -> None:
        agent = await assigned(store, "t0")
        for priority in (Priority.LOW, Priority.NORMAL, Priority.HIGH, Priority.URGENT):
            await store.tasks.submit(a_task(priority.label, priority=priority))
            await clock.advance(1)
        assert await work_off(store, agent, 5) == ["t0", "urgent", "high", "normal", "low"]

    async def test_lanes_hold_across_queues(self, store: Store, clock: StoreClock) -> None:
        """The best task of all an agent can do, whatever queue it waits in."""
        agent = await assigned(store, "t0", capabilities=["a", "b", "c"])
        waiting = [
            a_task("none", priority=Priority.LOW),
            a_task("one", priority=Priority.NORMAL, needed_capabilities=("a",)),
            a_task("two", priority=Priority.HIGH, needed_capabilities=("b", "c")),
            a_task("pinned", priority=Priority.URGENT, target_agent="a1"),
            a_task("three", priority=Priority.HIGH, needed_capabilities=("c", "b", "a")),
        ]
        for task in waiting:
            await store.tasks.submit(task)
            await clock.advance(1)
        assert await work_off(store, agent, 6) == ["t0", "pinned", "two", "three", "one", "none"]

    async def test_a_lane_is_strict_within_the_window(self, store: Store, clock: StoreClock) -> None:
        agent = await assigned(store, "t0")
        await store.tasks.submit(a_task("older", priority=Priority.NORMAL))
        await clock.advance(15 * MINUTE - 1)
        await store.tasks.submit(a_task("better", priority=Priority.HIGH))
        assert await work_off(store, agent, 3) == ["t0", "better", "older"]

    async def test_nobody_waits_longer_than_the_window_behind_a_better_lane(
        self, store: Store, clock: StoreClock
    ) -> None:
        agent = await assigned(store, "t0")
        await store.tasks.submit(a_task("older", priority=Priority.NORMAL))
        await clock.advance(15 * MINUTE + 1)
        await store.tasks.submit(a_task("better", priority=Priority.HIGH))
        assert await work_off(store, agent, 3) == ["t0", "older", "better"]

    async def test_a_retried_task_is_back_in_its_place(self, store: Store, clock: StoreClock) -> None:
        agent = await assigned(store, "t0", retry_backoff_ms=0)
        await clock.advance(1)
        await store.tasks.submit(a_task("t1"))
        report = await store.tasks.fail("t0", "a1", conn=agent.conn, generation=1, reason="broke")
        assert report.next_frame is not None
        assert (await store.agents.get("a1")).current_task_id == "t0"


class TestFiling:
    """A queue of several capabilities is filed under the one that the fewest connected agents have."""

    async def test_under_the_rarest_capability(self, store: Store, clock: StoreClock) -> None:
        for number, capabilities in enumerate((["a", "b"], ["a", "c"], ["b", "a"])):
            await an_agent(store, f"a{number}", capabilities=capabilities)
        changed = await changes(store, store.tasks.submit(a_task("t1", needed_capabilities=("a", "b", "c"))))
        assert changed["sigs"] == {"a\x1fb\x1fc": "c"}
        assert changed["sigs:c"] == {"a\x1fb\x1fc": queue_score(T0)}

    async def test_under_one_that_nobody_has(self, store: Store, clock: StoreClock) -> None:
        await an_agent(store, capabilities=["a", "b"])
        changed = await changes(store, store.tasks.submit(a_task("t1", needed_capabilities=("a", "b", "z"))))
        assert changed["sigs"] == {"a\x1fb\x1fz": "z"}

    async def test_it_stays_there_while_tasks_wait(self, store: Store, clock: StoreClock) -> None:
        await store.tasks.submit(a_task("t1", needed_capabilities=("a", "b")))
        await an_agent(store, "x", capabilities=["a"])
        await clock.advance(1)
        changed = await changes(
            store, store.tasks.submit(a_task("t2", needed_capabilities=("b", "a"), priority=Priority.URGENT))
        )
        assert "sigs" not in changed
        assert changed["sigs:a"] == {"a\x1fb": queue_score(T0 + 1, priority=0)}

    async def test_its_score_is_that_of_the_head(self, store: Store, clock: StoreClock) -> None:
        await store.tasks.submit(a_task("t1", needed_capabilities=("a", "b")))
        await clock.advance(1)
        await store.tasks.submit(a_task("t2", needed_capabilities=("a", "b")))
        changed = await changes(store, store.tasks.cancel("t1", requester="submitter", privileged=False, reason="r"))
        assert changed["sigs:a"] == {"a\x1fb": queue_score(T0 + 1)}

    async def test_single_capabilities_and_pins_are_not_filed(self, store: Store, clock: StoreClock) -> None:
        tasks = [a_task(needed_capabilities=("a",)), a_task(), a_task(target_agent="x", needed_capabilities=("a", "b"))]
        changed = await changes(store, store.tasks.submit_many(tasks))
        assert [name for name in changed if name.startswith("sigs")] == []
        assert sorted(name for name in changed if name.startswith("queue:")) == ["queue:", "queue:\x1ex", "queue:a"]

    async def test_an_agent_finds_it_whichever_capability_it_is_filed_under(
        self, store: Store, clock: StoreClock
    ) -> None:
        await an_agent(store, "x", capabilities=["a"])
        await serve_matches(store)
        await store.tasks.submit(a_task("t1", needed_capabilities=("a", "b")))
        await idle_agent(store, "a1", capabilities=["a", "b"])
        assert (await store.task_reader.get("t1")).assigned_to == "a1"

    async def test_a_long_search_goes_on_where_it_stopped(self, store: Store, clock: StoreClock) -> None:
        """130 signatures that the agent can't serve stand in front of one that it can."""
        for number in range(130):
            await store.tasks.submit(a_task(needed_capabilities=("a", f"z{number}"), priority=Priority.URGENT))
            await clock.advance(us=1)
        await store.tasks.submit(a_task("t1", needed_capabilities=("a", "b")))
        signatures = [f"a\x1fz{number}" for number in range(130)]
        assert await store.link.call("ZCARD", store.keys.signatures("a")) == len(signatures) + 1
        await an_agent(store, capabilities=["a", "b"])
        assert await store.matching.serve(await match_requests(store)) == 0
        assert [(entry.kind, entry.skip) for entry in await match_requests(store)] == [("agent", 64)]
        assert await serve_matches(store) == 1
        assert (await store.task_reader.get("t1")).assigned_to == "a1"


class TestReconciling:
    async def test_pages_over_idle_agents_longest_waiting_first(self, store: Store, clock: StoreClock) -> None:
        for name in ("a3", "a1", "a2"):
            await idle_agent(store, name)
            await clock.advance(1)
        first = await store.matching.idle_agents(after=None, limit=2)
        assert first == [(T0, "a3"), (T0 + 1, "a1")]
        second = await store.matching.idle_agents(after=first[-1], limit=2)
        assert second == [(T0 + 2, "a2")]
        assert await store.matching.idle_agents(after=second[-1], limit=2) == []

    async def test_agents_of_one_moment_are_not_lost_between_pages(self, store: Store, clock: StoreClock) -> None:
        for number in range(7):
            await idle_agent(store, f"a{number}")
        seen: list[str] = []
        after: tuple[float, str] | None = None
        while page := await store.matching.idle_agents(after=after, limit=2):
            seen += [name for _, name in page]
            after = page[-1]
        assert seen == [f"a{number}" for number in range(7)]


class TestForgottenConsumers:
    async def test_a_silent_consumer_without_requests_is_removed(self, store: Store, clock: StoreClock) -> None:
        await store.matching.ensure_group()
        await an_agent(store, "a1")
        await store.matching.serve(await store.matching.read("gone"))
        await an_agent(store, "a2")
        await store.matching.read("holds a request")
        assert await store.matching.forget_consumers(idle_ms=0) == 1
        assert await store.matching.forget_consumers(idle_ms=0) == 0

    async def test_without_a_group_there_is_nobody_to_forget(self, store: Store, clock: StoreClock) -> None:
        assert await store.matching.forget_consumers(idle_ms=0) == 0
