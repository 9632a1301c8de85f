"""Messages, mailboxes and threads over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from tests.services.api.harness import Api, field_codes, refused

Json = dict[str, Any]


@pytest.fixture
async def w2(api: Api) -> str:
    """The token of the agent ``w2``."""
    return await api.token("w2")


async def send(api: Api, to: str | None = "w2", *, token: str | None = None, **fields: Any) -> Json:
    body = {"payload": {"text": "hi"}, **({} if to is None else {"to": to}), **fields}
    response = await api("POST", "/api/message", body, token=token)
    assert response.status_code == 200, response.text
    answer: Json = response.json()
    return answer


async def get(api: Api, path: str, *, token: str | None = None, **params: Any) -> Json:
    response = await api("GET", path, token=token, params=params)
    assert response.status_code == 200, response.text
    answer: Json = response.json()
    return answer


class TestSend:
    async def test_the_sender_is_who_the_token_belongs_to(self, api: Api, w2: str) -> None:
        sent = await send(api, **{"from": "somebody", "type": "request", "reply_to": "m0"})
        assert sent["status"] == "sent"
        assert len(sent["id"]) == 16
        [mail] = (await get(api, "/api/mailbox/w2", token=w2))["messages"]
        assert mail.pop("timestamp") > 0
        assert mail == {
            "id": sent["id"],
            "from": "w1",
            "to": "w2",
            "type": "request",
            "payload": {"text": "hi"},
            "reply_to": "m0",
            "seq": sent["seq"],
        }

    @pytest.mark.parametrize("to", ["nobody", "", "a b", "é", "x" * 1_000])
    async def test_to_nobody(self, api: Api, to: str) -> None:
        refused(await api("POST", "/api/message", {"to": to, "payload": {}}), 404, "unknown_agent")

    @pytest.mark.parametrize(
        ("body", "codes"),
        [
            ({}, {"payload": "required"}),
            (
                {"payload": [], "to": 1, "type": 2, "reply_to": 3, "message_id": 4},
                dict.fromkeys(["payload", "message_id", "reply_to", "to", "type"], "wrong_type"),
            ),
            (
                {"payload": {}, "type": "x" * 257, "reply_to": "x" * 257, "message_id": "x" * 129},
                dict.fromkeys(["type", "reply_to", "message_id"], "too_long"),
            ),
            ({"payload": {}, "message_id": "no spaces"}, {"message_id": "invalid_format"}),
            ({"payload": {"x": "y" * 300_000}}, {"payload": "too_long"}),
        ],
    )
    async def test_invalid_fields(self, api: Api, body: Json, codes: dict[str, str]) -> None:
        assert field_codes(await api("POST", "/api/message", body)) == codes

    async def test_a_chosen_id_makes_it_safe_to_send_again(self, api: Api, w2: str) -> None:
        first = await send(api, message_id="mine-1")
        again = await send(api, message_id="mine-1")
        assert (first["repeated"], again["repeated"]) == (False, True)
        assert again["seq"] == first["seq"]
        assert (await get(api, "/api/mailbox/w2", token=w2))["count"] == 1
        other = await api("POST", "/api/message", {"to": "w2", "payload": {}, "message_id": "mine-1"})
        refused(other, 409, "message_id_conflict")

    @pytest.mark.parametrize("to", [None, "broadcast"])
    async def test_to_everybody(self, api: Api, w2: str, to: str | None) -> None:
        await send(api, to)
        assert (await get(api, "/api/mailbox/w2", token=w2))["count"] == 1
        assert (await get(api, "/api/mailbox/w1"))["count"] == 0


class TestState:
    async def test_the_sender_can_ask(self, api: Api, w2: str) -> None:
        sent = await send(api)
        about = await get(api, f"/api/messages/{sent['id']}")
        assert (about["state"], about["to"], about["payload"]) == ("queued", "w2", {"text": "hi"})
        await api("POST", "/api/mailbox/w2/ack", {"seq": sent["seq"]}, token=w2)
        assert (await get(api, f"/api/messages/{sent['id']}"))["state"] == "acknowledged"

    async def test_others_cannot(self, api: Api, w2: str) -> None:
        sent = await send(api)
        path = f"/api/messages/{sent['id']}"
        refused(await api("GET", path, token=await api.token("w3")), 404, "message_not_found")
        assert (await get(api, path, token=w2))["id"] == sent["id"]
        assert (await get(api, path, token=api.admin))["id"] == sent["id"]
        refused(await api("GET", "/api/messages/not an id"), 404, "message_not_found")


class TestMailbox:
    async def test_reading_on_from_a_number(self, api: Api, w2: str) -> None:
        sent = [await send(api) for _ in range(3)]
        page = await get(api, "/api/mailbox/w2", token=w2, since=sent[0]["seq"])
        assert [mail["id"] for mail in page["messages"]] == [sent[1]["id"], sent[2]["id"]]
        assert (page["agent_id"], page["last_seq"], page["count"]) == ("w2", sent[2]["seq"], 2)
        empty = await get(api, "/api/mailbox/w2", token=w2, since=sent[2]["seq"])
        assert (empty["messages"], empty["last_seq"]) == ([], sent[2]["seq"])
        first = await get(api, "/api/mailbox/w2", token=w2, limit=1)
        assert first["count"] == 1

    async def test_acknowledged_is_gone_at_once(self, api: Api, w2: str) -> None:
        sent = await send(api)
        response = await api("POST", "/api/mailbox/w2/ack", {"seq": sent["seq"]}, token=w2)
        assert response.json() == {"status": "acked", "up_to": sent["seq"], "removed": 1}
        assert (await get(api, "/api/mailbox/w2", token=w2))["count"] == 0

    async def test_it_is_its_own_agents_alone(self, api: Api, w2: str) -> None:
        for token in (api.agent, api.admin):
            refused(await api("GET", "/api/mailbox/w2", token=token), 401, "unauthorized")
            refused(await api("POST", "/api/mailbox/w2/ack", {"seq": 1}, token=token), 401, "unauthorized")

    @pytest.mark.parametrize("params", [{"since": "x"}, {"since": "1.5"}, {"limit": 0}, {"limit": -1}, {"limit": 1001}])
    async def test_bad_numbers(self, api: Api, params: Json) -> None:
        assert list(field_codes(await api("GET", "/api/mailbox/w1", params=params))) == list(params)

    async def test_ack_needs_a_number(self, api: Api) -> None:
        for body in ({}, {"seq": "1"}, {"seq": 1.5}, {"seq": True}):
            assert list(field_codes(await api("POST", "/api/mailbox/w1/ack", body))) == ["seq"]

    async def test_evicting(self, api: Api, w2: str) -> None:
        await send(api)
        await api.store.services.set_config("mailbox_ttl_ms", "0")
        response = await api("POST", "/api/mailbox/evict", token=api.admin)
        assert response.json() == {"status": "eviction_triggered", "evicted": 1}
        assert (await get(api, "/api/mailbox/w2", token=w2))["count"] == 0


class TestHistory:
    async def test_both_ways(self, api: Api, w2: str) -> None:
        ids = [(await send(api))["id"] for _ in range(5)]
        forward, cursor = list[str](), 0
        while (page := await get(api, "/api/messages", limit=2, cursor=cursor))["messages"]:
            forward += [message["id"] for message in page["messages"]]
            cursor = page["cursor"]
        assert forward == ids
        assert page == {"messages": [], "cursor": cursor, "count": 0}
        backward = list[str]()
        params: Json = {"limit": 2, "order": "desc"}
        while (page := await get(api, "/api/messages", **params))["messages"]:
            backward += [message["id"] for message in page["messages"]]
            params["cursor"] = page["cursor"]
        assert backward == ids[::-1]

    async def test_filters_and_visibility(self, api: Api, w2: str) -> None:
        await send(api)
        await send(api, "w1", token=w2)
        await send(api, None)
        await api("POST", "/api/channels", {"name": "Ops"})
        await api("POST", "/api/channels/ops/publish", {"payload": {}})
        w3 = await api.token("w3")
        assert (await get(api, "/api/messages"))["count"] == 4
        assert (await get(api, "/api/messages", token=api.admin))["count"] == 4
        seen = (await get(api, "/api/messages", token=w3))["messages"]
        assert [(message["to"], message.get("channel")) for message in seen] == [("broadcast", None), (None, "ops")]
        assert (await get(api, "/api/messages", **{"from": "w2"}))["count"] == 1
        assert (await get(api, "/api/messages", to="broadcast"))["count"] == 1
        assert (await get(api, "/api/messages", channel="#OPS"))["count"] == 1
        assert (await get(api, "/api/messages", channel="###"))["count"] == 0
        assert (await get(api, "/api/messages", start_time=2**50))["count"] == 0
        assert (await get(api, "/api/messages", end_time=5))["count"] == 0

    @pytest.mark.parametrize("params", [{"limit": -1}, {"cursor": "x"}, {"start_time": "now"}, {"order": "up"}])
    async def test_bad_parameters(self, api: Api, params: Json) -> None:
        assert list(field_codes(await api("GET", "/api/messages", params=params))) == list(params)

    async def test_a_high_limit_is_capped(self, api: Api) -> None:
        assert (await get(api, "/api/messages", limit=10_000))["count"] == 0


class TestThreads:
    async def test_of_messages_that_were_sent(self, api: Api, w2: str) -> None:
        top = (await send(api))["id"]
        answer = (await send(api, "w1", token=w2, reply_to=top))["id"]
        leaf = (await send(api, None, reply_to=answer))["id"]
        thread = await get(api, f"/api/threads/{leaf}")
        assert (thread["root"], thread["count"]) == (top, 3)
        assert [message["id"] for message in thread["messages"]] == [top, answer, leaf]
        assert thread["messages"][0].keys() == {"id", "from", "to", "type", "payload", "reply_to", "timestamp"}
        replies = await get(api, f"/api/threads/{top}/replies")
        assert (replies["parent"], [message["id"] for message in replies["replies"]]) == (top, [answer])
        assert await get(api, f"/api/threads/{leaf}/root") == {"message_id": leaf, "root": top}

    @pytest.mark.parametrize("message_id", ["unknown", "x" * 5_000, "%20"])
    async def test_unknown_ids(self, api: Api, message_id: str) -> None:
        name = " " if message_id == "%20" else message_id
        assert await get(api, f"/api/threads/{message_id}") == {"root": name, "messages": [], "count": 0}
        assert await get(api, f"/api/threads/{message_id}/root") == {"message_id": name, "root": name}
        assert (await get(api, f"/api/threads/{message_id}/replies"))["replies"] == []

    async def test_others_see_only_what_is_theirs(self, api: Api, w2: str) -> None:
        top = (await send(api))["id"]
        thread = await get(api, f"/api/threads/{top}", token=await api.token("w3"))
        assert (thread["root"], thread["messages"]) == (top, [])
