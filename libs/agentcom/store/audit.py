"""Looking for contradictions in a namespace, page by page, while it is being worked on.

Each page is judged by one read-only script, so the facts about one task, agent or queue are of one moment. A finding is
looked at once more before it is reported; what was under way the first time is settled the second.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from agentcom.domain.signature import SEPARATOR
from agentcom.domain.tasks import TaskStatus
from agentcom.store.audit_mail import MailChecks
from agentcom.store.audit_rules import (
    AgentFacts,
    SignatureFacts,
    TaskFacts,
    agent_findings,
    signature_findings,
    task_findings,
)
from agentcom.store.audit_walk import Findings, Index, Walk, as_number, as_text, found, once
from agentcom.store.link import RedisValue
from agentcom.store.replies import as_bytes, as_int, as_list
from agentcom.store.store import Store

TASK_DEADLINES: Final = ("accept", "progress", "runtime", "cancel", "delayed", "expires", "complete_by")
AGENT_DEADLINES: Final = ("grace", "unblock")
#: A match request that waits longer than this has no scheduler to serve it.
REQUEST_WAITS_MS: Final = 60_000
#: Signatures that one step of audit/idle looks at for each capability; see SEARCH_STEPS in include/match.lua.
SEARCH_STEPS: Final = 64


async def conservation(store: Store) -> list[str]:
    """Whether every task ever submitted is in exactly one place or was pruned. One script, one moment."""
    missing = (await store.tasks.counts()).unaccounted
    if missing == 0:
        return []
    return [f"{abs(missing)} {'tasks are nowhere' if missing > 0 else 'more tasks are stored than were submitted'}"]


async def audit(store: Store, *, settle_s: float = 1.0) -> list[str]:
    """Everything that contradicts itself in the namespace; empty if all is well.

    ``settle_s`` is the time between the two looks at a finding: matches and sweeps that are under way need some.
    The work grows with the namespace, but no single call holds Redis up for more than a page.
    """
    return await _Audit(store, settle_s).run()


class _Audit:
    def __init__(self, store: Store, settle_s: float) -> None:
        self._link = store.link
        self._scripts = store.scripts
        self._keys = store.keys
        self._services = store.services
        self._store = store
        self._settle_s = settle_s
        self._walk = Walk(store)
        self._mail = MailChecks(store, self._walk)

    async def run(self) -> list[str]:
        await self._walk_keys()
        await self._walk_sets()
        await self._mail.walk_sets()
        await self._walk.look(self._idle, self._walk.members(self._keys.idle_any()))
        counts = await self._capability_counts()
        waiting = await self._oldest_request()
        if self._walk.has_suspects or counts or waiting:
            await asyncio.sleep(self._settle_s)
        findings = await conservation(self._store)
        findings += await self._walk.look_again()
        if counts:
            second = await self._capability_counts()
            findings += [text for subject, texts in counts.items() for text in texts if text in second.get(subject, [])]
        if waiting is not None and waiting == await self._oldest_request():
            findings.append(f"match request {waiting} waits for a scheduler since more than a minute")
        return sorted(set(findings))

    # -- walking -----------------------------------------------------------------------------------------------------

    async def _walk_keys(self) -> None:
        """Every record and every index, found by its key."""
        root = self._keys.root
        async for names in self._walk.names():
            await self._walk.look(self._tasks, once(names["task"]))
            await self._walk.look(self._histories, once(names["history"]))
            await self._walk.look(self._agents, once(names["agent"]))
            await self._walk.look(self._signatures, once(names["queue"]))
            indexes: list[tuple[Index, str, str]] = [
                *(("queue", name, self._keys.queue(name)) for name in names["queue"]),
                *(("idle", name, self._keys.idle(name)) for name in names["idle"] if name),
                *(("filed", name, self._keys.signatures(name)) for name in names["sigs"] if name),
                *(("gateway", name.removesuffix(":agents"), f"{root}gateway:{name}") for name in names["gateway"]),
            ]
            for index, name, index_key in indexes:
                members = self._walk.members(index_key, command="SSCAN" if index == "gateway" else "ZSCAN")
                await self._walk.look(self._walk.membership(index, name), members)
            await self._mail.look_at(names)

    async def _walk_sets(self) -> None:
        """Every name in an index of tasks, agents or signatures that may have no record of its own."""
        keys = self._keys
        of_tasks = [keys.status(status) for status in TaskStatus] + [keys.due(kind) for kind in TASK_DEADLINES]
        for key in [*of_tasks, keys.finished(), keys.dead()]:
            await self._walk.look(self._missing_tasks, self._walk.members(key))
        for key in [keys.agents(), keys.seen(), keys.idle_any(), *(keys.due(kind) for kind in AGENT_DEADLINES)]:
            await self._walk.look(self._agents, self._walk.members(key))
        await self._walk.look(self._signatures, self._walk.members(keys.filed(), command="HSCAN"))

    # -- checks ------------------------------------------------------------------------------------------------------

    async def _tasks(self, ids: Sequence[str]) -> Findings:
        reply = await self._scripts.call("audit/tasks", rest=ids)
        facts = [_task_facts(task_id, as_list(raw)) for task_id, raw in zip(ids, reply.fields, strict=True)]
        return found((task.id, task_findings(task)) for task in facts)

    async def _missing_tasks(self, ids: Sequence[str]) -> Findings:
        return await self._tasks(missing) if (missing := await self._without_record(ids)) else {}

    async def _histories(self, ids: Sequence[str]) -> Findings:
        return {task_id: [f"task {task_id} has a history and no record"] for task_id in await self._without_record(ids)}

    async def _without_record(self, ids: Sequence[str]) -> list[str]:
        calls = [self._link.call("EXISTS", self._keys.task(task_id)) for task_id in ids]
        return [task_id for task_id, call in zip(ids, calls, strict=True) if not as_int(await call)]

    async def _agents(self, ids: Sequence[str]) -> Findings:
        reply = await self._scripts.call("audit/agents", rest=ids)
        facts = [_agent_facts(agent_id, as_list(raw)) for agent_id, raw in zip(ids, reply.fields, strict=True)]
        return found((agent.id, agent_findings(agent)) for agent in facts)

    async def _signatures(self, signatures: Sequence[str]) -> Findings:
        reply = await self._scripts.call("audit/signatures", rest=signatures)
        facts = [_signature_facts(name, as_list(raw)) for name, raw in zip(signatures, reply.fields, strict=True)]
        return found((queue.signature, signature_findings(queue)) for queue in facts)

    async def _idle(self, agent_ids: Sequence[str]) -> Findings:
        """Agents that wait beside a task that they could do."""
        waiting: Findings = {}
        skip, left = 0, list(agent_ids)
        while left:
            reply = await self._scripts.call("audit/idle", skip=skip, rest=left)
            further = []
            for position, agent_id in enumerate(left):
                if task_id := reply.text(2 * position):
                    # Without the task's id: another one of the same queue is the same finding.
                    waiting[agent_id] = [f"agent {agent_id} is idle although queued tasks wait that it could do"]
                elif reply.number(2 * position + 1) and not task_id:
                    further.append(agent_id)
            left, skip = further, skip + SEARCH_STEPS
        return waiting

    async def _capability_counts(self) -> Findings:
        """Capabilities whose number of connected agents is not the stored one."""
        counted: Counter[str] = Counter()
        async for page in self._walk.members(self._keys.agents()):
            calls = [self._link.call("HGET", self._keys.agent(agent_id), "capabilities") for agent_id in page]
            for call in calls:
                joined = await call
                counted.update(_split(joined))
        stored: dict[str, int] = {}
        async for names in self._walk.members(self._keys.capabilities(), command="HSCAN"):
            values = [self._link.call("HGET", self._keys.capabilities(), name) for name in names]
            for name, value in zip(names, values, strict=True):
                stored[name] = as_int(await value or 0)
        return {
            name: [
                f"capability {name!r} is counted {stored.get(name, 0)} times, connected agents have it {counted[name]}"
            ]
            for name in stored.keys() | counted.keys()
            if stored.get(name, 0) != counted[name]
        }

    async def _oldest_request(self) -> str | None:
        """The entry id of a match request that waits for too long."""
        oldest = as_list(await self._link.call("XRANGE", self._keys.match(), "-", "+", "COUNT", 1))
        if not oldest:
            return None
        entry = as_bytes(as_list(oldest[0])[0]).decode()
        waiting = await self._services.now() - int(entry.partition("-")[0])
        return entry if waiting > REQUEST_WAITS_MS else None


def _split(joined: RedisValue) -> tuple[str, ...]:
    return tuple(part for part in (as_text(joined) or "").split(SEPARATOR) if part)


def _scores(names: Iterable[str], values: Sequence[RedisValue]) -> dict[str, float]:
    return {name: score for name, value in zip(names, values, strict=True) if (score := as_number(value)) is not None}


def _task_facts(task_id: str, raw: Sequence[RedisValue]) -> TaskFacts:
    places = raw[11:]
    statuses, deadlines = len(TaskStatus), len(TASK_DEADLINES)
    finished, dead, queue_score, *holder = places[statuses + deadlines :]
    return TaskFacts(
        id=task_id,
        status=as_text(raw[0]),
        listing=as_number(raw[2]),
        score=as_number(raw[3]),
        assigned_to=as_text(raw[4]),
        generation=as_text(raw[5]),
        accepted=raw[6] is not None,
        has_max_runtime=raw[7] is not None,
        cancelling=raw[8] is not None,
        expires_at=as_number(raw[9]),
        complete_by=as_number(raw[10]),
        in_status=_scores(TaskStatus, places[:statuses]),
        due=_scores(TASK_DEADLINES, places[statuses : statuses + deadlines]),
        in_finished=finished is not None,
        in_dead=dead is not None,
        queue_score=as_number(queue_score),
        holder=(as_text(holder[0]), as_text(holder[1]), as_text(holder[2])),
    )


def _agent_facts(agent_id: str, raw: Sequence[RedisValue]) -> AgentFacts:
    return AgentFacts(
        id=agent_id,
        state=as_text(raw[0]),
        capabilities=_split(raw[1]),
        task=as_text(raw[2]),
        generation=as_text(raw[3]),
        gateway=as_text(raw[4]),
        conn=as_text(raw[5]),
        in_agents=raw[6] is not None,
        in_seen=raw[7] is not None,
        in_idle=raw[8] is not None,
        in_grace=raw[9] is not None,
        in_unblock=raw[10] is not None,
        in_gateway=as_int(raw[11]) == 1,
        gateway_known=raw[12] is not None,
        task_record=(as_text(raw[13]), as_text(raw[14]), as_text(raw[15]), raw[16] is not None),
        not_waiting_under=tuple(as_bytes(name).decode() for name in raw[17:]),
    )


def _signature_facts(signature: str, raw: Sequence[RedisValue]) -> SignatureFacts:
    return SignatureFacts(
        signature=signature,
        is_filed_kind=as_int(raw[0]) == 1,
        head=as_number(raw[1]),
        filed_under=as_text(raw[2]),
        filed_score=as_number(raw[3]),
    )
