"""mail/broadcast, and how agents that were away come by what they missed."""

from __future__ import annotations

import json

from agentcom.errors import MessageIdConflict
from agentcom.store.mail import digest_of
from agentcom.store.store import Store
from tests.support.builders import a_token, an_agent
from tests.support.clock import T0, StoreClock
from tests.support.mail import SEQ, a_message, entry, ids_in_mailbox, registered, state_of, without_counters
from tests.support.refusals import refused
from tests.support.snapshot import changes


async def test_it_costs_one_entry_for_each_gateway(store: Store, clock: StoreClock) -> None:
    for n in range(4):
        await an_agent(store, f"b{n}", gateway=f"gw{n % 2}")
    await an_agent(store, "lost", gateway="lapsed", lease_ms=1)
    await clock.advance(1)
    message = a_message("m1")
    changed = without_counters(await changes(store, store.mail.broadcast(message)))
    seq = SEQ + 1_000
    for gateway in ("gw0", "gw1"):
        [push] = changed.pop(f"out:{gateway}")
        frame = json.loads(push.pop("frame"))
        assert (frame["type"], frame["id"], frame["to"], frame["seq"]) == ("message", "m1", "broadcast", seq)
        assert push == {"kind": "broadcast", "seq": seq, "sender": "a1"}
    assert changed == {
        "broadcasts": [{"n": seq, "from": "a1", "entry": entry("m1", to="broadcast", timestamp=T0 + 1)}],
        "mailseq": seq,
        "message:m1": {
            "from": "a1",
            "to": "broadcast",
            "type": "chat",
            "payload": '{"text":"hi"}',
            "timestamp": T0 + 1,
            "seq": seq,
            "state": "published",
            "state_at": T0 + 1,
            "digest": digest_of(message, to=""),
        },
        "messages": {"m1": seq},
    }


async def test_the_same_call_sent_twice_sends_once(store: Store, clock: StoreClock) -> None:
    await store.mail.broadcast(a_message("m1"))
    assert await changes(store, store.mail.broadcast(a_message("m1"))) == {}
    await refused(store, store.mail.broadcast(a_message("m1", payload=b"{}")), MessageIdConflict)


async def test_who_was_away_finds_it_once(store: Store, clock: StoreClock) -> None:
    await registered(store, "a1", "a2")
    await a_token(store, "a2")
    await clock.advance(1)
    await store.mail.broadcast(a_message("m1"))
    changed = await changes(store, store.mail.poll("a2", since=0))
    assert changed == {
        "mailbox:a2": {entry("m1", to="broadcast", timestamp=T0 + 1): SEQ + 1_000},
        "mailboxes": {"a2": SEQ + 1_000},
        "mailcursors": {"a2": SEQ + 1_000},
    }
    assert await changes(store, store.mail.poll("a2", since=0)) == {}
    assert await ids_in_mailbox(store, "a1") == []


async def test_who_acknowledged_it_does_not_find_it_again(store: Store, clock: StoreClock) -> None:
    await registered(store, "a2")
    await clock.advance(1)
    sent = await store.mail.broadcast(a_message("m1"))
    await store.mail.ack("a2", seq=sent.seq)
    assert await ids_in_mailbox(store, "a2") == []


async def test_mail_is_in_the_order_in_which_it_was_sent(store: Store, clock: StoreClock) -> None:
    await registered(store, "a2")
    await clock.advance(1)
    await store.mail.send(a_message("m1"), to="a2")
    await store.mail.broadcast(a_message("m2"))
    await store.mail.send(a_message("m3"), to="a2")
    assert await ids_in_mailbox(store, "a2") == ["m1", "m2", "m3"]


async def test_who_registers_later_does_not_find_it(store: Store, clock: StoreClock) -> None:
    await store.mail.broadcast(a_message("m1"))
    await clock.advance(1)
    await registered(store, "a2")
    assert await ids_in_mailbox(store, "a2") == []


async def test_connecting_puts_what_was_missed_into_the_mailbox(store: Store, clock: StoreClock) -> None:
    await registered(store, "a2")
    await clock.advance(1)
    missed = await store.mail.broadcast(a_message("missed"))
    agent = await an_agent(store, "a2")
    assert agent.resumption.mail_seq == missed.seq
    await store.mail.broadcast(a_message("live"))
    assert await ids_in_mailbox(store, "a2") == ["missed"]
    await store.agents.disconnect("a2", conn=agent.conn, reason="closed", written=missed.seq + 1)
    assert await ids_in_mailbox(store, "a2") == ["missed"]


async def test_what_was_not_written_any_more_is_in_the_mailbox(store: Store, clock: StoreClock) -> None:
    agent = await an_agent(store, "a2")
    numbers = [(await store.mail.broadcast(a_message(f"m{n}"))).seq for n in range(4)]
    await store.agents.disconnect("a2", conn=agent.conn, reason="closed", written=numbers[1])
    assert await ids_in_mailbox(store, "a2") == ["m2", "m3"]


async def test_of_a_lost_gateway_counts_what_it_last_said(store: Store, clock: StoreClock) -> None:
    await an_agent(store, "a2", lease_ms=1_000)
    numbers = [(await store.mail.broadcast(a_message(f"m{n}"))).seq for n in range(4)]
    await store.mail.delivered([], gateway="gw", written=numbers[0])
    await clock.advance(2_000)
    await store.gateways.expire(limit=10)
    assert await ids_in_mailbox(store, "a2") == ["m1", "m2", "m3"]


async def test_identifying_again_on_the_same_connection_loses_nothing(store: Store, clock: StoreClock) -> None:
    """The first answer was lost: what came since then was written to other sockets, and not to this one."""
    await registered(store, "a1", "a2")
    await clock.advance(1)
    await store.mail.broadcast(a_message("before"))
    agent = await an_agent(store, "a2")
    sent = await store.mail.broadcast(a_message("between"))
    await store.mail.delivered([], gateway="gw", written=sent.seq)
    again = await an_agent(store, "a2", token_digest=agent.token_digest)
    assert again.resumption.mail_seq == sent.seq
    assert await ids_in_mailbox(store, "a2") == ["before", "between"]


async def test_moving_to_another_gateway_loses_nothing(store: Store, clock: StoreClock) -> None:
    agent = await an_agent(store, "a2", gateway="gw1")
    numbers = [(await store.mail.broadcast(a_message(f"m{n}"))).seq for n in range(3)]
    await store.mail.delivered([], gateway="gw1", written=numbers[0])
    moved = await an_agent(store, "a2", gateway="gw2", conn="newer", token_digest=agent.token_digest)
    assert moved.resumption.mail_seq == numbers[2]
    assert await ids_in_mailbox(store, "a2") == ["m1", "m2"]


async def test_only_the_newest_are_kept_for_who_is_away(store: Store, clock: StoreClock) -> None:
    await registered(store, "a2")
    await clock.advance(1)
    await store.mail.send(a_message("direct"), to="a2")
    for n in range(130):
        await store.mail.broadcast(a_message(f"m{n}"))
    assert await ids_in_mailbox(store, "a2") == [f"m{n}" for n in range(30, 130)]
    assert await state_of(store, "direct") == ("dead", "mailbox_full")
