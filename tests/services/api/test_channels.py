"""Channels over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agentcom.settings import Settings
from tests.services.api.harness import Api, field_codes, opened, refused

Json = dict[str, Any]


@pytest.fixture
async def w2(api: Api) -> str:
    """The token of the agent ``w2``."""
    return await api.token("w2")


async def ok(api: Api, method: str, path: str, body: object = None, *, token: str | None = None, **params: Any) -> Json:
    response = await api(method, path, body, token=token, params=params)
    assert response.status_code in {200, 201}, response.text
    answer: Json = response.json()
    return answer


async def create(api: Api, name: str = "c", **fields: Any) -> Json:
    return await ok(api, "POST", "/api/channels", {"name": name, **fields})


class TestCreate:
    async def test_the_name_is_normalised(self, api: Api) -> None:
        response = await api("POST", "/api/channels", {"name": "##Dev Ops!", "description": "what goes on"})
        assert response.status_code == 201
        assert response.json() == {"status": "created", "channel": "##Dev Ops!", "name": "devops"}
        about = await ok(api, "GET", "/api/channels/%23DevOps")
        assert about.pop("created_at") > 0
        assert about == {
            "name": "devops",
            "description": "what goes on",
            "subscribers": [],
            "subscriber_count": 0,
            "created_by": "w1",
            "private": False,
        }

    async def test_what_comes_out_the_same_is_the_same_channel(self, api: Api) -> None:
        await create(api, "dev-ops")
        refused(await api("POST", "/api/channels", {"name": "#DEV-OPS"}), 409, "channel_exists")

    @pytest.mark.parametrize(
        ("body", "codes"),
        [
            ({}, {"name": "required"}),
            ({"name": ""}, {"name": "invalid_format"}),
            ({"name": "###"}, {"name": "invalid_format"}),
            ({"name": "äöü"}, {"name": "invalid_format"}),
            ({"name": "x" * 65}, {"name": "too_long"}),
            ({"name": 5, "description": 5}, {"name": "wrong_type", "description": "wrong_type"}),
            ({"name": "c", "private": "yes"}, {"private": "wrong_type"}),
            ({"name": "c", "members": ["a", "no spaces"]}, {"members[1]": "invalid_format"}),
            ({"name": "c", "members": ["a"], "private": False}, {"members": "conflict"}),
        ],
    )
    async def test_invalid_fields(self, api: Api, body: Json, codes: dict[str, str]) -> None:
        assert field_codes(await api("POST", "/api/channels", body)) == codes


class TestUse:
    async def test_subscribing(self, api: Api, w2: str) -> None:
        await create(api)
        path = "/api/channels/%23C"
        first = await ok(api, "POST", f"{path}/subscribe", token=w2)
        assert first == {"status": "subscribed", "channel": "#C", "name": "c"}
        assert await ok(api, "POST", f"{path}/subscribe", token=w2) == {"status": "already_subscribed"}
        assert (await ok(api, "GET", path))["subscribers"] == ["w2"]
        [listed] = (await ok(api, "GET", "/api/channels"))["channels"]
        assert (listed["name"], listed["subscriber_count"]) == ("c", 1)
        assert await ok(api, "GET", "/api/agents/w2/subscriptions") == {"agent_id": "w2", "channels": ["c"]}
        for _ in range(2):
            left = await ok(api, "POST", f"{path}/unsubscribe", token=w2)
            assert left == {"status": "unsubscribed", "channel": "#C", "name": "c"}
        assert (await ok(api, "GET", "/api/agents/w2/subscriptions"))["channels"] == []
        assert (await ok(api, "GET", "/api/agents/no such/subscriptions"))["channels"] == []

    async def test_publishing(self, api: Api, w2: str) -> None:
        await create(api)
        await ok(api, "POST", "/api/channels/c/subscribe", token=w2)
        body = {"payload": {"text": "p"}, "type": "status", "message_id": "mine"}
        first = await ok(api, "POST", "/api/channels/c/publish", body)
        assert first == {"status": "published", "seq": 1, "id": "mine", "repeated": False}
        assert (await ok(api, "POST", "/api/channels/c/publish", body))["repeated"] is True
        [mail] = (await ok(api, "GET", "/api/mailbox/w2", token=w2))["messages"]
        assert (mail["id"], mail["to"], mail["payload"]) == ("mine", None, {"text": "p", "channel": "c"})
        assert list(field_codes(await api("POST", "/api/channels/c/publish", {"payload": 5}))) == ["payload"]

    async def test_history(self, api: Api) -> None:
        await create(api)
        for n in range(6):
            await ok(api, "POST", "/api/channels/c/publish", {"payload": {"n": n}})

        async def seqs(**params: Any) -> list[int]:
            answer = await ok(api, "GET", "/api/channels/C/history", **params)
            assert (answer["channel"], answer["count"]) == ("C", len(answer["messages"]))
            return [entry["seq"] for entry in answer["messages"]]

        assert await seqs() == [1, 2, 3, 4, 5, 6]
        assert await seqs(limit=2) == [5, 6]
        assert await seqs(limit=2, since=0) == [1, 2]
        assert await seqs(limit=2, since=2) == [3, 4]
        assert await seqs(limit=2, before=5) == [3, 4]
        assert await seqs(limit=0) == []
        assert await seqs(limit=100_000) == [1, 2, 3, 4, 5, 6]
        entry = (await ok(api, "GET", "/api/channels/c/history", limit=1))["messages"][0]
        assert entry["message"].keys() == {"id", "from", "to", "type", "payload", "reply_to", "timestamp"}
        assert entry["stored_at"] == entry["message"]["timestamp"]
        for params in ({"limit": -1}, {"since": "x"}, {"before": -1}):
            assert list(field_codes(await api("GET", "/api/channels/c/history", params=params))) == list(params)

    @pytest.mark.parametrize("name", ["nowhere", "%23", "äöü", "x" * 65])
    async def test_a_channel_that_is_not_there(self, api: Api, name: str) -> None:
        for method, path in (
            *(("GET", ""), ("DELETE", ""), ("POST", "/subscribe"), ("POST", "/unsubscribe")),
            *(("POST", "/publish"), ("POST", "/members"), ("DELETE", "/members/w2")),
        ):
            body = {"payload": {}, "agent_id": "w2"} if method == "POST" else None
            refused(await api(method, f"/api/channels/{name}{path}", body), 404, "channel_not_found")
        if name != "%23":
            assert (await ok(api, "GET", f"/api/channels/{name}/history"))["messages"] == []

    async def test_deleting(self, api: Api, w2: str) -> None:
        await create(api)
        refused(await api("DELETE", "/api/channels/c", token=w2), 403, "not_channel_owner")
        deleted = await ok(api, "DELETE", "/api/channels/%23C")
        assert deleted == {"status": "deleted", "channel": "#C", "name": "c"}
        refused(await api("GET", "/api/channels/c"), 404, "channel_not_found")
        await create(api)
        await ok(api, "DELETE", "/api/channels/c", token=api.admin)

    async def test_pages_of_channels(self, api: Api) -> None:
        for n in range(5):
            await create(api, f"c{n}")
        names, cursor = list[str](), None
        while True:
            page = await ok(api, "GET", "/api/channels", limit=2, **({} if cursor is None else {"cursor": cursor}))
            names += [channel["name"] for channel in page["channels"]]
            if (cursor := page["cursor"]) is None:
                break
        assert names == [f"c{n}" for n in range(5)]
        refused(await api("GET", "/api/channels", params={"cursor": "#X"}), 422, "invalid_cursor")


class TestPrivate:
    async def test_it_exists_for_its_members_only(self, api: Api, w2: str) -> None:
        w3 = await api.token("w3")
        await create(api, "secret", members=["w2"])
        await ok(api, "POST", "/api/channels/secret/subscribe", token=w2)
        await ok(api, "POST", "/api/channels/secret/publish", {"payload": {}}, token=w2)
        for path in ("/subscribe", "/unsubscribe", "/publish"):
            response = await api("POST", f"/api/channels/secret{path}", {"payload": {}}, token=w3)
            refused(response, 404, "channel_not_found")
        for token, seen in ((w2, True), (api.agent, True), (api.admin, True), (w3, False)):
            assert bool((await ok(api, "GET", "/api/channels", token=token))["channels"]) is seen
            assert bool((await ok(api, "GET", "/api/channels/secret/history", token=token))["messages"]) is seen
            assert bool((await ok(api, "GET", "/api/agents/w2/subscriptions", token=token))["channels"]) is seen
            assert (await api("GET", "/api/channels/secret", token=token)).status_code == (200 if seen else 404)
        anonymous = await api.client.get("/api/channels")
        assert anonymous.json()["channels"] == []

    async def test_members_are_the_creators_to_choose(self, api: Api, w2: str) -> None:
        await create(api, "secret", private=True)
        path = "/api/channels/secret/members"
        assert (await ok(api, "POST", path, {"agent_id": "w2"}))["status"] == "admitted"
        refused(await api("POST", path, {"agent_id": "nobody"}), 404, "unknown_agent")
        await api.token("w3")
        refused(await api("POST", path, {"agent_id": "w3"}, token=w2), 403, "not_channel_owner")
        assert (await ok(api, "DELETE", f"{path}/w2", token=w2))["status"] == "expelled"
        refused(await api("GET", "/api/channels/secret", token=w2), 404, "channel_not_found")
        refused(await api("DELETE", f"{path}/no such"), 404, "unknown_agent")


async def test_reads_are_open_on_this_machine_only(redis_url: str, namespace: str, tmp_path: Path) -> None:
    elsewhere = Settings(namespace=namespace, data_dir=tmp_path, host="0.0.0.0", enrolment_key="k" * 16)
    async with opened(redis_url, elsewhere) as api:
        await create(api)
        for path in ("", "/c", "/c/history"):
            refused(await api.client.get(f"/api/channels{path}"), 401, "unauthorized")
    async with opened(redis_url, elsewhere.model_copy(update={"public_reads": True})) as api:
        assert (await api.client.get("/api/channels/c")).status_code == 200
