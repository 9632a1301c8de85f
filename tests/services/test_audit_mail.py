"""The audit of mail: silent while it is sent, read, dropped and deleted, and loud about each kind of damage."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from agentcom.store.audit import audit
from agentcom.store.channels import Viewer
from agentcom.store.mail import Receipt
from agentcom.store.store import Store
from tests.services.hub import Hub, open_hub
from tests.support.builders import GATEWAY
from tests.support.mail import a_message, registered

Damage = Callable[[Any, Store], Awaitable[object]]
A1 = Viewer("a1")


@pytest.fixture
async def hub(redis_url: str, namespace: str) -> AsyncIterator[Hub]:
    async with open_hub(redis_url, namespace, mailbox_cap=3, message_history_cap=8) as hub:
        yield hub


async def populate(hub: Hub) -> None:
    """Messages in every state, copies of broadcasts and posts, answers, and what the history has forgotten."""
    store = hub.store
    await registered(store, "a1", "a2", "a3")
    await hub.connect("on")
    for name, private in (("news", False), ("secret", True), ("gone", False)):
        await store.channels.create(name, description="", created_by="a1", private=private, members=())
        await store.channels.subscribe(name, by=A1)
    await store.channels.publish("gone", a_message("lost"), privileged=False)
    await store.channels.delete("gone", by=A1)
    for n in range(4):
        await store.mail.send(a_message(f"full-{n}"), to="a3")
    acknowledged = await store.mail.send(a_message("acknowledged"), to="a2")
    await store.mail.ack("a2", seq=acknowledged.seq)
    delivered = await store.mail.send(a_message("delivered", reply_to="acknowledged"), to="on")
    await store.mail.delivered([Receipt("on", delivered.seq, "delivered")], gateway=GATEWAY, written=delivered.seq)
    await store.mail.broadcast(a_message("all", "a2"))
    await store.channels.publish("news", a_message("post", "a2", reply_to="all"), privileged=False)
    await store.mail.poll("a1", since=0)
    await store.mail.send(a_message("waits", reply_to="delivered"), to="a2")
    await store.mail.send(a_message("on-its-way"), to="on")


async def test_a_healthy_store_has_no_findings(hub: Hub) -> None:
    await populate(hub)
    assert await audit(hub.store, settle_s=0) == []
    await hub.store.mail.ack("a3", seq=2**53)  # what the history had forgotten while it waited is kept for a day
    assert await audit(hub.store, settle_s=0) == []


DAMAGES: dict[str, tuple[Damage, str]] = {
    "a record is gone": (
        lambda r, s: r.delete(s.keys.message("waits")),
        "message waits does not exist but is in the history",
    ),
    "a mailbox has what is nowhere": (
        lambda r, s: r.delete(s.keys.message("full-1")),
        "mailbox a3 holds message full-1, which does not wait there",
    ),
    "a mailbox has what was delivered": (
        lambda r, s: r.hset(s.keys.message("waits"), "state", "delivered"),
        "message waits is delivered but is in the mailbox of a2",
    ),
    "a waiting message is in no mailbox": (
        lambda r, s: r.delete(s.keys.mailbox("a2")),
        "message waits is queued but is not in the mailbox of a2",
    ),
    "a state is none": (
        lambda r, s: r.hset(s.keys.message("all"), "state", "lost"),
        "message all has the unknown state lost",
    ),
    "a message is listed elsewhere": (
        lambda r, s: r.zincrby(s.keys.messages(), 5, "all"),
        "but is in the history at",
    ),
    "a message is never forgotten": (
        lambda r, s: r.zrem(s.keys.messages(), "delivered"),
        "message delivered is delivered, is not in the history, and is never forgotten",
    ),
    "an answer is not listed": (
        lambda r, s: r.delete(s.keys.replies("all")),
        "message post is not among the answers to all",
    ),
    "an answer is listed wrongly": (
        lambda r, s: r.zadd(s.keys.replies("post"), {"all": 1}),
        "'all' is in replies 'post' but does not belong there: answers nothing",
    ),
    "a mailbox is never evicted": (
        lambda r, s: r.zrem(s.keys.mailboxes(), "a2"),
        "is listed at nothing: nothing is evicted",
    ),
    "a mailbox is evicted too late": (
        lambda r, s: r.zincrby(s.keys.mailboxes(), 2**40, "a3"),
        "nothing is evicted",
    ),
    "numbers are given again": (
        lambda r, s: r.set(s.keys.mail_seq(), 7),
        "mailbox a2 has the number",
    ),
    "a cursor is ahead": (
        lambda r, s: r.hset(s.keys.mail_cursors(), "a1", 2**53),
        "mailbox a1 is read up to 9007199254740992",
    ),
    "a mailbox is too large": (
        lambda r, s: r.zadd(s.keys.mailbox("a1"), {f"copy-{n}": n for n in range(40)}),
        "more than 30",
    ),
    "a channel is not listed": (
        lambda r, s: r.zrem(s.keys.channels(), "news"),
        "channel news exists but is not in the list",
    ),
    "a channel is listed and gone": (
        lambda r, s: r.delete(s.keys.channel("secret")),
        "channel secret does not exist but has subscribers, members",
    ),
    "a post would be overwritten": (
        lambda r, s: r.hset(s.keys.channel("news"), "seq", 0),
        "channel news has counted 0 posts, the latest is number 1",
    ),
    "a subscription is one-sided": (
        lambda r, s: r.zrem(s.keys.subscriptions("a1"), "news"),
        "'a1' is in subscribers 'news' but does not belong there",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
async def test_each_damage_is_found(hub: Hub, name: str) -> None:
    damage, expected = DAMAGES[name]
    await populate(hub)
    await damage(hub.store.blocking, hub.store)
    findings = await audit(hub.store, settle_s=0)
    assert any(expected in finding for finding in findings), findings


async def test_mailboxes_are_read_to_their_end(redis_url: str, namespace: str) -> None:
    async with open_hub(redis_url, namespace) as hub:
        await hub.connect("on")
        for n in range(250):
            await hub.store.mail.send(a_message(f"m{n}"), to="on")
        assert await audit(hub.store, settle_s=0) == []
        await hub.store.blocking.delete(*(hub.store.keys.message(f"m{n}") for n in (0, 120, 249)))
        findings = await audit(hub.store, settle_s=0)
        assert sum("does not wait there" in finding for finding in findings) == 3


async def test_mail_under_way_is_no_finding(hub: Hub) -> None:
    await populate(hub)
    store, stop = hub.store, asyncio.Event()

    async def keep_sending() -> None:
        while not stop.is_set():
            await store.mail.send(a_message(reply_to="all"), to="a2")
            await store.mail.broadcast(a_message(sender="a3"))
            await store.channels.publish("news", a_message(sender="a2"), privileged=False)
            mail = await store.mail.poll("a1", since=0)
            await store.mail.ack("a1", seq=mail[0].seq)

    sending = asyncio.gather(*(keep_sending() for _ in range(4)))
    try:
        for _ in range(3):
            assert await audit(store, settle_s=0.3) == []
    finally:
        stop.set()
        await sending
