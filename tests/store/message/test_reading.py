"""message/get, message/page, message/thread: history and threads, as far as the reader may see them."""

from __future__ import annotations

import pytest

from agentcom.domain.messages import DeliveryState
from agentcom.errors import MessageNotFound
from agentcom.store.channels import Viewer
from agentcom.store.message_reader import STEPS, THREAD_LIMIT, MessageFilter
from agentcom.store.store import Store
from tests.support.clock import T0, StoreClock
from tests.support.mail import ADMIN, SEQ, a_message, registered

A1, A2, A3 = Viewer("a1"), Viewer("a2"), Viewer("a3")


@pytest.fixture(autouse=True)
async def _agents(store: Store, clock: StoreClock) -> None:
    await registered(store, "a1", "a2", "a3")


async def direct(
    store: Store, message_id: str, *, sender: str = "a1", to: str = "a2", reply_to: str | None = None
) -> None:
    await store.mail.send(a_message(message_id, sender=sender, reply_to=reply_to), to=to)


async def ids(store: Store, viewer: Viewer = ADMIN, **wanted: object) -> list[str]:
    page = await store.messages.page(MessageFilter(**wanted), viewer=viewer)  # type: ignore[arg-type]
    return [message.id for message in page]


class TestGet:
    async def test_its_sender_its_recipient_and_admins_see_it(self, store: Store) -> None:
        await direct(store, "m1", reply_to="m0")
        for viewer in (A1, A2, ADMIN):
            message = await store.messages.get("m1", viewer=viewer)
            assert (message.sender, message.recipient, message.channel) == ("a1", "a2", None)
            assert (message.payload, message.reply_to, message.timestamp, message.seq) == (
                *(b'{"text":"hi"}', "m0", T0, SEQ),
            )
            assert (message.state, message.state_at, message.reason) == (DeliveryState.QUEUED, T0, None)

    async def test_others_do_not(self, store: Store) -> None:
        await direct(store, "m1")
        for message_id, viewer in (("m1", A3), ("m1", Viewer()), ("nothing", ADMIN)):
            with pytest.raises(MessageNotFound):
                await store.messages.get(message_id, viewer=viewer)

    async def test_broadcasts_and_posts(self, store: Store) -> None:
        await store.mail.broadcast(a_message("all"))
        await store.channels.create("open", description="", created_by="a1", private=False, members=())
        await store.channels.create("secret", description="", created_by="a1", private=True, members=("a2",))
        await store.channels.publish("open", a_message("p1"), privileged=False)
        await store.channels.publish("secret", a_message("p2"), privileged=False)
        assert await ids(store, A2) == ["all", "p1", "p2"]
        assert await ids(store, A3) == ["all", "p1"]
        assert (await store.messages.get("p1", viewer=A3)).channel == "open"
        await store.channels.delete("open", by=A1)
        assert await ids(store, A3) == ["all"]
        assert await ids(store, A1) == ["all", "p1", "p2"]


class TestPage:
    async def test_forward_and_backward(self, store: Store) -> None:
        for n in range(7):
            await direct(store, f"m{n}")
        assert await ids(store, limit=3) == ["m0", "m1", "m2"]
        assert await ids(store, limit=3, cursor=SEQ + 2) == ["m3", "m4", "m5"]
        assert await ids(store, limit=3, newest_first=True) == ["m6", "m5", "m4"]
        assert await ids(store, limit=3, newest_first=True, cursor=SEQ + 4) == ["m3", "m2", "m1"]
        assert await ids(store, limit=0) == []
        assert await ids(store, cursor=SEQ + 6) == []

    async def test_filters(self, store: Store, clock: StoreClock) -> None:
        await direct(store, "m1")
        await clock.advance(10)
        await direct(store, "m2", sender="a2", to="a1")
        await clock.advance(10)
        await store.mail.broadcast(a_message("m3", sender="a3"))
        await store.channels.create("c", description="", created_by="a1", private=False, members=())
        await store.channels.publish("c", a_message("m4"), privileged=False)
        assert await ids(store, sender="a1") == ["m1", "m4"]
        assert await ids(store, recipient="a1") == ["m2"]
        assert await ids(store, recipient="broadcast") == ["m3"]
        assert await ids(store, channel="c") == ["m4"]
        assert await ids(store, start_time=T0 + 10) == ["m2", "m3", "m4"]
        assert await ids(store, end_time=T0 + 10) == ["m1", "m2"]
        assert await ids(store, start_time=T0 + 1, end_time=T0 + 19, sender="a2") == ["m2"]

    async def test_agents_see_their_own(self, store: Store) -> None:
        await direct(store, "m1")
        await direct(store, "m2", sender="a2", to="a3")
        assert await ids(store, A1) == ["m1"]
        assert await ids(store, A2) == ["m1", "m2"]
        assert await ids(store, A3, sender="a1") == []
        assert await ids(store, ADMIN) == ["m1", "m2"]

    @pytest.mark.parametrize("newest_first", [False, True])
    async def test_a_page_is_full_however_far_apart_its_messages_are(self, store: Store, newest_first: bool) -> None:
        for n in range(STEPS + 20):
            wanted = n in {0, STEPS // 2, STEPS + 19}
            await direct(store, f"m{n}", sender="a3" if wanted else "a1")
        found = [f"m{n}" for n in (0, STEPS // 2, STEPS + 19)]
        assert await ids(store, sender="a3", newest_first=newest_first) == (found[::-1] if newest_first else found)
        assert len(await ids(store, sender="a3", limit=2, newest_first=newest_first)) == 2


class TestThread:
    async def thread(self, store: Store, message_id: str, viewer: Viewer = ADMIN) -> tuple[str, list[str]]:
        found = await store.messages.thread(message_id, viewer=viewer)
        assert (await store.messages.thread(message_id, viewer=viewer, scope="root")).root == found.root
        return found.root, [message.id for message in found.messages]

    async def replies(self, store: Store, message_id: str, viewer: Viewer = ADMIN) -> list[str]:
        found = await store.messages.thread(message_id, viewer=viewer, scope="replies")
        return [message.id for message in found.messages]

    async def test_the_whole_tree_from_any_of_its_messages(self, store: Store) -> None:
        await direct(store, "top")
        await direct(store, "left", reply_to="top")
        await direct(store, "right", reply_to="top")
        await direct(store, "leaf", reply_to="left")
        await direct(store, "other")
        for message_id in ("top", "left", "right", "leaf"):
            assert await self.thread(store, message_id) == ("top", ["top", "left", "right", "leaf"])
        assert await self.replies(store, "top") == ["left", "right"]
        assert await self.replies(store, "leaf") == []

    async def test_broadcasts_and_posts_have_their_place(self, store: Store) -> None:
        await store.channels.create("c", description="", created_by="a1", private=False, members=())
        await store.mail.broadcast(a_message("top"))
        await store.channels.publish("c", a_message("post", reply_to="top"), privileged=False)
        assert await self.thread(store, "post") == ("top", ["top", "post"])

    async def test_an_answer_to_something_unknown(self, store: Store) -> None:
        await direct(store, "m1", reply_to="unknown: and odd")
        assert await self.thread(store, "m1") == ("unknown: and odd", ["m1"])
        assert await self.replies(store, "unknown: and odd") == ["m1"]
        assert await self.thread(store, "nothing") == ("nothing", [])

    @pytest.mark.parametrize("start", ["a", "b", "c", "tail"])
    async def test_answers_in_a_circle(self, store: Store, start: str) -> None:
        await direct(store, "a", reply_to="c")
        await direct(store, "b", reply_to="a")
        await direct(store, "c", reply_to="b")
        await direct(store, "tail", reply_to="c")
        assert await self.thread(store, start) == ("a", ["a", "b", "c", "tail"])

    async def test_an_answer_to_itself(self, store: Store) -> None:
        await direct(store, "m1", reply_to="m1")
        assert await self.thread(store, "m1") == ("m1", ["m1"])

    async def test_what_a_reader_may_not_see_is_left_out(self, store: Store) -> None:
        await direct(store, "top")
        await direct(store, "hidden", sender="a1", to="a3", reply_to="top")
        await direct(store, "below", sender="a2", to="a1", reply_to="hidden")
        assert await self.thread(store, "top", A2) == ("top", ["top", "below"])
        assert await self.thread(store, "hidden", A2) == ("hidden", [])
        assert await self.replies(store, "top", A2) == []

    async def test_a_thread_has_a_bound(self, store: Store) -> None:
        await direct(store, "top")
        for n in range(THREAD_LIMIT + 5):
            await direct(store, f"m{n}", reply_to="top")
        found = await store.messages.thread("top", viewer=ADMIN)
        assert len(found.messages) == THREAD_LIMIT
        assert found.truncated
