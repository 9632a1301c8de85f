"""Settings that change at run time, the hub's switches, and counters."""

from __future__ import annotations

import logging
from itertools import pairwise

import pytest

from agentcom.domain.limits import Limit, Tier
from agentcom.observe.logging import current_level, set_level
from agentcom.store.config import RESET_AT
from agentcom.store.tokens import Role
from services.api.auth import Authenticator
from services.api.service import api_components
from services.config_watch import ConfigWatch, log_level_watch
from tests.services.api.harness import Api, field_codes, refused
from tests.services.hub import running
from tests.support.builders import an_agent
from tests.support.eventually import eventually


@pytest.fixture
async def operator(api: Api) -> str:
    return await api.token("op", role=Role.OPERATOR)


class TestConfig:
    async def test_the_heartbeat(self, api: Api, operator: str) -> None:
        path = "/api/config/heartbeat-interval"
        assert (await api("GET", path)).json() == {"heartbeat_interval_ms": 30_000}
        changed = await api("PUT", path, {"heartbeat_interval_ms": 60_000}, token=operator)
        assert changed.json() == {"heartbeat_interval_ms": 60_000, "status": "updated"}
        assert (await api("GET", path)).json() == {"heartbeat_interval_ms": 60_000}
        for value, code in ((0, "out_of_range"), (True, "wrong_type"), (1.5, "wrong_type"), (None, "required")):
            response = await api("PUT", path, {"heartbeat_interval_ms": value}, token=operator)
            assert field_codes(response) == {"heartbeat_interval_ms": code}

    async def test_the_retention_of_mail(self, api: Api, operator: str) -> None:
        path = "/api/config/mailbox-retention"
        assert (await api("GET", path)).json() == {"mailbox_ttl_ms": 604_800_000}
        changed = await api("PUT", path, {"mailbox_ttl_ms": 3_600_000}, token=operator)
        assert changed.json() == {"mailbox_ttl_ms": 3_600_000, "status": "updated"}
        assert (await api("GET", path)).json() == {"mailbox_ttl_ms": 3_600_000}

    async def test_the_default_repository_reaches_who_registers(self, api: Api, operator: str) -> None:
        path = "/api/config/default-repo"
        assert (await api.client.get(path)).json() == {"default_repo": None, "configured": False}
        changed = await api("PUT", path, {"url": "https://example.org/r"}, token=operator)
        assert changed.json() == {"status": "ok", "default_repo": "https://example.org/r"}
        assert (await api.client.get(path)).json() == {"default_repo": "https://example.org/r", "configured": True}
        registered = await api.client.post("/api/onboard/register", json={"agent_id": "n1"})
        assert registered.json()["default_repo"] == "https://example.org/r"

    async def test_thresholds_are_the_defaults_and_what_was_set_last(self, api: Api, operator: str) -> None:
        path = "/api/config/alert-thresholds"
        defaults = (await api("GET", path)).json()
        assert defaults == {
            "queue_growing_checks": 3,
            "failure_rate_pct": 50,
            "stuck_task_ms": 300_000,
            "error_count_hour": 10,
            "check_interval_ms": 30_000,
            "cooldowns": {
                "queue_growing": 300_000,
                "high_failure_rate": 600_000,
                "stuck_tasks": 0,
                "no_agents_online": 0,
                "high_error_rate": 300_000,
            },
        }
        body = {"failure_rate_pct": 12.5, "cooldowns": {"stuck_tasks": 5}}
        changed = await api("PUT", path, body, token=operator)
        assert changed.json() == {"status": "updated", "effective": "next_check_cycle"}
        effective = (await api("GET", path)).json()
        assert effective["failure_rate_pct"] == 12.5
        assert effective["cooldowns"] == {**defaults["cooldowns"], "stuck_tasks": 5}
        await api("PUT", path, {"error_count_hour": 1}, token=operator)
        assert (await api("GET", path)).json() == {**defaults, "error_count_hour": 1}

    @pytest.mark.parametrize(
        ("body", "field", "code"),
        [
            ({"failure_rate_pct": 101}, "failure_rate_pct", "out_of_range"),
            ({"stuck_task_ms": "5"}, "stuck_task_ms", "wrong_type"),
            ({"unknown": 1}, "unknown", "unknown_value"),
            ({"cooldowns": {"stuck_tasks": -1}}, "cooldowns.stuck_tasks", "out_of_range"),
            ({"cooldowns": {"other": 1}}, "cooldowns.other", "unknown_value"),
        ],
    )
    async def test_thresholds_that_make_no_sense(
        self, api: Api, operator: str, body: dict[str, object], field: str, code: str
    ) -> None:
        response = await api("PUT", "/api/config/alert-thresholds", body, token=operator)
        assert field_codes(response) == {field: code}


class TestLogLevel:
    async def test_it_reaches_a_process_and_one_that_starts_later(self, api: Api, operator: str) -> None:
        before = logging.getLogger().level
        set_level("info")
        try:
            async with running([log_level_watch(api.store, api.settings)]) as supervisor:
                await supervisor.wait_ready()
                response = await api("PUT", "/api/admin/log-level", {"level": "error"}, token=operator)
                assert response.json() == {"status": "ok", "level": "error"}
                await eventually(lambda: _is_level("error"))
            set_level("info")
            async with running([log_level_watch(api.store, api.settings)]):
                await eventually(lambda: _is_level("error"))
        finally:
            logging.getLogger().setLevel(before)

    async def test_only_known_levels(self, api: Api, operator: str) -> None:
        for body in ({"level": "warn"}, {"level": 5}, {}):
            response = await api("PUT", "/api/admin/log-level", body, token=operator)
            assert refused(response, 422, "invalid_level")["valid"] == ["debug", "info", "notice", "warning", "error"]


async def _is_level(level: str) -> bool:
    return current_level() == level


class TestPushedTasks:
    async def test_it_is_a_task_like_any_other(self, api: Api, operator: str) -> None:
        await an_agent(api.store, "w1")
        await an_agent(api.store, "w2")
        body = {"agent_id": "w2", "description": "now", "metadata": {"a": 1}}
        pushed = (await api("POST", "/api/admin/push-task", body, token=operator)).json()
        assert (pushed["status"], pushed["agent_id"]) == ("pushed", "w2")
        task = (await api("GET", f"/api/tasks/{pushed['task_id']}")).json()
        assert (task["status"], task["assigned_to"], task["generation"]) == ("assigned", "w2", 1)
        assert (task["target_agent"], task["metadata"], task["submitted_by"]) == ("w2", {"a": 1}, "op")

    async def test_it_waits_for_a_busy_agent(self, api: Api, operator: str) -> None:
        await an_agent(api.store, "w1")
        await api.submit()
        body = {"agent_id": "w1", "description": "next"}
        pushed = (await api("POST", "/api/admin/push-task", body, token=operator)).json()
        task = (await api("GET", f"/api/tasks/{pushed['task_id']}")).json()
        assert (task["status"], task["target_agent"]) == ("queued", "w1")

    async def test_an_agent_that_is_away_is_not_waited_for(self, api: Api, operator: str) -> None:
        body = {"agent_id": "w9", "description": "x"}
        response = await api("POST", "/api/admin/push-task", body, token=operator)
        assert refused(response, 404, "agent_not_connected")["agent_id"] == "w9"
        assert (await api("GET", "/api/tasks/stats")).json()["submitted"] == 0

    async def test_it_is_checked(self, api: Api, operator: str) -> None:
        response = await api("POST", "/api/admin/push-task", {"metadata": []}, token=operator)
        assert field_codes(response) == {
            "agent_id": "required",
            "description": "required",
            "metadata": "wrong_type",
        }
        blank = await api("POST", "/api/admin/push-task", {"agent_id": "w1", "description": " "}, token=operator)
        assert field_codes(blank) == {"description": "required"}


class TestReset:
    async def test_what_is_volatile_is_cleared_and_the_rest_stays(self, api: Api) -> None:
        await api.store.rate_limits.override("w1", {Tier.HEAVY: Limit(1, 1)})  # a bucket that is not full for a minute
        task_id = await api.submit()
        await api.store.agents.penalize("w1")
        await api("PUT", "/api/config/default-repo", {"url": "u"}, token=api.admin)
        response = await api("POST", "/api/admin/reset", {}, token=api.admin)
        assert response.json() == {"status": "reset_scheduled", "triggered_by": "admin", "cleared": 2}
        assert await api.store.blocking.exists(api.store.keys.violations("w1")) == 0
        assert await api.store.blocking.exists(api.store.keys.bucket("http", "heavy", "w1")) == 0
        assert (await api("GET", f"/api/tasks/{task_id}")).json()["status"] == "queued"
        assert (await api.client.get("/api/config/default-repo")).json()["configured"] is True
        log = (await api("GET", "/api/admin/audit", token=api.admin)).json()["entries"]
        assert log[0]["action"] == "POST /api/admin/reset"

    async def test_processes_forget_what_they_remember(self, api: Api) -> None:
        authenticator = Authenticator(api.store.tokens, ttl_ms=60_000)
        cleared = []
        authenticator.clear = lambda: cleared.append(1)  # type: ignore[method-assign]
        [watch] = [
            component
            for component in api_components(api.store, api.settings, authenticator=authenticator)
            if isinstance(component, ConfigWatch)
        ]
        async with running([watch]):
            await eventually(lambda: _has(cleared, 1))
            await api("POST", "/api/admin/reset", {}, token=api.admin)
            await eventually(lambda: _has(cleared, 2))
        assert await api.store.services.config(RESET_AT) is not None


async def _has(found: list[int], count: int) -> bool:
    return len(found) >= count


class TestAnalytics:
    async def test_nobody(self, api: Api) -> None:
        summary = (await api.client.get("/api/analytics/summary")).json()
        assert summary.pop("timestamp") > 1_600_000_000_000
        assert set(summary.values()) == {0}
        assert (await api.client.get("/api/analytics/agents")).json() == {"agents": []}
        hours = (await api.client.get("/api/analytics/agents/w1/hourly")).json()["hourly"]
        assert len(hours) == 24
        assert {hour["sent"] + hour["received"] for hour in hours} == {0}
        assert all(later["bucket"] - hour["bucket"] == 3_600_000 for hour, later in pairwise(hours))
        refused(await api.client.get("/api/analytics/agents/a%20b/hourly"), 404, "not_found")

    async def test_who_comes_and_goes_is_counted(self, api: Api) -> None:
        agent = await an_agent(api.store, "w1")
        await an_agent(api.store, "w2")
        await api.store.agents.disconnect("w1", conn=agent.conn, reason="client_closed")
        gone, here = (await api.client.get("/api/analytics/agents")).json()["agents"]
        assert (gone["agent_id"], gone["status"], gone["connected"], gone["total_connections"]) == (
            "w1",
            "offline",
            False,
            1,
        )
        assert (here["agent_id"], here["status"], here["connected"]) == ("w2", "active", True)
        assert here["last_seen"] >= here["last_active"] > 0
        summary = (await api.client.get("/api/analytics/summary")).json()
        counted = [summary[f"agents_{state}"] for state in ("connected", "active", "idle", "offline")]
        assert (summary["total_agents"], counted) == (2, [1, 1, 0, 1])

    async def test_messages_are_counted(self, api: Api) -> None:
        await api.token("w2")
        await api("POST", "/api/message", {"to": "w2", "payload": {}})
        await api("POST", "/api/message", {"payload": {}})
        for agent_id, sent, received in (("w1", 2, 0), ("w2", 0, 1)):
            hours = (await api.client.get(f"/api/analytics/agents/{agent_id}/hourly")).json()["hourly"]
            assert sum(hour["sent"] for hour in hours) == sent
            assert sum(hour["received"] for hour in hours) == received
