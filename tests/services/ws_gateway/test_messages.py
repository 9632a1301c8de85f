"""Messages, posts and subscriptions, on one gateway and across two with an API beside them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from agentcom.settings import Settings
from agentcom.store.channels import Viewer
from tests.services.api.harness import Api, opened
from tests.services.ws_gateway.support import Client, Frame, GatewayHub
from tests.support.eventually import eventually

NOBODY = Viewer()


def message(to: str | None = None, text: str = "hi", **fields: Any) -> Frame:
    return {"type": "message", "payload": {"text": text}, **({} if to is None else {"to": to}), **fields}


async def heard(client: Client) -> Frame:
    """The next message or post, also one that was put aside."""
    for index, frame in enumerate(client.passed):
        if frame["type"] in {"message", "channel_message"}:
            return client.passed.pop(index)
    return await client.until("message", "channel_message")


async def texts_until(client: Client, last: str) -> list[str]:
    """The texts of all messages and posts up to the one with the text ``last``."""
    texts: list[str] = []
    while not texts or texts[-1] != last:
        texts.append((await heard(client))["payload"]["text"])
    return texts


async def leave(client: Client) -> list[str]:
    """Closes the connection. Returns the ids of all messages that were not taken off it before."""
    await client.socket.close()
    await client.closed()
    return [frame["id"] for frame in client.passed if frame["type"] == "message"]


def id_of(envelope: bytes) -> str:
    """The id of a message in a mailbox."""
    return str(orjson.loads(envelope)["id"])


async def mailbox(hub: GatewayHub, agent_id: str, since: int = 0) -> list[bytes]:
    return [mail.envelope for mail in await hub.store.mail.poll(agent_id, since=since)]


async def state(hub: GatewayHub, message_id: str) -> str:
    return (await hub.store.messages.get(message_id, viewer=Viewer(privileged=True))).state.value


class TestDirect:
    async def test_it_is_pushed_with_its_recipient_and_number(self, hub: GatewayHub) -> None:
        w1, w2 = await hub.agent("w1"), await hub.agent("w2")
        sent = await w1.ask(message("w2", reply_to="m0", message_type="request"), "message_sent")
        frame = await w2.until("message")
        assert frame.pop("timestamp") > 0
        assert frame.pop("seq") > 0
        assert frame == {
            "type": "message",
            "id": sent["id"],
            "from": "w1",
            "to": "w2",
            "message_type": "request",
            "payload": {"text": "hi"},
            "reply_to": "m0",
        }

    async def test_what_was_written_is_not_in_the_mailbox(self, hub: GatewayHub) -> None:
        w1, w2 = await hub.agent("w1"), await hub.agent("w2")
        sent = await w1.ask(message("w2"), "message_sent")
        await w2.until("message")
        assert await mailbox(hub, "w2") == []
        await eventually(lambda: _is(hub, sent["id"], "delivered"))
        await w2.socket.close()
        await eventually(lambda: _gone(hub, "w2"))
        assert await mailbox(hub, "w2") == []

    async def test_an_agent_that_is_away_polls_it(self, hub: GatewayHub) -> None:
        w1 = await hub.agent("w1")
        token = await hub.token("w2")
        sent = await w1.ask(message("w2"), "message_sent")
        [envelope] = await mailbox(hub, "w2")
        assert sent["id"].encode() in envelope
        assert await state(hub, sent["id"]) == "queued"
        w2 = await hub.agent("w2", token=token)
        assert len(await mailbox(hub, "w2")) == 1
        await w1.ask(message("w2", "later"), "message_sent")
        assert await texts_until(w2, "later") == ["later"]

    async def test_to_oneself(self, hub: GatewayHub) -> None:
        w1 = await hub.agent("w1")
        await w1.send(message("w1"))
        assert (await w1.until("message"))["from"] == "w1"

    @pytest.mark.parametrize("to", ["nobody", "", "a b", "x" * 5_000])
    async def test_to_nobody_is_refused(self, hub: GatewayHub, to: str) -> None:
        w1 = await hub.agent("w1")
        error = await w1.ask(message(to, message_id="m1"), "error", "message_sent")
        assert (error["error"], error["request_type"], error["message_id"]) == ("unknown_agent", "message", "m1")

    async def test_the_same_id_again_is_the_same_message(self, hub: GatewayHub) -> None:
        w1, w2 = await hub.agent("w1"), await hub.agent("w2")
        for _ in range(2):
            assert (await w1.ask(message("w2", message_id="mine"), "message_sent"))["id"] == "mine"
        error = await w1.ask(message("w2", "another", message_id="mine"), "error")
        assert (error["code"], error["message_id"]) == ("message_id_conflict", "mine")
        await w1.ask(message("w2", "last"), "message_sent")
        assert await texts_until(w2, "last") == ["hi", "last"]

    async def test_the_order_of_a_sender_is_kept(self, hub: GatewayHub) -> None:
        w1, w2 = await hub.agent("w1"), await hub.agent("w2")
        for n in range(200):
            await w1.send(message(None if n % 3 == 0 else "w2", str(n)))
        assert await texts_until(w2, "199") == [str(n) for n in range(200)]

    @pytest.mark.parametrize(
        ("fields", "code"),
        [
            ({"payload": {"x": "y" * 300_000}}, "payload_too_large"),
            ({"message_id": "no spaces"}, "invalid_message_id"),
        ],
    )
    async def test_what_is_too_much_is_refused(self, hub: GatewayHub, fields: Frame, code: str) -> None:
        w1 = await hub.agent("w1")
        assert (await w1.ask({**message("w1"), **fields}, "error"))["code"] == code


async def _is(hub: GatewayHub, message_id: str, expected: str) -> bool:
    return await state(hub, message_id) == expected


async def _gone(hub: GatewayHub, agent_id: str) -> bool:
    return agent_id not in await hub.agent_ids()


class TestSocketThatDies:
    async def test_what_was_not_written_is_in_the_mailbox(self, redis_url: str, namespace: str) -> None:
        """A client that does not read: its socket takes some frames, the rest waits, and then it is cut off."""
        async with GatewayHub(redis_url, namespace, mailbox_cap=1_000) as hub:
            w1 = await hub.agent("w1")
            w2 = await hub.agent("w2", token=await hub.token("w2"))
            await w1.ask({"type": "ping"}, "pong")
            w2.socket.transport.pause_reading()
            big = "x" * 200_000
            sent = [(await w1.ask(message("w2", big), "message_sent"))["id"] for _ in range(60)]
            sent.append((await w1.ask(message(None, "to all"), "message_sent"))["id"])
            w2.socket.transport.abort()
            await eventually(lambda: _gone(hub, "w2"))
            kept = [id_of(envelope) for envelope in await mailbox(hub, "w2")]
            assert kept
            assert kept == sent[-len(kept) :]
            states = [await state(hub, message_id) for message_id in sent[:60]]
            assert states == ["delivered"] * (61 - len(kept)) + ["queued"] * (len(kept) - 1)

    async def test_a_slow_client_loses_its_socket_and_no_message(self, redis_url: str, namespace: str) -> None:
        async with GatewayHub(redis_url, namespace, outbound_queue_frames=20, mailbox_cap=1_000) as hub:
            w1, w2 = await hub.agent("w1"), await hub.agent("w2")
            w2.socket.transport.pause_reading()
            big = "x" * 200_000
            sent = [(await w1.ask(message("w2", big), "message_sent"))["id"] for _ in range(80)]
            await eventually(lambda: _gone(hub, "w2"))
            kept = {id_of(envelope) for envelope in await mailbox(hub, "w2")}
            w2.socket.transport.resume_reading()
            await w2.closed()
            received = [frame["id"] for frame in w2.passed if frame["type"] == "message"]
            assert len(received) == len(set(received))
            assert set(received) | kept == set(sent)

    async def test_a_gateway_that_stops_loses_none(self, redis_url: str, namespace: str) -> None:
        async with GatewayHub(redis_url, namespace) as other, AsyncExitStack() as stack:
            stopping = await stack.enter_async_context(GatewayHub(redis_url, namespace))
            w1, w2 = await other.agent("w1"), await stopping.agent("w2")
            sent = []
            for n in range(60):
                sent.append((await w1.ask(message(None if n % 2 else "w2", str(n)), "message_sent"))["id"])
                if n == 30:
                    stopping.supervisor.request_stop("the test says so")
            await w2.closed()
            await eventually(lambda: _gone(other, "w2"))
            got = [frame["id"] for frame in w2.passed if frame["type"] == "message"]
            got += [id_of(envelope) for envelope in await mailbox(other, "w2")]
            assert sorted(got) == sorted(sent)


class TestBroadcast:
    @pytest.mark.parametrize("to", [None, "broadcast"])
    async def test_everybody_but_the_sender_gets_it(self, hub: GatewayHub, to: str | None) -> None:
        w1, w2, w3 = [await hub.agent(f"w{n}") for n in (1, 2, 3)]
        await w1.ask(message(to), "message_sent")
        for other in (w2, w3):
            assert (await other.until("message"))["to"] == "broadcast"
        await w2.ask(message("w1", "only this"), "message_sent")
        assert await texts_until(w1, "only this") == ["only this"]

    async def test_who_is_away_gets_one_copy_for_all_its_tokens(self, hub: GatewayHub) -> None:
        await hub.token("w2")
        await hub.token("w2")
        w1 = await hub.agent("w1")
        await w1.ask(message(), "message_sent")
        assert len(await mailbox(hub, "w2")) == 1
        assert len(await mailbox(hub, "w2")) == 1
        assert await mailbox(hub, "w1") == []

    async def test_who_registers_later_does_not(self, hub: GatewayHub) -> None:
        w1 = await hub.agent("w1")
        await w1.ask(message(), "message_sent")
        await asyncio.sleep(0.002)  # registration is known to the millisecond
        await hub.token("w2")
        assert await mailbox(hub, "w2") == []

    async def test_none_is_missed_or_doubled_by_coming_and_going(self, hub: GatewayHub) -> None:
        w1 = await hub.agent("w1")
        token = await hub.token("w2")
        got: list[str] = []
        stop = asyncio.Event()

        async def keep_saying() -> list[str]:
            said: list[str] = []
            while not stop.is_set():
                said.append((await w1.ask(message(None, str(len(said))), "message_sent"))["id"])
            return said

        saying = asyncio.create_task(keep_saying())
        for _ in range(15):
            w2 = await hub.agent("w2", token=token)
            await asyncio.sleep(0.02)
            await w2.ask({"type": "ping"}, "pong")
            got += await leave(w2)
            await eventually(lambda: _gone(hub, "w2"))
            mail = await hub.store.mail.poll("w2", since=0)
            got += [id_of(entry.envelope) for entry in mail]
            if mail:
                await hub.store.mail.ack("w2", seq=mail[-1].seq)
        stop.set()
        said = await saying
        got += [id_of(envelope) for envelope in await mailbox(hub, "w2")]
        assert sorted(got) == sorted(said)

    async def test_what_comes_out_of_the_outbox_after_the_agent_came_stays_in_its_mailbox(
        self, hub: GatewayHub, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        w1, token = await hub.agent("w1"), await hub.token("w2")
        gateways, may_go_on = hub.gateway_store.gateways, asyncio.Event()
        read = gateways.read_outbox

        async def read_late(*args: Any, **kwargs: Any) -> Any:
            entries = await read(*args, **kwargs)
            await may_go_on.wait()
            return entries

        may_go_on.set()
        monkeypatch.setattr(gateways, "read_outbox", read_late)
        witness = await hub.agent("witness")
        await w1.ask(message(None, "ends the last read that is not late"), "message_sent")
        await heard(witness)
        may_go_on.clear()
        missed = await w1.ask(message(None, "before"), "message_sent")
        w2 = await hub.agent("w2", token=token)
        may_go_on.set()
        await w1.ask(message(None, "after"), "message_sent")
        assert await texts_until(w2, "after") == ["after"]
        assert [id_of(envelope) for envelope in await mailbox(hub, "w2")][-1] == missed["id"]


class TestChannels:
    async def test_frames(self, hub: GatewayHub) -> None:
        await hub.store.channels.create("general", description="all", created_by="w1", private=False, members=())
        w1, w2 = await hub.agent("w1"), await hub.agent("w2")
        subscribed = await w1.ask({"type": "channel_subscribe", "channel": "#General"}, "channel_subscribed")
        assert subscribed == {"type": "channel_subscribed", "channel": "#General", "name": "general"}
        again = await w1.ask({"type": "channel_subscribe", "channel": "general"}, "channel_subscribed")
        assert again["note"] == "already_subscribed"
        await w2.ask({"type": "channel_subscribe", "channel": "general"}, "channel_subscribed")
        joined = await w1.until("channel_agent_joined")
        assert joined == {"type": "channel_agent_joined", "channel": "general", "agent_id": "w2"}
        [listed] = (await w1.ask({"type": "list_channels"}, "channels"))["channels"]
        assert (listed["name"], listed["description"], listed["subscriber_count"]) == ("general", "all", 2)
        post = {"type": "channel_publish", "channel": "general", "payload": {"text": "p"}, "message_type": "status"}
        published = await w1.ask(post, "channel_published")
        assert (published["seq"], published["channel"]) == (1, "general")
        frame = await w2.until("channel_message")
        assert frame.pop("timestamp") > 0
        assert frame.pop("mail_seq") > 0
        assert frame == {
            "type": "channel_message",
            "channel": "general",
            "id": published["id"],
            "from": "w1",
            "message_type": "status",
            "payload": {"text": "p"},
            "reply_to": None,
            "seq": 1,
        }
        history = await w2.ask({"type": "channel_history", "channel": "general"}, "channel_history")
        [entry] = history["messages"]
        assert (entry["seq"], entry["message"]["id"], entry["message"]["to"]) == (1, published["id"], None)
        await w2.ask({"type": "channel_unsubscribe", "channel": "general"}, "channel_unsubscribed")
        await w1.ask(post, "channel_published")
        await w1.ask(message("w2", "after"), "message_sent")
        assert await texts_until(w2, "after") == ["after"]

    @pytest.mark.parametrize("channel", ["nowhere", "###", "ÄÖÜ"])
    @pytest.mark.parametrize("kind", ["channel_subscribe", "channel_unsubscribe", "channel_publish"])
    async def test_a_channel_that_is_not_there(self, hub: GatewayHub, kind: str, channel: str) -> None:
        w1 = await hub.agent("w1")
        error = await w1.ask({"type": kind, "channel": channel, "payload": {}}, "error")
        assert (error["error"], error["request_type"]) == ("channel_not_found", kind)

    async def test_history_of_nothing_and_bad_numbers(self, hub: GatewayHub) -> None:
        w1 = await hub.agent("w1")
        frame = {"type": "channel_history", "channel": "nowhere"}
        assert (await w1.ask(frame, "channel_history"))["messages"] == []
        assert (await w1.ask({**frame, "limit": -1}, "error"))["code"] == "out_of_range"

    async def test_memberships_last_over_connections(self, hub: GatewayHub) -> None:
        await hub.store.channels.create("c", description="", created_by="w1", private=False, members=())
        token = await hub.token("w2")
        w1, w2 = await hub.agent("w1"), await hub.agent("w2", token=token)
        await w2.ask({"type": "channel_subscribe", "channel": "c"}, "channel_subscribed")
        await w2.socket.close()
        await eventually(lambda: _gone(hub, "w2"))
        await w1.ask({"type": "channel_publish", "channel": "c", "payload": {"text": "missed"}}, "channel_published")
        w2 = await hub.agent("w2", token=token)
        await w1.ask({"type": "channel_publish", "channel": "c", "payload": {"text": "live"}}, "channel_published")
        assert await texts_until(w2, "live") == ["live"]
        [missed] = await mailbox(hub, "w2")
        assert b'"payload":{"text":"missed","channel":"c"}' in missed

    async def test_an_agent_that_subscribes_while_others_publish_misses_nothing(self, hub: GatewayHub) -> None:
        """Every post after the answer to the subscription arrives, in order and once."""
        await hub.store.channels.create("c", description="", created_by="w1", private=False, members=())
        w1, w2 = await hub.agent("w1"), await hub.agent("w2")
        begun = asyncio.Event()
        publishing = asyncio.create_task(self._publish_all(w1, 300, begun))
        await begun.wait()
        await w2.ask({"type": "channel_subscribe", "channel": "c"}, "channel_subscribed")
        history = await w2.ask({"type": "channel_history", "channel": "c", "limit": 1}, "channel_history")
        known = history["messages"][-1]["seq"] if history["messages"] else 0
        await publishing
        received = [frame["seq"] for frame in w2.passed if frame["type"] == "channel_message"]
        while not received or received[-1] != 300:
            received.append((await w2.until("channel_message"))["seq"])
        assert received == list(range(received[0], 301))
        assert received[0] <= known + 1

    @staticmethod
    async def _publish_all(client: Client, count: int, begun: asyncio.Event) -> None:
        for n in range(count):
            await client.ask(
                {"type": "channel_publish", "channel": "c", "payload": {"text": str(n)}}, "channel_published"
            )
            begun.set()

    async def test_a_private_channel_does_not_exist_for_others(self, hub: GatewayHub) -> None:
        await hub.store.channels.create("secret", description="", created_by="w1", private=True, members=("w2",))
        w1, w2, w3 = [await hub.agent(f"w{n}") for n in (1, 2, 3)]
        await w2.ask({"type": "channel_subscribe", "channel": "secret"}, "channel_subscribed")
        for kind in ("channel_subscribe", "channel_publish"):
            error = await w3.ask({"type": kind, "channel": "secret", "payload": {}}, "error")
            assert error["error"] == "channel_not_found"
        assert (await w3.ask({"type": "list_channels"}, "channels"))["channels"] == []
        await w1.ask({"type": "channel_publish", "channel": "secret", "payload": {"text": "x"}}, "channel_published")
        assert await texts_until(w2, "x") == ["x"]
        history = await w3.ask({"type": "channel_history", "channel": "secret"}, "channel_history")
        assert history["messages"] == []


@dataclass
class Cluster:
    """Two gateways with ten agents each, and an API."""

    gateways: list[GatewayHub]
    agents: list[Client]
    tokens: list[str]
    api: Api

    async def http(self, number: int, method: str, path: str, body: object = None) -> dict[str, Any]:
        """A request as one of the agents."""
        response = await self.api(method, path, body, token=self.tokens[number])
        assert response.status_code < 300, response.text
        answer: dict[str, Any] = response.json()
        return answer


@pytest.fixture
async def cluster(redis_url: str, namespace: str, tmp_path: Path) -> AsyncIterator[Cluster]:
    async with AsyncExitStack() as stack:
        gateways = [await stack.enter_async_context(GatewayHub(redis_url, namespace)) for _ in range(2)]
        api = await stack.enter_async_context(opened(redis_url, Settings(namespace=namespace, data_dir=tmp_path)))
        tokens = [await gateways[0].token(f"w{n}") for n in range(20)]
        agents = [await gateways[n % 2].agent(f"w{n}", token=tokens[n]) for n in range(20)]
        yield Cluster(gateways, agents, tokens, api)


class TestTwoGateways:
    async def test_messages_cross(self, cluster: Cluster) -> None:
        agents = cluster.agents
        for n, agent in enumerate(agents):
            await agent.ask(message(f"w{(n + 1) % 20}", f"from {n}"), "message_sent")
        for n, agent in enumerate(agents):
            assert (await heard(agent))["from"] == f"w{(n - 1) % 20}"
        await cluster.http(0, "POST", "/api/message", {"payload": {"text": "to all"}})
        for agent in agents[1:]:
            assert (await heard(agent))["payload"] == {"text": "to all"}

    async def test_subscriptions_over_http_act_on_live_sockets(self, cluster: Cluster) -> None:
        await cluster.http(0, "POST", "/api/channels", {"name": "Ops"})
        for n in range(1, 20):
            await cluster.http(n, "POST", "/api/channels/ops/subscribe")
        await cluster.http(0, "POST", "/api/channels/ops/publish", {"payload": {"text": "p1"}})
        for agent in cluster.agents[1:]:
            assert (await heard(agent))["payload"] == {"text": "p1"}
        for n in range(1, 10):
            await cluster.http(n, "POST", "/api/channels/ops/unsubscribe")
        await cluster.agents[0].ask(
            {"type": "channel_publish", "channel": "ops", "payload": {"text": "p2"}}, "channel_published"
        )
        await cluster.agents[0].ask(message(None, "end"), "message_sent")
        for n, agent in enumerate(cluster.agents[1:], start=1):
            assert await texts_until(agent, "end") == (["end"] if n < 10 else ["p2", "end"])

    async def test_revocation_closes_sockets_on_any_gateway(self, cluster: Cluster) -> None:
        for n in (2, 3):
            response = await cluster.api("DELETE", f"/admin/tokens/w{n}", token=cluster.api.admin)
            assert response.status_code == 200
            assert (await cluster.agents[n].closed())[0] == 4501
        refused = await cluster.api("POST", "/api/message", {"payload": {}, "to": "w3"}, token=cluster.tokens[0])
        assert (refused.status_code, refused.json()["error"]) == (404, "unknown_agent")

    async def test_a_deleted_channel_is_silent_everywhere(self, cluster: Cluster) -> None:
        for name in ("a", "b"):
            await cluster.http(0, "POST", "/api/channels", {"name": name})
            for n in (1, 2):
                await cluster.http(n, "POST", f"/api/channels/{name}/subscribe")
        await cluster.http(0, "DELETE", "/api/channels/a")
        await cluster.http(0, "POST", "/api/channels", {"name": "a"})
        for name in ("a", "b"):
            await cluster.http(0, "POST", f"/api/channels/{name}/publish", {"payload": {"text": name}})
        for n in (1, 2):
            assert await texts_until(cluster.agents[n], "b") == ["b"]
            assert (await cluster.http(n, "GET", f"/api/agents/w{n}/subscriptions"))["channels"] == ["b"]

    async def test_an_agent_that_moves_to_the_other_gateway_misses_nothing(self, cluster: Cluster) -> None:
        mover, sent, got = cluster.agents[0], list[str](), list[str]()
        for n in range(40):
            answer = await cluster.http(1, "POST", "/api/message", {"payload": {"text": str(n)}, "to": "w0"})
            sent.append(answer["id"])
            if n % 10 == 5:
                older = mover
                mover = await cluster.gateways[n // 10 % 2].agent("w0", token=cluster.tokens[0])
                await older.closed()
                got += [frame["id"] for frame in older.passed if frame["type"] == "message"]
        got += await leave(mover)
        await eventually(lambda: _gone(cluster.gateways[0], "w0"))
        got += [entry["id"] for entry in (await cluster.http(0, "GET", "/api/mailbox/w0"))["messages"]]
        assert sorted(got) == sorted(sent)
