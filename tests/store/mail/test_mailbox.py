"""mail/poll, mail/ack, mail/delivered, mail/evict: what becomes of what waits."""

from __future__ import annotations

import pytest

from agentcom.settings import DAY, MINUTE
from agentcom.store.mail import Receipt
from agentcom.store.store import Store
from agentcom.store.tasks import Swept
from tests.support.builders import an_agent
from tests.support.clock import T0, StoreClock
from tests.support.mail import a_message, ids_in_mailbox, registered, state_of
from tests.support.snapshot import GONE, changes


class TestPoll:
    async def test_it_takes_nothing_away(self, store: Store, clock: StoreClock) -> None:
        await registered(store, "a2")
        sent = [(await store.mail.send(a_message(f"m{n}"), to="a2")).seq for n in range(3)]
        assert await changes(store, store.mail.poll("a2", since=0)) == {}
        assert await ids_in_mailbox(store, "a2", since=sent[0]) == ["m1", "m2"]
        assert [mail.seq for mail in await store.mail.poll("a2", since=0, limit=2)] == sent[:2]
        assert await store.mail.poll("nobody", since=0) == []

    async def test_what_is_on_its_way_to_a_socket_is_not_shown(self, store: Store, clock: StoreClock) -> None:
        await registered(store, "a2")
        await store.mail.send(a_message("before"), to="a2")
        agent = await an_agent(store, "a2")
        await store.mail.send(a_message("after"), to="a2")
        assert await ids_in_mailbox(store, "a2") == ["before"]
        await store.agents.disconnect("a2", conn=agent.conn, reason="closed")
        assert await ids_in_mailbox(store, "a2") == ["before", "after"]

    async def test_nothing_is_shown_of_a_first_connection(self, store: Store, clock: StoreClock) -> None:
        await an_agent(store, "a2")
        await store.mail.send(a_message(), to="a2")
        assert await ids_in_mailbox(store, "a2") == []


class TestAck:
    async def test_what_was_acknowledged_is_gone_at_once(self, store: Store, clock: StoreClock) -> None:
        await registered(store, "a2")
        sent = [(await store.mail.send(a_message(f"m{n}"), to="a2")).seq for n in range(3)]
        assert await store.mail.ack("a2", seq=sent[1]) == 2
        assert await ids_in_mailbox(store, "a2") == ["m2"]
        assert [await state_of(store, f"m{n}") for n in range(3)] == [("acknowledged", None)] * 2 + [("queued", None)]

    @pytest.mark.parametrize("seq", [-5, 0])
    async def test_of_nothing(self, store: Store, clock: StoreClock, seq: int) -> None:
        await registered(store, "a2")
        await store.mail.send(a_message(), to="a2")
        assert await changes(store, store.mail.ack("a2", seq=seq)) == {}

    async def test_of_numbers_to_come_does_not_reach_into_the_future(self, store: Store, clock: StoreClock) -> None:
        await registered(store, "a1", "a2")
        await store.mail.send(a_message(), to="a2")
        await store.mail.ack("a2", seq=2**53)
        await store.mail.send(a_message("later"), to="a2")
        await store.mail.broadcast(a_message("to all"))
        assert await ids_in_mailbox(store, "a2") == ["later", "to all"]


class TestDelivered:
    async def test_a_written_message_leaves_the_mailbox(self, store: Store, clock: StoreClock) -> None:
        await an_agent(store, "a2")
        sent = await store.mail.send(a_message("m1"), to="a2")
        await clock.advance(7)
        changed = await changes(
            store, store.mail.delivered([Receipt("a2", sent.seq, "m1")], gateway="gw", written=None)
        )
        assert changed == {
            "mailbox:a2": dict.fromkeys(changed["mailbox:a2"], GONE),
            "message:m1": {"state": "delivered", "state_at": T0 + 7},
        }

    async def test_twice_is_once(self, store: Store, clock: StoreClock) -> None:
        await an_agent(store, "a2")
        sent = await store.mail.send(a_message("m1"), to="a2")
        receipt = [Receipt("a2", sent.seq, "m1")]
        await store.mail.delivered(receipt, gateway="gw", written=sent.seq)
        assert await changes(store, store.mail.delivered(receipt, gateway="gw", written=sent.seq)) == {}

    async def test_what_was_acknowledged_before_stays_acknowledged(self, store: Store, clock: StoreClock) -> None:
        await an_agent(store, "a2")
        sent = await store.mail.send(a_message("m1"), to="a2")
        await store.mail.ack("a2", seq=sent.seq)
        await store.mail.delivered([Receipt("a2", sent.seq, "m1")], gateway="gw", written=None)
        assert await state_of(store, "m1") == ("acknowledged", None)

    async def test_a_gateway_that_was_given_up_leaves_nothing_behind(self, store: Store, clock: StoreClock) -> None:
        assert await changes(store, store.mail.delivered([], gateway="gone", written=5)) == {}
        await an_agent(store, "a2", gateway="gw", lease_ms=1_000)
        await store.mail.delivered([], gateway="gw", written=5)
        await clock.advance(2_000)
        changed = await changes(store, store.gateways.expire(limit=10))
        assert changed["written"] == {"gw": GONE}


class TestEvict:
    async def test_what_nobody_took_is_dead(self, store: Store, clock: StoreClock) -> None:
        await registered(store, "a2", "a3")
        await store.mail.send(a_message("old"), to="a2")
        await clock.advance(DAY)
        await store.mail.send(a_message("new"), to="a2")
        await store.mail.send(a_message("other"), to="a3")
        await clock.advance(6 * DAY - 1)
        assert await store.mail.evict(limit=100) == Swept(0, more=False)
        await clock.advance(1)
        assert await store.mail.evict(limit=100) == Swept(1, more=False)
        assert await ids_in_mailbox(store, "a2") == ["new"]
        assert await state_of(store, "old") == ("dead", "expired")
        assert await ids_in_mailbox(store, "a3") == ["other"]

    async def test_it_goes_by_the_setting_that_was_changed(self, store: Store, clock: StoreClock) -> None:
        await registered(store, "a2")
        await store.mail.send(a_message(), to="a2")
        await store.services.set_config("mailbox_ttl_ms", str(MINUTE))
        await clock.advance(MINUTE + 1)
        assert (await store.mail.evict(limit=100)).served == 1

    async def test_a_call_has_bounded_work(self, store: Store, clock: StoreClock) -> None:
        await registered(store, *(f"b{n}" for n in range(5)))
        for n in range(20):
            await store.mail.send(a_message(), to=f"b{n % 5}")
        await clock.advance(8 * DAY)
        served = []
        while (swept := await store.mail.evict(limit=3)).more:
            served.append(swept.served)
        assert sum(served) + swept.served == 20
        assert max(served) <= 6
        assert await store.link.call("EXISTS", store.keys.mailboxes()) == 0

    async def test_a_mailbox_that_was_emptied_is_forgotten(self, store: Store, clock: StoreClock) -> None:
        await registered(store, "a2")
        sent = await store.mail.send(a_message(), to="a2")
        await store.mail.ack("a2", seq=sent.seq)
        await clock.advance(8 * DAY)
        assert await changes(store, store.mail.evict(limit=10)) == {"mailboxes": {"a2": GONE}}

    async def test_old_broadcasts_are_not_copied_any_more(self, store: Store, clock: StoreClock) -> None:
        await registered(store, "a1", "a2")
        await clock.advance(1)
        await store.mail.broadcast(a_message("old"))
        await store.mail.poll("a2", since=0)
        await clock.advance(8 * DAY)
        assert (await store.mail.evict(limit=10)).served == 1
        assert await ids_in_mailbox(store, "a2") == []
