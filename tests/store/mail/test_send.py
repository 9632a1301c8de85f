"""mail/send: a message to one agent."""

from __future__ import annotations

import json

import pytest

from agentcom.errors import MessageIdConflict, UnknownAgent
from agentcom.store.mail import digest_of
from agentcom.store.store import Store
from tests.support.builders import a_token, an_agent
from tests.support.clock import T0, StoreClock
from tests.support.mail import SEQ, a_message, entry, ids_in_mailbox, registered, state_of, without_counters
from tests.support.refusals import refused
from tests.support.snapshot import changes
from tests.support.stages import idle_agent, working


async def test_it_waits_for_an_agent_that_is_away(store: Store, clock: StoreClock) -> None:
    await registered(store, "a1", "a2")
    message = a_message("m1", reply_to="m0")
    assert without_counters(await changes(store, store.mail.send(message, to="a2"))) == {
        "mailbox:a2": {entry("m1", reply_to="m0"): SEQ},
        "mailboxes": {"a2": SEQ},
        "mailseq": SEQ,
        "message:m1": {
            "from": "a1",
            "to": "a2",
            "type": "chat",
            "payload": '{"text":"hi"}',
            "reply_to": "m0",
            "timestamp": T0,
            "seq": SEQ,
            "state": "queued",
            "state_at": T0,
            "digest": digest_of(message, to="a2"),
        },
        "messages": {"m1": SEQ},
        "replies:m0": {"m1": SEQ},
    }


async def test_it_is_also_pushed_to_an_agent_that_is_connected(store: Store, clock: StoreClock) -> None:
    agent = await idle_agent(store, "a2")
    changed = await changes(store, store.mail.send(a_message("m1"), to="a2"))
    [push] = changed["out:gw"]
    assert json.loads(push.pop("frame")) == {
        "type": "message",
        "id": "m1",
        "from": "a1",
        "message_type": "chat",
        "payload": {"text": "hi"},
        "reply_to": None,
        "timestamp": T0,
        "to": "a2",
        "seq": SEQ,
    }
    assert push == {"conn": agent.conn, "kind": "mail", "seq": SEQ, "id": "m1"}
    assert changed["mailbox:a2"] == {entry("m1"): SEQ}


async def test_numbers_rise_whatever_the_clock_does(store: Store, clock: StoreClock) -> None:
    await registered(store, "a2")
    numbers = [(await store.mail.send(a_message(), to="a2")).seq for _ in range(3)]
    await clock.advance(-60_000)
    numbers.append((await store.mail.send(a_message(), to="a2")).seq)
    await clock.advance(120_000)
    numbers.append((await store.mail.send(a_message(), to="a2")).seq)
    assert numbers == [SEQ, SEQ + 1, SEQ + 2, SEQ + 3, SEQ + 60_000_000]


async def test_numbers_rise_after_everything_was_acknowledged(store: Store, clock: StoreClock) -> None:
    await registered(store, "a2")
    first = await store.mail.send(a_message(), to="a2")
    await store.mail.ack("a2", seq=first.seq)
    second = await store.mail.send(a_message("m2"), to="a2")
    assert second.seq > first.seq
    assert await ids_in_mailbox(store, "a2", since=first.seq) == ["m2"]


async def test_to_an_unknown_agent(store: Store, clock: StoreClock) -> None:
    error = await refused(store, store.mail.send(a_message(), to="a2"), UnknownAgent)
    assert (error.code, error.http_status, error.details) == ("unknown_agent", 404, {"agent_id": "a2"})


async def test_an_agent_without_tokens_that_still_holds_a_task_is_known(store: Store, clock: StoreClock) -> None:
    agent = await working(store, agent_id="a2")
    await store.agents.disconnect("a2", conn=agent.conn, reason="closed")
    await store.tokens.revoke("a2")
    await store.mail.send(a_message("m1"), to="a2")
    assert await ids_in_mailbox(store, "a2") == ["m1"]


class TestTwice:
    async def test_the_same_call_sent_twice_sends_once(self, store: Store, clock: StoreClock) -> None:
        await idle_agent(store, "a2")
        message = a_message("m1")
        first = await store.mail.send(message, to="a2")
        await clock.advance(7)
        assert await changes(store, store.mail.send(message, to="a2")) == {}
        again = await store.mail.send(message, to="a2")
        assert (again.seq, again.timestamp, again.repeated) == (first.seq, first.timestamp, True)

    async def test_a_chosen_id_is_remembered_longer_than_its_message(self, store: Store, clock: StoreClock) -> None:
        await registered(store, "a2")
        message = a_message("mine", chosen_id=True)
        first = await store.mail.send(message, to="a2")
        await store.link.call("DEL", store.keys.message("mine"))
        assert (await store.mail.send(message, to="a2")).seq == first.seq
        ttl = await store.link.call("PTTL", store.keys.idempotency("a1", "message:mine"))
        assert isinstance(ttl, int)
        assert 0 < ttl <= 86_400_000

    @pytest.mark.parametrize(
        "other",
        [
            a_message("m1", payload=b'{"text":"other"}'),
            a_message("m1", sender="a3"),
            a_message("m1", type="request"),
            a_message("m1", reply_to="m0"),
        ],
        ids=["payload", "sender", "type", "reply_to"],
    )
    async def test_another_message_under_the_same_id_is_refused(
        self, store: Store, clock: StoreClock, other: object
    ) -> None:
        await registered(store, "a2", "a3")
        await store.mail.send(a_message("m1", chosen_id=True), to="a2")
        await refused(store, store.mail.send(other, to="a2"), MessageIdConflict)  # type: ignore[arg-type]

    async def test_the_same_message_to_another_agent_is_refused(self, store: Store, clock: StoreClock) -> None:
        await registered(store, "a2", "a3")
        await store.mail.send(a_message("m1"), to="a2")
        await refused(store, store.mail.send(a_message("m1"), to="a3"), MessageIdConflict)


class TestBounds:
    async def test_the_oldest_is_dropped_and_dead(self, store: Store, clock: StoreClock) -> None:
        await registered(store, "a2")
        for n in range(103):
            await store.mail.send(a_message(f"m{n}"), to="a2")
        assert await ids_in_mailbox(store, "a2") == [f"m{n}" for n in range(3, 103)]
        assert [await state_of(store, f"m{n}") for n in (2, 3)] == [("dead", "mailbox_full"), ("queued", None)]

    async def test_more_may_be_on_its_way_to_a_connected_agent(self, store: Store, clock: StoreClock) -> None:
        agent = await an_agent(store, "a2")
        for n in range(150):
            await store.mail.send(a_message(f"m{n}"), to="a2")
        await store.agents.disconnect("a2", conn=agent.conn, reason="closed", written=0)
        assert len(await ids_in_mailbox(store, "a2")) == 150
        await store.mail.send(a_message("last"), to="a2")
        assert len(await ids_in_mailbox(store, "a2")) == 100

    async def test_history_and_threads_keep_the_newest(self, store: Store, clock: StoreClock) -> None:
        store.mail._limits.message_history_cap = 5
        await a_token(store, "a2")
        await store.mail.send(a_message("m0"), to="a2")
        await store.mail.ack("a2", seq=2**53)
        await store.mail.send(a_message("answer", reply_to="m0"), to="a2")
        for n in range(1, 5):
            await store.mail.send(a_message(f"m{n}"), to="a2")
        assert await store.link.call("EXISTS", store.keys.message("m0")) == 0
        await store.mail.send(a_message("m5"), to="a2")
        assert await store.link.call("EXISTS", store.keys.replies("m0")) == 0
        assert await store.link.call("ZCARD", store.keys.messages()) == 5

    async def test_the_record_of_a_message_that_waits_outlives_the_history(
        self, store: Store, clock: StoreClock
    ) -> None:
        store.mail._limits.message_history_cap = 1
        await registered(store, "a2", "a3")
        first = await store.mail.send(a_message("m1"), to="a2")
        await store.mail.send(a_message("m2"), to="a3")
        assert await state_of(store, "m1") == ("queued", None)
        await store.mail.ack("a2", seq=first.seq)
        assert await state_of(store, "m1") == ("acknowledged", None)
        ttl = await store.link.call("PTTL", store.keys.message("m1"))
        assert isinstance(ttl, int)
        assert 0 < ttl <= 86_400_000
