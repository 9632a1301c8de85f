"""channel/publish and channel/history: posts, live, in mailboxes and afterwards."""

from __future__ import annotations

import json

import pytest

from agentcom.errors import ChannelNotFound, MessageIdConflict
from agentcom.store.channels import Viewer
from agentcom.store.mail import digest_of
from agentcom.store.store import Store
from tests.support.builders import an_agent
from tests.support.clock import T0, StoreClock
from tests.support.mail import NOBODY, SEQ, a_message, ids_in_mailbox, registered, without_counters
from tests.support.refusals import refused
from tests.support.snapshot import changes

A2 = Viewer("a2")


@pytest.fixture(autouse=True)
async def _channel(store: Store, clock: StoreClock) -> None:
    await registered(store, "a1", "a2")
    await store.channels.create("c", description="", created_by="a1", private=False, members=())
    await store.channels.subscribe("c", by=A2)


async def posted(store: Store, count: int) -> None:
    for n in range(1, count + 1):
        await store.channels.publish("c", a_message(f"p{n}"), privileged=False)


async def seqs(store: Store, *, after: int | None = None, before: int | None = None, limit: int = 50) -> list[int]:
    posts = await store.channels.history("c", viewer=NOBODY, after=after, before=before, limit=limit)
    return [post.seq for post in posts]


async def test_a_post_is_in_the_log_the_history_and_on_its_way(store: Store) -> None:
    await an_agent(store, "a2")
    message = a_message("p1", reply_to="m0")
    changed = without_counters(await changes(store, store.channels.publish("c", message, privileged=False)))
    seq = SEQ + 1
    [push] = changed.pop("out:gw")
    assert json.loads(push.pop("frame")) == {
        "type": "channel_message",
        "channel": "c",
        "id": "p1",
        "from": "a1",
        "message_type": "chat",
        "payload": {"text": "hi"},
        "reply_to": "m0",
        "timestamp": T0,
        "seq": 1,
        "mail_seq": seq,
    }
    assert push == {"kind": "post", "channel": "c", "seq": seq, "sender": "a1"}
    said = {"from": "a1", "type": "chat", "payload": '{"text":"hi"}', "timestamp": T0, "reply_to": "m0"}
    assert changed == {
        "channel:c": {"seq": 1, "last": seq},
        "channellog:c": [{"n": seq, "id": "p1", **said}],
        "mailseq": seq,
        "message:p1": {
            **said,
            "seq": seq,
            "channel": "c",
            "channel_seq": 1,
            "state": "published",
            "state_at": T0,
            "digest": digest_of(message, to="#c"),
        },
        "messages": {"p1": seq},
        "replies:m0": {"p1": seq},
    }


async def test_the_same_call_sent_twice_posts_once(store: Store) -> None:
    message = a_message("p1", chosen_id=True)
    first = await store.channels.publish("c", message, privileged=False)
    assert await changes(store, store.channels.publish("c", message, privileged=False)) == {}
    await store.link.call("DEL", store.keys.message("p1"))
    again = await store.channels.publish("c", message, privileged=False)
    assert (again.post_seq, again.seq, again.repeated) == (first.post_seq, first.seq, True)
    await refused(store, store.mail.send(message, to="a2"), MessageIdConflict)


async def test_nowhere(store: Store) -> None:
    await refused(store, store.channels.publish("d", a_message(), privileged=False), ChannelNotFound)


class TestMailboxes:
    @pytest.mark.parametrize(
        ("payload", "mailed"),
        [
            (b"{}", {"channel": "c"}),
            (b'{"a":1}', {"a": 1, "channel": "c"}),
            (b'{"channel":"mine","a":1}', {"a": 1, "channel": "c"}),
            (b'{"a":{"channel":1}}', {"a": {"channel": 1}, "channel": "c"}),
        ],
    )
    async def test_who_was_away_finds_it_with_the_name_of_the_channel(
        self, store: Store, payload: bytes, mailed: dict[str, object]
    ) -> None:
        await store.channels.publish("c", a_message("p1", payload=payload), privileged=False)
        [mail] = await store.mail.poll("a2", since=0)
        envelope = json.loads(mail.envelope)
        assert (envelope["id"], envelope["to"], envelope["payload"]) == ("p1", None, mailed)
        assert mail.envelope.count(b'"channel":"') == 1

    async def test_not_the_publisher(self, store: Store) -> None:
        await store.channels.subscribe("c", by=Viewer("a1"))
        await posted(store, 1)
        assert await ids_in_mailbox(store, "a1") == []

    async def test_not_what_was_posted_before_the_subscription(self, store: Store) -> None:
        await posted(store, 1)
        await registered(store, "a3")
        await store.channels.subscribe("c", by=Viewer("a3"))
        await store.channels.publish("c", a_message("later"), privileged=False)
        assert await ids_in_mailbox(store, "a3") == ["later"]

    async def test_not_what_was_written_to_a_socket(self, store: Store) -> None:
        agent = await an_agent(store, "a2")
        first = await store.channels.publish("c", a_message("p1"), privileged=False)
        await store.channels.publish("c", a_message("p2"), privileged=False)
        assert await ids_in_mailbox(store, "a2") == []
        await store.agents.disconnect("a2", conn=agent.conn, reason="closed", written=first.seq)
        assert await ids_in_mailbox(store, "a2") == ["p2"]

    async def test_only_the_newest_of_several_channels(self, store: Store) -> None:
        await store.channels.create("d", description="", created_by="a1", private=False, members=())
        await store.channels.subscribe("d", by=A2)
        for n in range(80):
            await store.channels.publish("c", a_message(f"c{n}"), privileged=False)
            await store.channels.publish("d", a_message(f"d{n}"), privileged=False)
        expected = [f"{name}{n}" for n in range(30, 80) for name in "cd"]
        assert await ids_in_mailbox(store, "a2") == expected

    async def test_only_the_newest_of_much_more_than_fits(self, store: Store) -> None:
        for name in "def":
            await store.channels.create(name, description="", created_by="a1", private=False, members=())
            await store.channels.subscribe(name, by=A2)
        for n in range(90):
            for name in "cdef":
                await store.channels.publish(name, a_message(f"{name}{n}"), privileged=False)
        assert await ids_in_mailbox(store, "a2") == [f"{name}{n}" for n in range(65, 90) for name in "cdef"]


class TestHistory:
    async def test_the_last_ones(self, store: Store) -> None:
        await posted(store, 10)
        assert await seqs(store, limit=3) == [8, 9, 10]
        assert await seqs(store, limit=0) == []

    async def test_forward_without_skipping(self, store: Store) -> None:
        await posted(store, 10)
        read: list[int] = []
        while page := await seqs(store, after=read[-1] if read else 0, limit=4):
            read += page
        assert read == list(range(1, 11))

    async def test_backward_without_skipping(self, store: Store) -> None:
        await posted(store, 10)
        read: list[int] = []
        while page := await seqs(store, before=read[0] if read else None, limit=4):
            read = page + read
        assert read == list(range(1, 11))

    async def test_the_newest_are_kept_and_no_more_are_shown(self, store: Store) -> None:
        await posted(store, 450)
        assert await seqs(store, limit=1_000) == list(range(251, 451))
        assert await seqs(store, after=0, limit=2) == [251, 252]
        length = await store.link.call("XLEN", store.keys.channel_log("c"))
        assert isinstance(length, int)
        assert length < 450

    async def test_whole_posts(self, store: Store) -> None:
        await store.channels.publish("c", a_message("p1", reply_to="m0"), privileged=False)
        [post] = await store.channels.history("c", viewer=NOBODY, after=None, before=None, limit=5)
        assert (post.message_id, post.sender, post.type, post.payload, post.reply_to, post.timestamp) == (
            *("p1", "a1", "chat", b'{"text":"hi"}', "m0", T0),
        )
