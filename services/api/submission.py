"""Task submissions: the fields of one, what they may be, and the domain's task made of them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import fields as dataclass_fields
from dataclasses import replace
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


def submission_schema(settings: Settings) -> Schema:
    """The fields of a submission."""
    return Schema(
        required={"description": Text(MAX_DESCRIPTION, filled=True)},
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


class SubmissionReader:
    """Checks submissions and makes tasks of them."""

    def __init__(self, settings: Settings) -> None:
        self._schema = submission_schema(settings)

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
        get = body.get
        key = cast("str | None", get("idempotency_key")) or idempotency_key
        metadata = cast("dict[str, object]", get("metadata") or {})
        priority = cast("str | None", get("priority"))
        task = NewTask(
            id=TaskId(f"task-{os.urandom(8).hex()}"),
            description=cast("str", body["description"]),
            submitted_by=submitted_by,
            priority=Priority.NORMAL if priority is None else PRIORITY_NAMES[priority],
            metadata=orjson.dumps(metadata).decode() if metadata else "{}",
            needed_capabilities=tuple(cast("list[str]", get("needed_capabilities") or ())),
            target_agent=cast("str | None", get("target_agent") or metadata.get("target_agent")),
            max_retries=cast("int | None", get("max_retries")),
            max_deliveries=cast("int | None", get("max_deliveries")),
            retry_backoff_ms=cast("int | None", get("retry_backoff_ms")),
            max_runtime_ms=cast("int | None", get("max_runtime_ms")),
            complete_by=cast("int | None", get("complete_by")),
            run_at=cast("int | None", get("run_at")),
            expires_at=cast("int | None", get("expires_at")),
        )
        if key is None:
            return task
        return replace(task, idempotency_digest=_digest(key.encode()), body_digest=_digest(_meaning(task, metadata)))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _meaning(task: NewTask, metadata: dict[str, object]) -> bytes:
    """The same bytes for every way to write the same submission."""
    fields = {field.name: getattr(task, field.name) for field in dataclass_fields(task) if field.name != "id"}
    return orjson.dumps({**fields, "metadata": metadata}, option=orjson.OPT_SORT_KEYS)


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
