"""Submitting, reading, listing, cancelling and retrying tasks."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from agentcom.settings import Settings
from tests.services.api.harness import Api, field_codes, opened, refused
from tests.support.builders import an_agent, serve_matches

CONTRACT_KEYS = {
    "id", "description", "metadata", "priority", "status", "assigned_to", "assigned_at", "generation", "retry_count",
    "max_retries", "needed_capabilities", "last_error", "complete_by", "result", "tokens_used", "submitted_by",
    "created_at", "updated_at", "history",
}  # fmt: skip
NEW_KEYS = {
    "accepted_at", "delivery_count", "max_deliveries", "retry_backoff_ms", "max_runtime_ms", "target_agent", "run_at",
    "expires_at", "cancel_requested_at", "progress", "finished_at",
}  # fmt: skip


async def kill(api: Api, task_id: str, *, agent_id: str = "killer") -> None:
    """Lets the task fail for good."""
    await an_agent(api.store, agent_id)
    await serve_matches(api.store)
    generation = await api.store.tasks.accept(task_id, agent_id, generation=None)
    report = await api.store.tasks.fail(
        task_id, agent_id, conn=f"{agent_id}-conn", generation=generation, reason="broken"
    )
    assert report.outcome == "dead_letter"


async def test_submit_answers_what_clients_know(api: Api) -> None:
    response = await api("POST", "/api/tasks", {"description": "build it"})
    assert response.status_code == 201
    body = response.json()
    assert body.keys() == {"status", "task_id", "priority", "created_at", "created"}
    assert (body["status"], body["priority"], body["created"]) == ("queued", 2, True)
    assert body["task_id"].startswith("task-")
    assert len(body["task_id"]) == 21
    assert response.headers["location"] == f"/api/tasks/{body['task_id']}"


async def test_a_task_has_all_keys(api: Api) -> None:
    task_id = await api.submit(
        description="größer 👩‍👩‍👧", metadata={"n": [1, {"x": None}], "f": 1.5}, needed_capabilities=["code", "a b"]
    )
    task = (await api("GET", f"/api/tasks/{task_id}")).json()
    assert task.keys() == CONTRACT_KEYS | NEW_KEYS
    assert task["description"] == "größer 👩‍👩‍👧"
    assert task["metadata"] == {"n": [1, {"x": None}], "f": 1.5}
    assert task["needed_capabilities"] == ["code", "a b"]
    assert (task["generation"], task["retry_count"], task["max_retries"]) == (0, 0, 3)
    assert task["submitted_by"] == "w1"
    assert [(entry["event"], entry["details"]) for entry in task["history"]] == [("queued", "submitted")]
    assert [task[key] for key in ("assigned_to", "assigned_at", "result", "tokens_used", "last_error")] == [None] * 5


@pytest.mark.parametrize(("word", "number"), [("urgent", 0), ("high", 1), ("normal", 2), ("low", 3)])
async def test_priorities_are_words_in_and_numbers_out(api: Api, word: str, number: int) -> None:
    response = await api("POST", "/api/tasks", {"description": "x", "priority": word})
    assert response.json()["priority"] == number


async def test_all_optional_fields_are_kept(api: Api) -> None:
    now = await api.store.services.now()
    fields: dict[str, Any] = {
        "complete_by": now + 60_000,
        "expires_at": now + 50_000,
        "max_deliveries": 7,
        "max_retries": 0,
        "max_runtime_ms": 90_000,
        "retry_backoff_ms": 0,
        "run_at": now + 10_000,
        "target_agent": "w9",
    }
    response = await api("POST", "/api/tasks", {"description": "later", **fields})
    assert (response.status_code, response.json()["status"]) == (201, "delayed")
    task = (await api("GET", f"/api/tasks/{response.json()['task_id']}")).json()
    assert {name: task[name] for name in fields} == fields
    assert task["status"] == "delayed"


async def test_null_is_as_good_as_absent(api: Api) -> None:
    names = ("complete_by", "expires_at", "metadata", "needed_capabilities", "priority", "run_at", "target_agent")
    task_id = await api.submit(**dict.fromkeys(names))
    task = (await api("GET", f"/api/tasks/{task_id}")).json()
    assert (task["priority"], task["metadata"], task["needed_capabilities"]) == (2, {}, [])


async def test_metadata_can_pin_a_task(api: Api) -> None:
    task_id = await api.submit(metadata={"target_agent": "w7", "other": 1})
    task = (await api("GET", f"/api/tasks/{task_id}")).json()
    assert task["target_agent"] == "w7"
    assert task["metadata"] == {"target_agent": "w7", "other": 1}


async def test_a_result_is_passed_through(api: Api) -> None:
    await an_agent(api.store, "a1")
    task_id = await api.submit()
    generation = await api.store.tasks.accept(task_id, "a1", generation=None)
    result = {"text": "done ✓", "list": [1, 2, {"deep": True}]}
    await api.store.tasks.complete(
        task_id, "a1", conn="a1-conn", generation=generation, result=orjson.dumps(result), tokens_used=42
    )
    task = (await api("GET", f"/api/tasks/{task_id}")).json()
    assert (task["status"], task["result"], task["tokens_used"]) == ("completed", result, 42)
    assert (task["assigned_to"], task["generation"]) == ("a1", 1)
    events = [entry["event"] for entry in task["history"]]
    assert events[0] == "completed"
    assert events[-1] == "queued"


class TestIdempotency:
    """The same key and the same task is the same submission."""

    async def test_by_header(self, api: Api) -> None:
        headers = {"idempotency-key": "order 17"}
        first = await api("POST", "/api/tasks", {"description": "x"}, headers=headers)
        second = await api("POST", "/api/tasks", {"description": "x"}, headers=headers)
        assert (first.status_code, first.json()["created"]) == (201, True)
        assert (second.status_code, second.json()["created"]) == (200, False)
        assert second.json()["task_id"] == first.json()["task_id"]
        assert (await api("GET", "/api/tasks")).json()["count"] == 1

    async def test_field_and_header_are_the_same_key(self, api: Api) -> None:
        first = await api("POST", "/api/tasks", {"description": "x"}, headers={"idempotency-key": "k"})
        second = await api("POST", "/api/tasks", {"description": "x", "idempotency_key": "k"})
        both = await api(
            "POST", "/api/tasks", {"description": "x", "idempotency_key": "k"}, headers={"idempotency-key": "k"}
        )
        assert {r.json()["task_id"] for r in (first, second, both)} == {first.json()["task_id"]}

    async def test_spelling_does_not_matter(self, api: Api) -> None:
        first = {"description": "x", "metadata": {"a": 1, "b": 2}, "priority": "normal", "idempotency_key": "k"}
        second = {"idempotency_key": "k", "metadata": {"b": 2, "a": 1}, "complete_by": None, "description": "x"}
        ids = {(await api("POST", "/api/tasks", body)).json()["task_id"] for body in (first, second)}
        assert len(ids) == 1

    @pytest.mark.parametrize(
        "changed",
        [{"description": "y"}, {"metadata": {"a": 1}}, {"priority": "low"}, {"max_retries": 1}, {"target_agent": "z"}],
    )
    async def test_another_task_under_the_same_key_is_refused(self, api: Api, changed: dict[str, Any]) -> None:
        task_id = await api.submit(description="x", idempotency_key="k")
        response = await api("POST", "/api/tasks", {"description": "x", "idempotency_key": "k", **changed})
        assert refused(response, 409, "idempotency_conflict")["task_id"] == task_id
        assert (await api("GET", "/api/tasks")).json()["count"] == 1

    async def test_each_submitter_has_keys_of_their_own(self, api: Api) -> None:
        mine = await api.submit(idempotency_key="k")
        response = await api(
            "POST", "/api/tasks", {"description": "else", "idempotency_key": "k"}, token=await api.token("w2")
        )
        assert response.status_code == 201
        assert response.json()["task_id"] != mine


class TestBulk:
    async def test_results_come_in_order(self, api: Api) -> None:
        tasks = [{"description": f"t{n}", "priority": "high" if n % 2 else "low"} for n in range(250)]
        response = await api("POST", "/api/tasks/bulk", {"tasks": tasks})
        assert response.status_code == 200
        body = response.json()
        assert (body["count"], body["created"]) == (250, 250)
        assert [item["index"] for item in body["results"]] == list(range(250))
        for n in (0, 101, 249):
            task = (await api("GET", f"/api/tasks/{body['results'][n]['task_id']}")).json()
            assert (task["description"], task["priority"]) == (f"t{n}", 1 if n % 2 else 3)

    async def test_one_invalid_item_stores_nothing(self, api: Api) -> None:
        tasks: list[Any] = [{"description": "fine"}, {"priority": "asap"}, 7, {"description": "x", "max_retries": -1}]
        response = await api("POST", "/api/tasks/bulk", {"tasks": tasks})
        errors = refused(response, 422, "validation_failed")["errors"]
        assert [(found["index"], found["field"], found["error"]) for found in errors] == [
            (1, "description", "required"),
            (1, "priority", "unknown_value"),
            (2, "tasks[2]", "wrong_type"),
            (3, "max_retries", "out_of_range"),
        ]
        assert (await api("GET", "/api/tasks")).json()["count"] == 0

    async def test_conflicts_are_told_item_by_item(self, api: Api) -> None:
        first = await api.submit(description="a", idempotency_key="k")
        items = [
            {"description": "a", "idempotency_key": "k"},
            {"description": "b", "idempotency_key": "k"},
            {"description": "c"},
        ]
        body = (await api("POST", "/api/tasks/bulk", {"tasks": items})).json()
        same, other, new = body["results"]
        assert (same["task_id"], same["created"]) == (first, False)
        assert (other["error"], other["task_id"]) == ("idempotency_conflict", first)
        assert new["created"]
        assert body["created"] == 1

    async def test_a_header_key_makes_the_whole_request_repeatable(self, api: Api) -> None:
        body = {"tasks": [{"description": "a"}, {"description": "a"}]}
        first = (await api("POST", "/api/tasks/bulk", body, headers={"idempotency-key": "b1"})).json()
        second = (await api("POST", "/api/tasks/bulk", body, headers={"idempotency-key": "b1"})).json()
        ids = [item["task_id"] for item in first["results"]]
        assert len(set(ids)) == 2
        assert [item["task_id"] for item in second["results"]] == ids
        assert (first["created"], second["created"]) == (2, 0)

    async def test_a_thousand_and_one_are_too_many(self, api: Api) -> None:
        many = [{"description": "x"}] * 1_001
        assert field_codes(await api("POST", "/api/tasks/bulk", {"tasks": many})) == {"tasks": "too_long"}

    async def test_none_is_none(self, api: Api) -> None:
        response = await api("POST", "/api/tasks/bulk", {"tasks": []})
        assert (response.status_code, response.json()) == (200, {"results": [], "count": 0, "created": 0})


class TestLists:
    async def test_order_is_priority_then_age(self, api: Api) -> None:
        ids = [await api.submit(priority=word) for word in ("low", "normal", "urgent", "normal", "high")]
        body = (await api("GET", "/api/tasks")).json()
        assert [task["id"] for task in body["tasks"]] == [ids[2], ids[4], ids[1], ids[3], ids[0]]
        assert (body["count"], body["cursor"]) == (5, None)

    async def test_pages_join_into_the_whole_list(self, api: Api) -> None:
        tasks = [{"description": "x", "priority": ("urgent", "low")[n % 2]} for n in range(23)]
        await api("POST", "/api/tasks/bulk", {"tasks": tasks})
        whole = [task["id"] for task in (await api("GET", "/api/tasks")).json()["tasks"]]
        found: list[str] = []
        cursor = ""
        while True:
            page = (await api("GET", f"/api/tasks?limit=5{cursor}")).json()
            found += [task["id"] for task in page["tasks"]]
            if page["cursor"] is None:
                break
            cursor = f"&cursor={page['cursor']}"
        assert found == whole
        assert len(found) == 23

    async def test_filters(self, api: Api) -> None:
        await an_agent(api.store, "a1")
        taken = await api.submit(priority="high")
        waiting = await api.submit(priority="low")

        async def listed(query: str) -> list[str]:
            return [task["id"] for task in (await api("GET", f"/api/tasks?{query}")).json()["tasks"]]

        assert await listed("status=assigned") == [taken]
        assert await listed("status=queued") == [waiting]
        assert await listed("status=completed") == []
        assert await listed("priority=high") == [taken]
        assert await listed("assigned_to=a1") == [taken]
        assert await listed("assigned_to=a1&priority=low") == []
        assert await listed("unknown=ignored") == [taken, waiting]

    async def test_dead_letters_have_their_own_list(self, api: Api) -> None:
        dead = await api.submit(max_retries=1, target_agent="killer")
        alive = await api.submit(target_agent="nobody")
        await kill(api, dead)
        assert [task["id"] for task in (await api("GET", "/api/tasks")).json()["tasks"]] == [alive]
        assert (await api("GET", "/api/tasks?status=dead_letter")).json()["tasks"] == []
        body = (await api("GET", "/api/tasks/dead-letter")).json()
        assert [(task["id"], task["last_error"]) for task in body["tasks"]] == [(dead, "broken")]
        assert body["count"] == 1
        assert (await api("GET", f"/api/tasks/{dead}")).json()["status"] == "dead_letter"

    async def test_stats(self, api: Api) -> None:
        dead = await api.submit(max_retries=1, target_agent="killer", priority="urgent")
        for word in ("urgent", "normal", "normal"):
            await api.submit(priority=word, target_agent="nobody")
        await kill(api, dead)
        assert (await api("GET", "/api/tasks/stats")).json() == {
            "by_status": {"queued": 3},
            "by_priority": {"0": 1, "2": 2},
            "dead_letter": 1,
            "queued_index_size": 3,
            "submitted": 4,
            "pruned": 0,
        }

    async def test_a_long_list_is_compressed_for_those_who_can(self, api: Api) -> None:
        await api("POST", "/api/tasks/bulk", {"tasks": [{"description": "x" * 400}] * 500})
        plain = await api("GET", "/api/tasks", headers={"accept-encoding": "identity"})
        packed = await api("GET", "/api/tasks", headers={"accept-encoding": "br, gzip;q=0.5"})
        assert "content-encoding" not in plain.headers
        assert packed.headers["content-encoding"] == "gzip"
        assert int(packed.headers["content-length"]) < int(plain.headers["content-length"]) / 5
        assert packed.json() == plain.json()
        refusing = await api("GET", "/api/tasks", headers={"accept-encoding": "gzip;q=0"})
        assert "content-encoding" not in refusing.headers


class TestRetryAndCancel:
    async def test_retry(self, api: Api) -> None:
        task_id = await api.submit(max_retries=1, target_agent="killer", priority="high")
        await kill(api, task_id)
        await api.store.agents.disconnect("killer", conn="killer-conn", reason="test")
        response = await api("POST", f"/api/tasks/{task_id}/retry")
        assert (response.status_code, response.json()) == (
            200,
            {"status": "requeued", "task_id": task_id, "priority": 1},
        )
        task = (await api("GET", f"/api/tasks/{task_id}")).json()
        assert (task["status"], task["retry_count"], task["last_error"]) == ("queued", 0, None)

    async def test_only_dead_letters_can_be_retried(self, api: Api) -> None:
        task_id = await api.submit()
        body = refused(await api("POST", f"/api/tasks/{task_id}/retry"), 404, "task_not_found")
        assert (body["task_id"], body["status"]) == (task_id, "queued")

    async def test_cancel_ends_a_waiting_task(self, api: Api) -> None:
        task_id = await api.submit()
        for _ in range(2):
            response = await api("POST", f"/api/tasks/{task_id}/cancel", {"reason": "no longer needed"})
            assert (response.status_code, response.json()) == (200, {"status": "cancelled", "task_id": task_id})
        task = (await api("GET", f"/api/tasks/{task_id}")).json()
        assert task["status"] == "cancelled"
        assert (task["history"][0]["event"], task["history"][0]["details"]) == ("cancelled", "no longer needed")

    async def test_cancel_asks_the_agent_of_an_assigned_one(self, api: Api) -> None:
        await an_agent(api.store, "a1", features=("cancel",))
        task_id = await api.submit()
        response = await api("POST", f"/api/tasks/{task_id}/cancel")
        assert response.json() == {"status": "cancelling", "task_id": task_id}
        assert (await api("GET", f"/api/tasks/{task_id}")).json()["cancel_requested_at"] is not None

    async def test_only_the_submitter_and_admins_cancel(self, api: Api) -> None:
        task_id = await api.submit()
        stranger = await api.token("w2")
        body = refused(await api("POST", f"/api/tasks/{task_id}/cancel", token=stranger), 403, "not_submitter")
        assert body["task_id"] == task_id
        assert (await api("POST", f"/api/tasks/{task_id}/cancel", token=api.admin)).status_code == 200

    async def test_what_has_ended_is_not_cancelled(self, api: Api) -> None:
        task_id = await api.submit(max_retries=1, target_agent="killer")
        await kill(api, task_id)
        body = refused(await api("POST", f"/api/tasks/{task_id}/cancel"), 409, "invalid_state")
        assert body["status"] == "dead_letter"


async def test_the_metadata_limit_is_a_setting(redis_url: str, settings: Settings) -> None:
    async with opened(redis_url, settings.model_copy(update={"max_metadata_bytes": 40})) as api:
        await api.submit(metadata={"a": "x" * 30})
        response = await api("POST", "/api/tasks", {"description": "x", "metadata": {"a": "x" * 40}})
        assert field_codes(response) == {"metadata": "too_long"}
