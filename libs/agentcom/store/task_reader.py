"""Reading tasks: one, or a page of a filtered list."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from agentcom.domain.tasks import HistoryEntry, Priority, Task, TaskId, TaskStatus
from agentcom.errors import InvalidCursor, TaskNotFound
from agentcom.store.keys import Keys
from agentcom.store.link import Link
from agentcom.store.replies import as_bytes, as_list, as_pairs

#: Distance between the list scores of two priorities; see ``status:<status>`` in keys.py.
PRIORITY_STEP = 2e15
#: Tasks looked at for one page when a filter has no index of its own.
SCAN_LIMIT = 5_000
SCAN_CHUNK = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFilter:
    """Which tasks a list shows; a page goes on after ``cursor``."""

    statuses: Sequence[TaskStatus]
    priority: Priority | None = None
    assigned_to: str | None = None
    cursor: str | None = None
    limit: int


@dataclass(frozen=True, slots=True)
class TaskPage:
    """One page in list order (priority, then creation). With a cursor there may be more, even if the page is short."""

    tasks: list[Task]
    cursor: str | None


@dataclass(frozen=True, slots=True, order=True)
class _Position:
    score: float
    task_id: str

    def encode(self) -> str:
        return base64.urlsafe_b64encode(f"{self.score:.0f}:{self.task_id}".encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, cursor: str) -> _Position:
        try:
            text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
            score, separator, task_id = text.partition(":")
            if not separator or not score.isdigit() or len(score) > 16:
                raise ValueError(cursor)
            return cls(float(score), task_id)
        except (binascii.Error, ValueError) as error:
            raise InvalidCursor() from error


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()


def _number(value: bytes | None) -> int | None:
    return None if value is None else int(value)


def build_task(fields: dict[bytes, bytes], history: Sequence[bytes]) -> Task:
    """A task from its hash and its history. Fields that an older schema does not have get their defaults."""

    def number(name: bytes, default: int) -> int:
        return int(fields.get(name, default))

    entries = []
    for raw in history:
        entry = orjson.loads(raw)
        details = orjson.dumps(entry["details"]).decode()
        entries.append(HistoryEntry(event=entry["event"], timestamp=entry["timestamp"], details=details))
    return Task(
        id=TaskId(fields[b"id"].decode()),
        description=fields[b"description"].decode(),
        metadata=fields.get(b"metadata", b"{}").decode(),
        priority=Priority(number(b"priority", Priority.NORMAL)),
        status=TaskStatus(fields[b"status"].decode()),
        assigned_to=_text(fields.get(b"assigned_to")),
        assigned_at=_number(fields.get(b"assigned_at")),
        accepted_at=_number(fields.get(b"accepted_at")),
        generation=number(b"generation", 0),
        retry_count=number(b"retry_count", 0),
        max_retries=number(b"max_retries", 3),
        delivery_count=number(b"delivery_count", 0),
        max_deliveries=number(b"max_deliveries", 5),
        retry_backoff_ms=number(b"retry_backoff_ms", 0),
        max_runtime_ms=_number(fields.get(b"max_runtime_ms")),
        needed_capabilities=tuple(orjson.loads(fields.get(b"capabilities", b"[]"))),
        target_agent=_text(fields.get(b"target_agent")),
        last_error=_text(fields.get(b"last_error")),
        complete_by=_number(fields.get(b"complete_by")),
        run_at=_number(fields.get(b"run_at")),
        expires_at=_number(fields.get(b"expires_at")),
        cancel_requested_at=_number(fields.get(b"cancel_requested_at")),
        progress=_number(fields.get(b"progress")),
        result=_text(fields.get(b"result")),
        tokens_used=_number(fields.get(b"tokens_used")),
        submitted_by=fields.get(b"submitted_by", b"unknown").decode(),
        created_at=number(b"created_at", 0),
        updated_at=number(b"updated_at", 0),
        finished_at=_number(fields.get(b"finished_at")),
        history=tuple(entries),
    )


class TaskReader:
    """Reads tasks. A list is a sequence of reads, not one moment's truth."""

    def __init__(self, link: Link, keys: Keys) -> None:
        self._link = link
        self._keys = keys

    async def get(self, task_id: str) -> Task:
        """One task with its history. Raises :class:`TaskNotFound`."""
        found = await self._load([task_id])
        if not found:
            raise TaskNotFound(task_id=task_id)
        return found[0]

    async def _load(self, task_ids: Sequence[str]) -> list[Task]:
        hashes = [self._link.call("HGETALL", self._keys.task(task_id)) for task_id in task_ids]
        histories = [self._link.call("LRANGE", self._keys.history(task_id), 0, -1) for task_id in task_ids]
        tasks = []
        for fields, history in zip(hashes, histories, strict=True):
            stored = dict(as_pairs(await fields))
            entries = [as_bytes(entry) for entry in as_list(await history)]
            if stored:
                tasks.append(build_task(stored, entries))
        return tasks

    async def page(self, query: TaskFilter) -> TaskPage:
        """One page. Raises :class:`InvalidCursor`.

        The work of a page is bounded: where ``assigned_to`` has to be looked up task by task, a page may be short,
        or empty, and still have a cursor.
        """
        after = _Position.decode(query.cursor) if query.cursor else None
        ids: list[str] = []
        scanned = 0
        at_end = False
        while len(ids) < query.limit and scanned < SCAN_LIMIT and not at_end:
            want = query.limit - len(ids) if query.assigned_to is None else SCAN_CHUNK
            positions = await self._positions(query, after, want)
            at_end = len(positions) < want
            chosen = await self._assigned(positions, query.assigned_to)
            for position in positions:
                if len(ids) == query.limit:
                    at_end = False
                    break
                after = position
                scanned += 1
                if position.task_id in chosen:
                    ids.append(position.task_id)
        return TaskPage(await self._load(ids), None if at_end or after is None else after.encode())

    async def _positions(self, query: TaskFilter, after: _Position | None, count: int) -> list[_Position]:
        """The next positions over all wanted statuses, merged in list order."""
        low = 0.0 if query.priority is None else query.priority * PRIORITY_STEP
        high = "+inf" if query.priority is None else f"({(query.priority + 1) * PRIORITY_STEP:.0f}"
        if after is not None:
            low = max(low, after.score)
        pages = await asyncio.gather(
            *[
                self._of_status(status, low=f"{low:.0f}", high=high, after=after, count=count)
                for status in query.statuses
            ]
        )
        return sorted({position for page in pages for position in page})[:count]

    async def _of_status(
        self, status: TaskStatus, *, low: str, high: str, after: _Position | None, count: int
    ) -> list[_Position]:
        size = count + 1
        while True:
            reply = await self._link.call(
                "ZRANGEBYSCORE", self._keys.status(status), low, high, "WITHSCORES", "LIMIT", 0, size
            )
            found = [_Position(float(score), member.decode()) for member, score in as_pairs(reply)]
            page = [position for position in found if after is None or position > after]
            if len(page) >= count or len(found) < size:
                return page
            # Tasks at or before the cursor share its score: look past them.
            size *= 2

    async def _assigned(self, positions: Sequence[_Position], agent_id: str | None) -> set[str]:
        if agent_id is None:
            return {position.task_id for position in positions}
        calls = [self._link.call("HGET", self._keys.task(p.task_id), "assigned_to") for p in positions]
        owners = [await call for call in calls]
        wanted = agent_id.encode()
        return {position.task_id for position, owner in zip(positions, owners, strict=True) if owner == wanted}
