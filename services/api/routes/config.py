"""Settings that change at run time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, cast

import orjson

from agentcom.settings import DAY, MINUTE, SECOND, Settings
from agentcom.store.config import (
    ALERT_THRESHOLDS,
    DEFAULT_COOLDOWNS,
    DEFAULT_REPO,
    DEFAULT_THRESHOLDS,
    HEARTBEAT_INTERVAL,
    MAILBOX_TTL,
)
from agentcom.store.store import Store
from services.api.answer import Answer, answer
from services.api.auth import Access, Gate
from services.api.request import ApiRequest
from services.api.routing import Endpoint, Handler
from services.api.schemas import Integer, Nested, Number, Schema, Text, invalid

MAX_BODY_BYTES: Final = 16 * 1024

HEARTBEAT: Final = Schema(required={HEARTBEAT_INTERVAL: Integer(SECOND, DAY)}, optional={})
RETENTION: Final = Schema(required={MAILBOX_TTL: Integer(MINUTE, 365 * DAY)}, optional={})
REPO: Final = Schema(required={"url": Text(2_000)}, optional={})
COOLDOWNS: Final = Schema(optional={rule: Integer(0, DAY) for rule in DEFAULT_COOLDOWNS}, closed=True)
THRESHOLDS: Final = Schema(
    optional={
        "queue_growing_checks": Integer(1, 1_000),
        "failure_rate_pct": Number(0, 100),
        "stuck_task_ms": Integer(SECOND, 30 * DAY),
        "error_count_hour": Integer(0),
        "check_interval_ms": Integer(SECOND, DAY),
        "cooldowns": Nested(COOLDOWNS),
    },
    closed=True,
)


class ConfigRoutes:
    """``/api/config``"""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._services = store.services
        self._heartbeat_default = settings.heartbeat_interval_ms
        self._mailbox_ttl_default = settings.mailbox_ttl_ms

    def endpoints(self, gate: Gate) -> list[Endpoint]:
        def route(method: str, name: str, handler: Handler, access: Access) -> Endpoint:
            path = f"/api/config/{name}"
            return Endpoint(method, path, handler, gate=gate, access=access, max_body_bytes=MAX_BODY_BYTES)

        return [
            route("GET", "heartbeat-interval", self.heartbeat, Access.TOKEN),
            route("PUT", "heartbeat-interval", self.set_heartbeat, Access.OPERATOR),
            route("GET", "mailbox-retention", self.retention, Access.TOKEN),
            route("PUT", "mailbox-retention", self.set_retention, Access.OPERATOR),
            route("GET", "default-repo", self.repo, Access.LOCAL),
            route("PUT", "default-repo", self.set_repo, Access.OPERATOR),
            route("GET", "alert-thresholds", self.thresholds, Access.TOKEN),
            route("PUT", "alert-thresholds", self.set_thresholds, Access.OPERATOR),
        ]

    async def heartbeat(self, _request: ApiRequest) -> Answer:
        """How often agents are asked to ping; told to each as it identifies."""
        stored = await self._services.config(HEARTBEAT_INTERVAL)
        return answer({HEARTBEAT_INTERVAL: int(stored) if stored else self._heartbeat_default})

    async def set_heartbeat(self, request: ApiRequest) -> Answer:
        return await self._set_number(request, HEARTBEAT, HEARTBEAT_INTERVAL)

    async def retention(self, _request: ApiRequest) -> Answer:
        stored = await self._services.config(MAILBOX_TTL)
        return answer({MAILBOX_TTL: int(stored) if stored else self._mailbox_ttl_default})

    async def set_retention(self, request: ApiRequest) -> Answer:
        return await self._set_number(request, RETENTION, MAILBOX_TTL)

    async def _set_number(self, request: ApiRequest, schema: Schema, name: str) -> Answer:
        schema.require(request)
        value = cast("int", request.body[name])
        await self._services.set_config(name, str(value))
        return answer({name: value, "status": "updated"})

    async def repo(self, _request: ApiRequest) -> Answer:
        stored = await self._services.config(DEFAULT_REPO)
        return answer({DEFAULT_REPO: stored, "configured": stored is not None})

    async def set_repo(self, request: ApiRequest) -> Answer:
        REPO.require(request)
        url = cast("str", request.body["url"])
        await self._services.set_config(DEFAULT_REPO, url)
        return answer({"status": "ok", DEFAULT_REPO: url})

    async def thresholds(self, _request: ApiRequest) -> Answer:
        """What holds now: the defaults, and over them what was set last."""
        return answer(effective_thresholds(await self._services.config(ALERT_THRESHOLDS)))

    async def set_thresholds(self, request: ApiRequest) -> Answer:
        """Replaces what was set before; what the body leaves out has its default again."""
        problems = THRESHOLDS.check(request.body)
        if problems:
            raise invalid(request, problems)
        given = {name: value for name, value in request.body.items() if value is not None}
        await self._services.set_config(ALERT_THRESHOLDS, orjson.dumps(given).decode())
        return answer({"status": "updated", "effective": "next_check_cycle"})


def effective_thresholds(stored: str | None) -> dict[str, object]:
    """The thresholds as the alerter applies them, from what is stored."""
    given: Mapping[str, object] = orjson.loads(stored) if stored else {}
    cooldowns = {**DEFAULT_COOLDOWNS, **cast("Mapping[str, int]", given.get("cooldowns") or {})}
    return {**DEFAULT_THRESHOLDS, **given, "cooldowns": cooldowns}
