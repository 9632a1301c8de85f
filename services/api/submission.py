"""Task submissions: the fields of one, what they may be, and the domain's task made of them."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from typing import Final, cast

import orjson

from agentcom.domain.names import is_agent_id
from agentcom.domain.tasks import PRIORITY_NAMES, NewTask, Priority, TaskId
from agentcom.settings import DAY, Settings
from services.api.schemas import (
    AgentIdField,
    Capabilities,
    Code,
    Integer,
    JsonObject,
    Key,
    Problem,
    Schema,
    Text,
    Word,
    problem,
    problem_with,
)

MAX_DESCRIPTION: Final = 10_000
MAX_IDEMPOTENCY_KEY: Final = 255
MAX_BACKOFF_MS: Final = DAY
MAX_RUNTIME_MS: Final = 30 * DAY
#: Times further away than this are a mistake, such as microseconds for milliseconds.
FURTHEST_MS: Final = 10 * 365 * DAY
#: A ``run_at`` that has just passed means now; one that is older than this is a mistake, such as seconds.
OLDEST_RUN_AT_MS: Final = DAY

TIMES: Final = ("complete_by", "expires_at", "run_at")


class SubmissionReader:
    """Checks submissions and makes tasks of them."""

    def __init__(self, settings: Settings) -> None:
        self._schema = Schema(
            required={"description": Text(MAX_DESCRIPTION)},
            optional={
                "complete_by": Integer(),
                "expires_at": Integer(),
                "idempotency_key": Key(MAX_IDEMPOTENCY_KEY),
                "max_deliveries": Integer(1, 100),
                "max_retries": Integer(0, 100),
                "max_runtime_ms": Integer(0, MAX_RUNTIME_MS),
                "metadata": JsonObject(settings.max_metadata_bytes),
                "needed_capabilities": Capabilities(),
                "priority": Word(tuple(PRIORITY_NAMES)),
                "retry_backoff_ms": Integer(0, MAX_BACKOFF_MS),
                "run_at": Integer(),
                "target_agent": AgentIdField(),
            },
        )

    def check(self, body: Mapping[str, object], *, now: int | None) -> list[Problem]:
        """What is wrong with a submission. ``now`` is the hub's time; needed if :func:`has_times`."""
        problems = self._schema.check(body)
        if now is not None:
            failed = {found["field"] for found in problems}
            problems += _check_times({name: body.get(name) for name in TIMES if name not in failed}, now=now)
        problems += _check_target(body)
        return problems

    def build(self, body: Mapping[str, object], *, submitted_by: str, idempotency_key: str | None) -> NewTask:
        """The task of a submission that has no problems. ``idempotency_key`` is used if the body has none."""
        fields = {name: body[name] for name in self._schema.optional if body.get(name) is not None}
        key = cast("str | None", fields.pop("idempotency_key", idempotency_key))
        metadata = cast("dict[str, object]", fields.pop("metadata", {}))
        target = cast("str | None", fields.pop("target_agent", None) or metadata.get("target_agent"))
        capabilities = cast("list[str]", fields.pop("needed_capabilities", []))
        priority = PRIORITY_NAMES[cast("str", fields.pop("priority", Priority.NORMAL.label))]
        numbers = cast("dict[str, int]", fields)
        description = cast("str", body["description"])
        body_digest = None
        if key is not None:
            meaning = (description, metadata, target, capabilities, priority, numbers)
            body_digest = hashlib.sha256(orjson.dumps(meaning, option=orjson.OPT_SORT_KEYS)).hexdigest()
        return NewTask(
            id=TaskId(f"task-{secrets.token_hex(8)}"),
            description=description,
            submitted_by=submitted_by,
            priority=priority,
            metadata=orjson.dumps(metadata).decode(),
            needed_capabilities=tuple(capabilities),
            target_agent=target,
            max_retries=numbers.get("max_retries"),
            max_deliveries=numbers.get("max_deliveries"),
            retry_backoff_ms=numbers.get("retry_backoff_ms"),
            max_runtime_ms=numbers.get("max_runtime_ms"),
            complete_by=numbers.get("complete_by"),
            run_at=numbers.get("run_at"),
            expires_at=numbers.get("expires_at"),
            idempotency_digest=None if key is None else hashlib.sha256(key.encode()).hexdigest(),
            body_digest=body_digest,
        )


def has_times(body: Mapping[str, object]) -> bool:
    """Whether checking the submission needs the hub's time."""
    return any(body.get(name) is not None for name in TIMES)


def _check_times(times: Mapping[str, object], *, now: int) -> list[Problem]:
    problems = []
    given = {name: value for name, value in times.items() if isinstance(value, int)}
    for name, value in given.items():
        if value > now + FURTHEST_MS:
            detail = "is more than ten years away; times are milliseconds since 1970"
            problems.append(problem_with(name, Code.OUT_OF_RANGE, detail, value=value))
        elif value < now - OLDEST_RUN_AT_MS if name == "run_at" else value <= now:
            detail = f"is in the past; the hub's time is {now} (milliseconds since 1970)"
            problems.append(problem_with(name, Code.OUT_OF_RANGE, detail, value=value))
    if not problems and (run_at := given.get("run_at")) is not None:
        problems += [
            problem_with(name, Code.OUT_OF_RANGE, "must be after run_at", value=given[name])
            for name in ("complete_by", "expires_at")
            if name in given and given[name] <= run_at
        ]
    return problems


def _check_target(body: Mapping[str, object]) -> list[Problem]:
    """``metadata.target_agent`` is the older way to say ``target_agent``; the two must not differ."""
    metadata = body.get("metadata")
    if not isinstance(metadata, dict) or (pinned := metadata.get("target_agent")) is None:
        return []
    name = "metadata.target_agent"
    if not isinstance(pinned, str) or not is_agent_id(pinned):
        return [problem_with(name, Code.INVALID_FORMAT, "must be an agent id", value=pinned)]
    if body.get("target_agent") not in (None, pinned):
        return [problem(name, Code.CONFLICT, "differs from target_agent")]
    return []
