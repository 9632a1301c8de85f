"""channel/create, delete, subscribe, unsubscribe, admit, expel, list, get: who may, and who listens."""

from __future__ import annotations

import asyncio
import json

import pytest

from agentcom.domain.messages import MAX_CHANNELS, MAX_MEMBERS, MAX_SUBSCRIPTIONS, Channel
from agentcom.errors import ChannelExists, ChannelNotFound, NotChannelOwner, TooManyChannels, UnknownAgent
from agentcom.store.channels import Viewer
from agentcom.store.store import Store
from tests.support.builders import an_agent
from tests.support.clock import T0, StoreClock
from tests.support.mail import ADMIN, NOBODY, SEQ, a_message, ids_in_mailbox, registered
from tests.support.refusals import refused
from tests.support.snapshot import GONE, HERE, changes

A1, A2, A3 = Viewer("a1"), Viewer("a2"), Viewer("a3")


async def create(store: Store, name: str = "c", *, members: tuple[str, ...] | None = None) -> None:
    """A public channel of a1, or a private one."""
    await store.channels.create(
        name, description="about", created_by="a1", private=members is not None, members=members or ()
    )


class TestCreate:
    async def test_public(self, store: Store, clock: StoreClock) -> None:
        changed = await changes(store, create(store))
        assert len(changed["channel:c"].pop("nonce")) == 16
        assert changed == {
            "channel:c": {"description": "about", "created_at": T0, "created_by": "a1", "private": 0, "seq": 0},
            "channels": {"c": 0},
        }

    async def test_private(self, store: Store, clock: StoreClock) -> None:
        changed = await changes(store, create(store, members=("a2",)))
        assert changed["members:c"] == {"a1": HERE, "a2": HERE}
        assert changed["channel:c"]["private"] == 1

    async def test_a_name_is_given_once(self, store: Store, clock: StoreClock) -> None:
        await create(store)
        await refused(store, create(store), ChannelExists)

    async def test_the_same_call_sent_twice_creates_once(
        self, store: Store, clock: StoreClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("agentcom.store.channels.secrets.token_hex", lambda _: "nonce")
        await create(store)
        assert await changes(store, create(store)) == {}

    async def test_there_is_a_bound(self, store: Store, clock: StoreClock, monkeypatch: pytest.MonkeyPatch) -> None:
        assert MAX_CHANNELS > 1
        monkeypatch.setattr("agentcom.store.channels.MAX_CHANNELS", 1)
        await create(store)
        await refused(store, create(store, "d"), TooManyChannels)


class TestSubscribe:
    async def test_an_agent_that_is_away(self, store: Store, clock: StoreClock) -> None:
        await create(store)
        assert await changes(store, store.channels.subscribe("c", by=A2)) == {
            "mailseq": SEQ,
            "subscribers:c": {"a2": SEQ},
            "subscriptions:a2": {"c": 0},
        }

    async def test_a_socket_listens_at_once_and_others_are_told(self, store: Store, clock: StoreClock) -> None:
        await create(store)
        agent = await an_agent(store, "a2", gateway="gw1")
        await an_agent(store, "a3", gateway="gw2")
        changed = await changes(store, store.channels.subscribe("c", by=A2))
        told = {"kind": "joined", "channel": "c", "sender": "a2"}
        frame = changed["out:gw2"][0].pop("frame")
        assert json.loads(frame) == {"type": "channel_agent_joined", "channel": "c", "agent_id": "a2"}
        assert changed["out:gw2"] == [told]
        assert changed["out:gw1"] == [told | {"frame": frame}, {"conn": agent.conn, "kind": "listen", "channel": "c"}]

    async def test_again_makes_the_socket_listen_all_the_same(self, store: Store, clock: StoreClock) -> None:
        await create(store)
        agent = await an_agent(store, "a2")
        assert await store.channels.subscribe("c", by=A2) is True
        listening = {"out:gw": [{"conn": agent.conn, "kind": "listen", "channel": "c"}]}
        assert await changes(store, store.channels.subscribe("c", by=A2)) == listening
        assert await store.channels.subscribe("c", by=A2) is False

    async def test_the_next_connection_listens(self, store: Store, clock: StoreClock) -> None:
        for name in ("b", "c"):
            await create(store, name)
            await store.channels.subscribe(name, by=A2)
        changed = await changes(store, an_agent(store, "a2"))
        assert changed["out:gw"] == [{"conn": "a2-conn", "kind": "listen", "channel": "b c"}]

    async def test_a_channel_that_is_not_there(self, store: Store, clock: StoreClock) -> None:
        await refused(store, store.channels.subscribe("c", by=A2), ChannelNotFound)
        await create(store, members=("a2",))
        await refused(store, store.channels.subscribe("c", by=A3), ChannelNotFound)

    async def test_there_is_a_bound(self, store: Store, clock: StoreClock) -> None:
        for n in range(MAX_SUBSCRIPTIONS + 1):
            await create(store, f"c{n}")
        for n in range(MAX_SUBSCRIPTIONS):
            await store.channels.subscribe(f"c{n}", by=A2)
        last = f"c{MAX_SUBSCRIPTIONS}"
        await refused(store, store.channels.subscribe(last, by=A2), TooManyChannels)
        await store.channels.delete("c0", by=A1)
        assert await store.channels.subscribe(last, by=A2) is True


class TestUnsubscribe:
    async def test_the_socket_stops_to_listen(self, store: Store, clock: StoreClock) -> None:
        await create(store)
        agent = await an_agent(store, "a2")
        await store.channels.subscribe("c", by=A2)
        assert await changes(store, store.channels.unsubscribe("c", by=A2)) == {
            "out:gw": [{"conn": agent.conn, "kind": "unlisten", "channel": "c"}],
            "subscribers:c": {"a2": GONE},
            "subscriptions:a2": {"c": GONE},
        }

    async def test_twice_and_never(self, store: Store, clock: StoreClock) -> None:
        await create(store)
        assert await store.channels.unsubscribe("c", by=A2) is False
        await refused(store, store.channels.unsubscribe("d", by=A2), ChannelNotFound)

    async def test_what_was_posted_before_is_not_lost(self, store: Store, clock: StoreClock) -> None:
        await create(store)
        await registered(store, "a2")
        await store.channels.subscribe("c", by=A2)
        await store.channels.publish("c", a_message("p1"), privileged=False)
        await store.channels.unsubscribe("c", by=A2)
        await store.channels.publish("c", a_message("p2"), privileged=False)
        assert await ids_in_mailbox(store, "a2") == ["p1"]


class TestDelete:
    async def test_nothing_is_left_but_what_is_cleaned_later(self, store: Store, clock: StoreClock) -> None:
        await create(store, members=("a2",))
        await an_agent(store, "a2")
        await store.channels.subscribe("c", by=A2)
        await store.channels.publish("c", a_message("p1"), privileged=False)
        changed = await changes(store, store.channels.delete("c", by=A1))
        assert changed.pop("out:gw") == [{"kind": "deleted", "channel": "c"}]
        gone = {"channel:c", "channellog:c", "channels", "members:c", "subscribers:c"}
        assert changed.keys() == gone
        assert await store.channels.subscriptions("a2", viewer=A2) == []

    async def test_a_new_channel_of_the_name_has_no_subscribers(self, store: Store, clock: StoreClock) -> None:
        await registered(store, "a2")
        await create(store)
        await store.channels.subscribe("c", by=A2)
        await store.channels.delete("c", by=A1)
        await create(store)
        await store.channels.publish("c", a_message(), privileged=False)
        assert await ids_in_mailbox(store, "a2") == []
        assert (await store.channels.get("c", viewer=A2)).subscribers == ()

    async def test_only_its_creator_or_an_admin_may(self, store: Store, clock: StoreClock) -> None:
        await create(store)
        await refused(store, store.channels.delete("c", by=A2), NotChannelOwner)
        await store.channels.delete("c", by=ADMIN)
        await refused(store, store.channels.delete("c", by=A1), ChannelNotFound)


class TestPrivate:
    async def test_members_come_and_go(self, store: Store, clock: StoreClock) -> None:
        await create(store, members=())
        await registered(store, "a2")
        await store.channels.admit("c", "a2", by=A1)
        await store.channels.subscribe("c", by=A2)
        await an_agent(store, "a2")
        changed = await changes(store, store.channels.expel("c", "a2", by=A1))
        assert changed == {
            "members:c": {"a2": GONE},
            "out:gw": [{"conn": "a2-conn", "kind": "unlisten", "channel": "c"}],
            "subscribers:c": {"a2": GONE},
            "subscriptions:a2": {"c": GONE},
        }
        await refused(store, store.channels.subscribe("c", by=A2), ChannelNotFound)

    async def test_a_full_channel_takes_no_more_members_and_still_has_those_it_has(
        self, store: Store, clock: StoreClock
    ) -> None:
        await registered(store, "a2", "a3")
        await create(store, members=("a2", *(f"m{number}" for number in range(MAX_MEMBERS - 2))))
        await refused(store, store.channels.admit("c", "a3", by=A1), TooManyChannels)
        assert await changes(store, store.channels.admit("c", "a2", by=A1)) == {}

    async def test_only_its_creator_may_change_them(self, store: Store, clock: StoreClock) -> None:
        await registered(store, "a3")
        await create(store, members=("a2",))
        await refused(store, store.channels.admit("c", "a3", by=A2), NotChannelOwner)
        await refused(store, store.channels.admit("c", "a3", by=A3), ChannelNotFound)
        await refused(store, store.channels.admit("c", "nobody", by=A1), UnknownAgent)
        await refused(store, store.channels.expel("c", "a1", by=A2), NotChannelOwner)
        await store.channels.expel("c", "a2", by=A2)

    async def test_it_is_hidden_from_others(self, store: Store, clock: StoreClock) -> None:
        await create(store, "open")
        await create(store, "secret", members=("a2",))
        await store.channels.subscribe("secret", by=A2)
        for viewer, names in (
            (A2, ["open", "secret"]),
            (ADMIN, ["open", "secret"]),
            (A3, ["open"]),
            (NOBODY, ["open"]),
        ):
            page = await store.channels.page(viewer=viewer, cursor=None, limit=10)
            assert [channel.name for channel in page.channels] == names
        assert await store.channels.subscriptions("a2", viewer=A3) == []
        assert await store.channels.subscriptions("a2", viewer=A2) == ["secret"]
        await refused(store, store.channels.get("secret", viewer=A3), ChannelNotFound)
        await refused(
            store, store.channels.publish("secret", a_message(sender="a3"), privileged=False), ChannelNotFound
        )
        await refused(
            store, store.channels.history("secret", viewer=A3, after=None, before=None, limit=1), ChannelNotFound
        )


async def test_reading_channels(store: Store, clock: StoreClock) -> None:
    for n in range(5):
        await create(store, f"c{n}")
    for viewer in (A2, A3):
        await store.channels.subscribe("c1", by=viewer)
    assert await store.channels.get("c1", viewer=NOBODY) == Channel(
        name="c1",
        description="about",
        created_at=T0,
        created_by="a1",
        private=False,
        subscriber_count=2,
        subscribers=("a3", "a2"),
    )
    first = await store.channels.page(viewer=NOBODY, cursor=None, limit=3)
    second = await store.channels.page(viewer=NOBODY, cursor=first.cursor, limit=3)
    assert [channel.name for channel in (*first.channels, *second.channels)] == [f"c{n}" for n in range(5)]
    assert (first.cursor, second.cursor) == ("c2", None)


async def test_subscribing_at_the_same_time_subscribes_once(store: Store, clock: StoreClock) -> None:
    await create(store)
    answers = await asyncio.gather(*[store.channels.subscribe("c", by=A2) for _ in range(5)])
    assert sorted(answers) == [False] * 4 + [True]
