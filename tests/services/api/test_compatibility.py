"""docs/compatibility.md names every route and every frame, old and new, and for each a test that asks for it."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from agentcom.settings import Settings
from agentcom.store.store import Store
from agentcom.wire.frames import FrameKind
from services.api.app import create_app
from services.api.routing import Endpoint
from tests.services.api.exercised import frames_in, is_requested, requests_in

ROOT = Path(__file__).parents[3]
DOCUMENT = ROOT / "docs" / "compatibility.md"
ROW = re.compile(r"^\| `([^`]+)` \| (same|stricter|new) \| ([^|]*) \| `([^`]+)` \|$", re.MULTILINE)
LATER = re.compile(r"^\| `([^`]+)` \| ([^|`]+) \|$", re.MULTILINE)

#: What the first hub answered to.
FIRST_ROUTES = frozenset(
    """
GET /health
GET /api/agents
GET /api/agents/states
GET /api/agents/{agent_id}/state
GET /api/agents/{agent_id}/subscriptions
POST /api/onboard/register
POST /api/message
GET /api/messages
GET /api/mailbox/{agent_id}
POST /api/mailbox/{agent_id}/ack
POST /api/mailbox/evict
GET /api/threads/{message_id}
GET /api/threads/{message_id}/replies
GET /api/threads/{message_id}/root
GET /api/channels
POST /api/channels
GET /api/channels/{channel}
POST /api/channels/{channel}/subscribe
POST /api/channels/{channel}/unsubscribe
POST /api/channels/{channel}/publish
GET /api/channels/{channel}/history
POST /api/tasks
GET /api/tasks
GET /api/tasks/dead-letter
GET /api/tasks/stats
GET /api/tasks/{task_id}
POST /api/tasks/{task_id}/retry
GET /api/config/heartbeat-interval
PUT /api/config/heartbeat-interval
GET /api/config/mailbox-retention
PUT /api/config/mailbox-retention
GET /api/config/default-repo
PUT /api/config/default-repo
GET /api/config/alert-thresholds
PUT /api/config/alert-thresholds
GET /api/metrics
GET /api/alerts
POST /api/alerts/{rule_id}/acknowledge
GET /api/analytics/summary
GET /api/analytics/agents
GET /api/analytics/agents/{agent_id}/hourly
GET /api/dashboard/state
GET /api/dashboard/vapid-key
POST /api/dashboard/push-subscribe
GET /dashboard
GET /sw.js
GET /api/schemas
POST /admin/tokens
GET /admin/tokens
DELETE /admin/tokens/{agent_id}
POST /api/admin/reset
PUT /api/admin/log-level
POST /api/admin/push-task
POST /api/admin/backup
GET /api/admin/dets-health
POST /api/admin/compact
POST /api/admin/compact/{table}
POST /api/admin/restore/{table}
GET /api/admin/rate-limits
PUT /api/admin/rate-limits/{agent_id}
DELETE /api/admin/rate-limits/{agent_id}
GET /api/admin/rate-limits/whitelist
PUT /api/admin/rate-limits/whitelist
POST /api/admin/rate-limits/whitelist
DELETE /api/admin/rate-limits/whitelist/{agent_id}
    """.strip().splitlines()
)
FIRST_FRAMES = set(FrameKind) - {FrameKind.TASK_REJECTED, FrameKind.TASK_CANCELLED}


def section(heading: str) -> str:
    """What stands under a heading, up to the next one."""
    return re.split(r"\n#+ ", DOCUMENT.read_text(encoding="utf-8").split(f"# {heading}\n")[1])[0]


def rows(heading: str) -> list[tuple[str, str, str, str]]:
    """The rows of the table under a heading."""
    found = ROW.findall(section(heading))
    assert len(found) == section(heading).count("\n| `"), "a row is not as the others"
    return found


def later() -> set[str]:
    """The routes of the first hub that are not there yet."""
    found = LATER.findall(section("Not there yet"))
    assert len(found) == section("Not there yet").count("\n| `"), "a row is not as the others"
    return {name for name, _ in found}


def test_every_route_is_in_the_table(redis_url: str) -> None:
    routes = create_app(Store(redis_url, Settings()), Settings()).routes
    found = {f"{route.method} {route.path}" for route in routes if isinstance(route, Endpoint)}
    named = [name for name, *_ in rows("Routes")]
    assert found - set(named) == set()
    assert set(named) - found == set()
    assert len(named) == len(set(named))


def test_every_frame_is_in_the_table() -> None:
    assert {name for name, *_ in rows("Frames from agents")} == set(FrameKind)


def test_nothing_of_the_first_hub_is_passed_over() -> None:
    assert (len(FIRST_ROUTES), len(FIRST_FRAMES)) == (65, 15)
    named = {name: kind for name, kind, *_ in [*rows("Routes"), *rows("Frames from agents")]}
    assert FIRST_ROUTES - named.keys() == later()
    assert named.keys() >= FIRST_FRAMES
    assert {name for name, kind in named.items() if kind == "new"} == named.keys() - FIRST_ROUTES - FIRST_FRAMES


@cache
def asked_in(test: str) -> tuple[frozenset[tuple[str, str]], frozenset[str]]:
    """The requests and frames of a test file."""
    return frozenset(requests_in(ROOT / test)), frozenset(frames_in(ROOT / test))


@pytest.mark.parametrize("row", rows("Routes"), ids=lambda row: row[0])
def test_each_route_names_a_test_that_asks_for_it(row: tuple[str, str, str, str]) -> None:
    name, kind, difference, test = row
    assert kind != "stricter" or difference, f"{name} is stricter, but why?"
    assert is_requested(name, asked_in(test)[0]), f"{test} does not ask for {name}"


@pytest.mark.parametrize("row", rows("Frames from agents"), ids=lambda row: row[0])
def test_each_frame_names_a_test_that_sends_it(row: tuple[str, str, str, str]) -> None:
    name, kind, difference, test = row
    assert kind != "stricter" or difference, f"{name} is stricter, but why?"
    assert name in asked_in(test)[1], f"{test} does not send {name}"


def test_what_is_asked_is_read_from_the_source(tmp_path: Path) -> None:
    """The reading that the two tests above rely on finds what is there, and nothing else."""
    source = tmp_path / "test_something.py"
    source.write_text(
        "BASE = '/api/things'\n"
        "async def fetch(api, path): return await api('GET', path)\n"
        "async def test(api, client, n):\n"
        "    path = f'{BASE}/{n}'\n"
        "    await api('DELETE', path)\n"
        "    await fetch(api, '/api/others?limit=1')\n"
        "    await api.client.post('/api/mine')\n"
        "    assert 'PUT' != '/api/not/asked'\n"
        "    await client.ask(about('task_failed'))\n"
    )
    assert requests_in(source) == {("DELETE", "/api/things/x"), ("GET", "/api/others"), ("POST", "/api/mine")}
    assert is_requested("DELETE /api/things/{thing_id}", requests_in(source))
    assert not is_requested("PUT /api/things/{thing_id}", requests_in(source))
    assert not is_requested("DELETE /api/things/{thing_id}/parts", requests_in(source))
    assert frames_in(source) == {"task_failed"}
