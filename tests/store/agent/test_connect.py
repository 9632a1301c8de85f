"""agent/connect: offline -> idle, or back to the task it holds."""

from __future__ import annotations

import json

import pytest

from agentcom.errors import Cooldown, GatewayLeaseLost, InvalidToken, TokenAgentMismatch
from agentcom.store.agents import Connection
from agentcom.store.store import Store
from tests.support.builders import LEASE_MS, ConnectedAgent, a_task, a_token, an_agent, serve_matches
from tests.support.clock import T0, StoreClock
from tests.support.refusals import refused
from tests.support.snapshot import GONE, HERE, changes
from tests.support.stages import MINUTE, assigned, idle_agent, working


def connection(token_digest: str, *, conn: str = "conn", capabilities: tuple[str, ...] = ()) -> Connection:
    return Connection(
        agent_id="a1",
        conn=conn,
        gateway="gw",
        token_digest=token_digest,
        name=None,
        status=None,
        capabilities=capabilities,
        features=(),
    )


async def again(store: Store, agent: ConnectedAgent, *, capabilities: tuple[str, ...] = ()) -> ConnectedAgent:
    """The same agent, on a newer connection."""
    return await an_agent(store, agent.id, conn="newer", token_digest=agent.token_digest, capabilities=capabilities)


async def test_a_new_agent_waits_for_work(store: Store, clock: StoreClock) -> None:
    token_digest = await a_token(store, "a1")
    await store.gateways.renew("gw", lease_ms=LEASE_MS, first=True)
    call = an_agent(
        store,
        "a1",
        capabilities=["lua", "gpu", "lua"],
        features=["cancel", "progress"],
        token_digest=token_digest,
        name="One",
        status="ready",
    )
    assert await changes(store, call) == {
        "agent:a1": {
            "agent_id": "a1",
            "state": "idle",
            "conn": "a1-conn",
            "gateway": "gw",
            "name": "One",
            "status": "ready",
            "capabilities": "gpu\x1flua",
            "capabilities_sent": '["lua","gpu","lua"]',
            "features": "cancel progress",
            "token": token_digest,
            "connected_at": T0,
            "last_state_change": T0,
        },
        "agents": {"a1": 0},
        "agents:seen": {"a1": T0},
        "capabilities": {"gpu": 1, "lua": 1},
        "events": [{"event": "agent_joined", "agent_id": "a1", "gateway": "gw"}],
        "gateway:gw:agents": {"a1": HERE},
        "idle": {"a1": T0},
        "idle:gpu": {"a1": T0},
        "idle:lua": {"a1": T0},
        "match": [{"kind": "agent", "name": "a1", "skip": 0}],
    }


async def test_everybody_is_told(store: Store, clock: StoreClock) -> None:
    notices = store.gateways.listen(["presence"])
    assert (await anext(notices)).channel == "subscribed"
    await an_agent(store, "a1", name='"One"', capabilities=["lua"])
    notice = await anext(notices)
    assert json.loads(notice.data) == {
        "type": "agent_joined",
        "agent_id": "a1",
        "agent": {
            "agent_id": "a1",
            "name": '"One"',
            "status": None,
            "capabilities": ["lua"],
            "connected_at": T0,
        },
    }
    await notices.aclose()  # type: ignore[attr-defined]


async def test_a_waiting_task_reaches_the_new_agent(store: Store, clock: StoreClock) -> None:
    await store.tasks.submit(a_task("t1"))
    await an_agent(store)
    assert await serve_matches(store) == 1
    assert (await store.task_reader.get("t1")).assigned_to == "a1"


async def test_a_newer_connection_replaces_the_older(store: Store, clock: StoreClock) -> None:
    agent = await idle_agent(store, capabilities=["gpu", "lua"])
    await clock.advance(7)
    assert await changes(store, again(store, agent, capabilities=("vim", "lua"))) == {
        "agent:a1": {
            "conn": "newer",
            "capabilities": "lua\x1fvim",
            "capabilities_sent": '["vim","lua"]',
            "connected_at": T0 + 7,
            "last_state_change": T0 + 7,
        },
        "agents:seen": {"a1": T0 + 7},
        "capabilities": {"gpu": GONE, "vim": 1},
        "events": [{"event": "agent_joined", "agent_id": "a1", "gateway": "gw"}],
        "gateways": {"gw": T0 + 7 + LEASE_MS},
        "idle": {"a1": T0 + 7},
        "idle:gpu": {"a1": GONE},
        "idle:lua": {"a1": T0 + 7},
        "idle:vim": {"a1": T0 + 7},
        "match": [{"kind": "agent", "name": "a1", "skip": 0}],
        "out:gw": [
            {
                "conn": "a1-conn",
                "kind": "close",
                "code": 4500,
                "frame": "replaced by a newer connection of the same agent",
            }
        ],
    }


async def test_the_older_connection_may_be_on_another_gateway(store: Store, clock: StoreClock) -> None:
    agent = await idle_agent(store, gateway="gw1")
    changed = await changes(store, an_agent(store, "a1", conn="newer", gateway="gw2", token_digest=agent.token_digest))
    assert changed["gateway:gw1:agents"] == {"a1": GONE}
    assert changed["gateway:gw2:agents"] == {"a1": HERE}
    assert [(push["conn"], push["code"]) for push in changed["out:gw1"]] == [("a1-conn", 4500)]
    assert "out:gw2" not in changed


async def test_the_same_call_sent_twice_connects_once(store: Store, clock: StoreClock) -> None:
    agent = await idle_agent(store, capabilities=["lua"])
    call = an_agent(store, "a1", conn=agent.conn, token_digest=agent.token_digest, capabilities=["lua"])
    assert await changes(store, call) == {
        "events": [{"event": "agent_joined", "agent_id": "a1", "gateway": "gw"}],
        "match": [{"kind": "agent", "name": "a1", "skip": 0}],
    }


async def test_an_unaccepted_assignment_is_pushed_again(store: Store, clock: StoreClock) -> None:
    agent = await assigned(store, capabilities=["lua"], metadata='{"a":1}')
    await store.agents.disconnect("a1", conn=agent.conn, reason="closed")
    await clock.advance(7)
    back: list[ConnectedAgent] = []

    async def call() -> None:
        back.append(await again(store, agent, capabilities=("lua",)))

    assert await changes(store, call()) == {
        "agent:a1": {
            "state": "assigned",
            "conn": "newer",
            "gateway": "gw",
            "connected_at": T0 + 7,
            "last_state_change": T0 + 7,
        },
        "agents": {"a1": 0},
        "agents:seen": {"a1": T0 + 7},
        "capabilities": {"lua": 1},
        "due:grace": {"a1": GONE},
        "events": [{"event": "agent_joined", "agent_id": "a1", "gateway": "gw"}],
        "gateway:gw:agents": {"a1": HERE},
        "gateways": {"gw": T0 + 7 + LEASE_MS},
    }
    frame = back[0].resumption.assign_frame
    assert frame is not None
    assert json.loads(frame) == {
        "type": "task_assign",
        "task_id": "t1",
        "description": "do it",
        "metadata": {"a": 1},
        "generation": 1,
        "assigned_at": T0,
        "priority": 2,
    }


async def test_an_accepted_task_goes_on(store: Store, clock: StoreClock) -> None:
    agent = await working(store)
    await store.agents.disconnect("a1", conn=agent.conn, reason="closed")
    await clock.advance(7)
    back: list[ConnectedAgent] = []

    async def call() -> None:
        back.append(await again(store, agent))

    changed = await changes(store, call())
    assert (back[0].resumption.assign_frame, back[0].resumption.cancel_frame) == (None, None)
    assert changed["agent:a1"]["state"] == "working"
    assert changed["due:progress"] == {"t1": T0 + 7 + 5 * MINUTE}
    assert changed["due:grace"] == {"a1": GONE}
    assert "idle" not in changed
    assert "match" not in changed


async def test_a_replaced_connection_hands_its_task_over(store: Store, clock: StoreClock) -> None:
    agent = await working(store)
    changed = await changes(store, again(store, agent))
    assert changed["agent:a1"] == {"conn": "newer"}
    assert (await store.agents.get("a1")).current_task_id == "t1"
    report = await store.tasks.complete("t1", "a1", conn="newer", generation=1, result=b"1", tokens_used=None)
    assert report.outcome == "complete"


async def test_a_cancel_that_may_not_have_arrived_is_pushed_again(store: Store, clock: StoreClock) -> None:
    agent = await working(store)
    await store.tasks.cancel("t1", requester="submitter", privileged=False, reason='"why"')
    back = await again(store, agent)
    assert back.resumption.cancel_frame is not None
    assert json.loads(back.resumption.cancel_frame) == {
        "type": "task_cancel",
        "task_id": "t1",
        "generation": 1,
        "reason": '"why"',
    }


async def test_a_resting_agent_that_comes_back_is_free(store: Store, clock: StoreClock) -> None:
    agent = await assigned(store)
    await store.tasks.reject("t1", "a1", generation=1, reason="busy")
    changed = await changes(store, again(store, agent))
    assert changed["due:unblock"] == {"a1": GONE}
    assert changed["agent:a1"] == {"state": "idle", "conn": "newer", "rejections": GONE}
    assert changed["idle"] == {"a1": T0}


async def test_a_task_lost_meanwhile_is_not_resumed(store: Store, clock: StoreClock) -> None:
    agent = await working(store)
    await store.agents.disconnect("a1", conn=agent.conn, reason="closed")
    await clock.advance(30_000)
    await store.agents.expire_grace(limit=10)
    await serve_matches(store)
    back = await again(store, agent)
    assert (back.resumption.assign_frame, back.resumption.cancel_frame) == (None, None)
    assert (await store.agents.get("a1")).state == "idle"


class TestRefusals:
    async def test_an_unknown_token(self, store: Store, clock: StoreClock) -> None:
        await store.gateways.renew("gw", lease_ms=LEASE_MS, first=True)
        await refused(store, store.agents.connect(connection("unknown")), InvalidToken)

    async def test_a_revoked_token(self, store: Store, clock: StoreClock) -> None:
        agent = await idle_agent(store)
        await store.tokens.revoke("a1")
        await refused(store, store.agents.connect(connection(agent.token_digest)), InvalidToken)

    async def test_a_token_of_another_agent(self, store: Store, clock: StoreClock) -> None:
        await store.gateways.renew("gw", lease_ms=LEASE_MS, first=True)
        token_digest = await a_token(store, "a2")
        await refused(store, store.agents.connect(connection(token_digest)), TokenAgentMismatch)

    @pytest.mark.parametrize("lapsed", [False, True])
    async def test_a_gateway_without_a_lease(self, store: Store, clock: StoreClock, lapsed: bool) -> None:
        token_digest = await a_token(store, "a1")
        if lapsed:
            await store.gateways.renew("gw", lease_ms=1_000, first=True)
            await clock.advance(1_000)
        await refused(store, store.agents.connect(connection(token_digest)), GatewayLeaseLost)

    async def test_an_agent_that_must_cool_down(self, store: Store, clock: StoreClock) -> None:
        agent = await idle_agent(store)
        await store.agents.penalize("a1")
        await clock.advance(29_999)
        call = store.agents.connect(connection(agent.token_digest))
        error = await refused(store, call, Cooldown)
        assert error.details == {"remaining_ms": 1}
        await clock.advance(1)
        await store.agents.connect(connection(agent.token_digest))
