"""Tasks: submit, read, list, cancel; dead letters; counts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, cast

from agentcom.domain.names import is_task_id
from agentcom.domain.tasks import PRIORITY_NAMES, NewTask, TaskStatus
from agentcom.errors import InvalidCursor, InvalidState, TaskNotFound
from agentcom.settings import Settings
from agentcom.store.store import Store
from agentcom.store.task_reader import TaskFilter, TaskPage
from agentcom.wire.http import (
    JsonObject,
    bulk_item_shape,
    submission_shape,
    task_counts_shape,
    task_shape,
)
from services.api.answer import Answer, answer
from services.api.auth import Access, Gate
from services.api.errors import ValidationFailed
from services.api.request import ApiRequest
from services.api.routing import Endpoint, Handler
from services.api.schemas import (
    AgentIdField,
    Code,
    Key,
    Problem,
    Schema,
    Text,
    Word,
    invalid,
    problem,
    query_field,
    query_integer,
    wrong_type,
)
from services.api.submission import MAX_IDEMPOTENCY_KEY, SubmissionReader, has_times

MAX_BULK: Final = 1_000
MAX_PAGE: Final = 1_000
MAX_PROBLEMS: Final = 100
#: Tasks turned into JSON before other requests get a turn.
ENCODE_CHUNK: Final = 100

_MAX_CURSOR: Final = 256
_MAX_REASON: Final = 2_000
_NOT_DEAD: Final = tuple(status for status in TaskStatus if status is not TaskStatus.DEAD_LETTER)
_STATUS: Final = Word(tuple(status.value for status in TaskStatus))
_PRIORITY: Final = Word(tuple(PRIORITY_NAMES))
_AGENT_ID: Final = AgentIdField()
_IDEMPOTENCY_KEY: Final = Key(MAX_IDEMPOTENCY_KEY)
CANCEL: Final = Schema(optional={"reason": Text(_MAX_REASON)})


class TaskRoutes:
    """``/api/tasks``"""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._max_body = settings.max_body_bytes
        self._submissions = SubmissionReader(settings)

    def endpoints(self, gate: Gate) -> list[Endpoint]:
        """The busiest first, and literal segments before parameters."""

        def token(method: str, path: str, handler: Handler) -> Endpoint:
            return Endpoint(method, path, handler, gate=gate, access=Access.TOKEN, max_body_bytes=self._max_body)

        return [
            token("POST", "/api/tasks", self.submit),
            token("GET", "/api/tasks/dead-letter", self.dead_letters),
            token("GET", "/api/tasks/stats", self.stats),
            token("GET", "/api/tasks/{task_id}", self.get),
            token("POST", "/api/tasks/bulk", self.submit_bulk),
            token("GET", "/api/tasks", self.index),
            token("POST", "/api/tasks/{task_id}/retry", self.retry),
            token("POST", "/api/tasks/{task_id}/cancel", self.cancel),
        ]

    async def submit(self, request: ApiRequest) -> Answer:
        body = request.body
        now = await self._store.services.now() if has_times(body) else None
        problems = self._submissions.check(body, now=now)
        key, key_problem = _header_key(request)
        if key_problem is None and key is not None and body.get("idempotency_key") not in (None, key):
            key_problem = problem("idempotency_key", Code.CONFLICT, "differs from the header Idempotency-Key")
        if key_problem is not None:
            problems.append(key_problem)
        if problems:
            raise invalid(request, problems)
        task = self._submissions.build(body, submitted_by=request.caller.agent_id, idempotency_key=key)
        submission = await self._store.tasks.submit(task)
        location = (b"location", b"/api/tasks/" + submission.task_id.encode())
        return answer(submission_shape(submission), status=200 if submission.repeated else 201, headers=(location,))

    async def submit_bulk(self, request: ApiRequest) -> Answer:
        """All are checked before the first is stored. A key in the header stands for one key for each item."""
        items = _bulk_items(request)
        key, key_problem = _header_key(request)
        if key_problem is not None:
            raise invalid(request, [key_problem])
        with_times = any(isinstance(item, dict) and has_times(item) for item in items)
        now = await self._store.services.now() if with_times else None
        tasks: list[NewTask] = []
        problems: list[Problem] = []
        for index, item in enumerate(items):
            if index % ENCODE_CHUNK == ENCODE_CHUNK - 1:
                await asyncio.sleep(0)
            if not isinstance(item, dict):
                problems.append({"index": index, **wrong_type(f"tasks[{index}]", "object", item)})
                continue
            found = self._submissions.check(item, now=now if has_times(item) else None)
            problems += [{"index": index, **each} for each in found]
            if not problems:
                own_key = None if key is None else f"{key}#{index}"
                caller = request.caller.agent_id
                tasks.append(self._submissions.build(item, submitted_by=caller, idempotency_key=own_key))
        if problems:
            raise ValidationFailed(problems[:MAX_PROBLEMS], total=len(problems))
        results = await self._store.tasks.submit_many(tasks)
        shapes = [bulk_item_shape(index, result) for index, result in enumerate(results)]
        created = sum(1 for shape in shapes if shape.get("created"))
        return answer({"results": shapes, "count": len(shapes), "created": created})

    async def get(self, request: ApiRequest) -> Answer:
        task = await self._store.task_reader.get(_task_id(request))
        return answer(task_shape(task))

    async def index(self, request: ApiRequest) -> Answer:
        """Without ``status``: all but the dead letters, which have a list of their own."""
        status = query_field(request, "status", _STATUS)
        if status is None:
            statuses: Sequence[TaskStatus] = _NOT_DEAD
        elif status == TaskStatus.DEAD_LETTER:
            statuses = ()
        else:
            statuses = (TaskStatus(status),)
        return await self._page(request, statuses)

    async def dead_letters(self, request: ApiRequest) -> Answer:
        return await self._page(request, (TaskStatus.DEAD_LETTER,))

    async def _page(self, request: ApiRequest, statuses: Sequence[TaskStatus]) -> Answer:
        priority = query_field(request, "priority", _PRIORITY)
        assigned_to = query_field(request, "assigned_to", _AGENT_ID)
        limit = query_integer(request, "limit", default=MAX_PAGE, low=1, high=MAX_PAGE)
        cursor = request.query.get("cursor")
        if cursor is not None and not 0 < len(cursor) <= _MAX_CURSOR:
            raise InvalidCursor
        page = await self._store.task_reader.page(
            TaskFilter(
                statuses=statuses,
                priority=None if priority is None else PRIORITY_NAMES[priority],
                assigned_to=assigned_to,
                cursor=cursor,
                limit=limit,
            )
        )
        return answer({"tasks": await _shapes(page), "count": len(page.tasks), "cursor": page.cursor})

    async def stats(self, _request: ApiRequest) -> Answer:
        return answer(task_counts_shape(await self._store.tasks.counts()))

    async def retry(self, request: ApiRequest) -> Answer:
        task_id = _task_id(request)
        try:
            priority = await self._store.tasks.retry(task_id)
        except InvalidState as error:
            status = error.details["status"]
            raise TaskNotFound(
                f"No dead letter has this id: the task is {status}.", task_id=task_id, status=status
            ) from error
        return answer({"status": "requeued", "task_id": task_id, "priority": priority})

    async def cancel(self, request: ApiRequest) -> Answer:
        task_id = _task_id(request)
        CANCEL.require(request)
        caller = request.caller
        reason = cast("str | None", request.body.get("reason")) or f"cancelled by {caller.agent_id}"
        status = await self._store.tasks.cancel(
            task_id, requester=caller.agent_id, privileged=caller.is_operator, reason=reason
        )
        return answer({"status": status, "task_id": task_id})


def _task_id(request: ApiRequest) -> str:
    task_id = request.params["task_id"]
    if not is_task_id(task_id):
        raise TaskNotFound(task_id=task_id[:64])
    return task_id


def _header_key(request: ApiRequest) -> tuple[str | None, Problem | None]:
    key = request.header(b"idempotency-key")
    return key, None if key is None else _IDEMPOTENCY_KEY.check("Idempotency-Key", key)


def _bulk_items(request: ApiRequest) -> Sequence[object]:
    items = request.body.get("tasks")
    if items is None:
        raise invalid(request, [problem("tasks", Code.REQUIRED, "is required")])
    if not isinstance(items, list):
        raise invalid(request, [wrong_type("tasks", "array<object>", items)])
    if len(items) > MAX_BULK:
        detail = f"must have at most {MAX_BULK} entries, not {len(items)}"
        raise invalid(request, [problem("tasks", Code.TOO_LONG, detail)])
    return items


async def _shapes(page: TaskPage) -> Sequence[JsonObject]:
    shapes: list[JsonObject] = []
    for start in range(0, len(page.tasks), ENCODE_CHUNK):
        shapes += [task_shape(task) for task in page.tasks[start : start + ENCODE_CHUNK]]
        await asyncio.sleep(0)
    return shapes
