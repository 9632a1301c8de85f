"""Random lives of a hub, played on the real scripts and on a plain-Python model side by side.

After each step the whole namespace must be what the model says, and every answer the one that the model gave.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, ClassVar, Final, Literal, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from agentcom.domain import agents, tasks
from agentcom.domain.agents import AgentState
from agentcom.domain.tasks import NewTask, Priority, TaskEvent, TaskStatus
from agentcom.errors import AgentComError
from agentcom.settings import Settings
from agentcom.store.agents import Connection
from agentcom.store.audit import audit
from agentcom.store.store import Store
from agentcom.store.tasks import Report, Swept
from tests.support.builders import a_task, a_token, match_requests
from tests.support.clock import StoreClock
from tests.support.history import read_history
from tests.support.model import Answer, Model, Refused
from tests.support.model.view import stored, view
from tests.support.snapshot import dump, wipe

T = TypeVar("T")

#: Times so short that a few waits reach every deadline, and so odd that no two of them fall together.
LIMITS: Final = {
    "accept_timeout_ms": 1_100,
    "progress_timeout_ms": 3_100,
    "disconnect_grace_ms": 500,
    "return_grace_ms": 1_900,
    "cancel_timeout_ms": 700,
    "default_max_runtime_ms": 5_300,
    "default_retry_backoff_ms": 130,
    "retry_backoff_cap_ms": 400,
    "priority_window_ms": 2_000,
    "reject_cooldown_ms": 300,
    "reject_cooldown_cap_ms": 900,
    "finished_max_age_ms": 9_000,
    "finished_max_count": 3,
    "dead_max_age_ms": 12_000,
    "dead_max_count": 2,
}
LEASE_MS: Final = 7_000
STALE_MS: Final = 9_000
AGENTS: Final = ("a0", "a1", "a2")
#: Microseconds of one step. Whatever is stored in two of them never has the same score.
STEP_US: Final = 1_007

capability_sets = st.sampled_from([(), ("x",), ("y",), ("x", "y"), ("y", "z"), ("x", "y", "z")])
waits = st.sampled_from([0, 0, 1, 50, 310, 700, 1_200, 3_200])
picks = st.integers(0, 1_000)
limits = st.sampled_from([1, 2, 100])
#: How a frame misses its mark, if it does.
mistakes = st.sampled_from(["agent", "generation", "task", "repeat", "repeat", "connection"])
frames = st.sampled_from(["accept", "accept", "progress", "complete", "fail", "reject", "recover", "cancel"])

new_tasks = st.fixed_dictionaries(
    {
        "priority": st.sampled_from(list(Priority)),
        "needed_capabilities": capability_sets,
        "target_agent": st.sampled_from([None, None, None, *AGENTS]),
        "max_retries": st.sampled_from([0, 1, 2, 3]),
        "max_deliveries": st.sampled_from([1, 2, 5]),
        "retry_backoff_ms": st.sampled_from([None, 0, 200]),
        "max_runtime_ms": st.sampled_from([None, 0, 900]),
    },
    optional={"run_at": waits, "expires_at": waits, "complete_by": waits},
)


class HubMachine(RuleBasedStateMachine):
    """Each rule is one call. ``redis_url`` and ``runner`` are set by the test that runs it."""

    redis_url: ClassVar[str]
    runner: ClassVar[asyncio.Runner]

    def __init__(self) -> None:
        super().__init__()
        options: dict[str, Any] = dict(LIMITS)
        settings = Settings(redis_url=self.redis_url, namespace=f"m-{secrets.token_hex(6)}", **options)
        self.model = Model(settings)
        self.states: dict[str, AgentState] = {}
        self.names = 0
        self.tokens: dict[str, str] = {}
        self.store = Store(self.redis_url, settings, shifted_clock=True)
        self.clock = StoreClock(self.store)
        self.run(self._open())

    async def _open(self) -> None:
        self.store.open()
        await self.clock.start()
        self.model.now_us = self.clock.now_us
        self.tokens = {name: await a_token(self.store, name) for name in AGENTS}

    def teardown(self) -> None:
        try:
            self.serve()
            self.run(self._prove())
        finally:
            self.run(self._close())

    async def _prove(self) -> None:
        """The events tell of one legal life for each task, and the store contradicts itself nowhere."""
        findings = await audit(self.store, settle_s=0)
        assert not findings, findings
        for life in (await read_history(self.store)).lives.values():
            assert life.findings == [], life.kinds()
            left = self.model.tasks.get(life.task_id)
            if left is None:
                assert any((status, TaskEvent.PRUNED) in tasks.TRANSITIONS for status in life.possible), life.kinds()
            else:
                assert left.status in life.possible, life.kinds()

    async def _close(self) -> None:
        await wipe(self.store)
        await self.store.close()

    # -- helpers -----------------------------------------------------------------------------------------------------

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(call)

    def step(self, ms: int = 0) -> None:
        self.run(self.clock.advance(ms, us=STEP_US))
        self.model.now_us = self.clock.now_us

    def both(self, expected: Callable[[], Any], actual: Coroutine[Any, Any, Any]) -> None:
        """Makes the same call on both sides and compares the answers."""
        try:
            wanted: Any = expected()
        except Refused as refusal:
            wanted = refusal
        try:
            found: Any = self.run(actual)
        except AgentComError as error:
            found = error.code
        if isinstance(wanted, Refused):
            assert found == wanted.args[0]
            return
        if isinstance(found, Swept):
            found = (found.served, found.more)
        elif isinstance(found, Report):
            pushed = json.loads(found.next_frame)["task_id"] if found.next_frame else None
            found = Answer(found.outcome, repeated=found.repeated, next_task=pushed)
        assert found == wanted

    def aim(self, pick: int, mistake: str) -> tuple[str, str, int]:
        """Task, agent and generation of a frame: that of an assignment, or one that misses it."""
        model = self.model
        held = [task for task in model.tasks.values() if task.status is TaskStatus.ASSIGNED]
        reported = [(t.spec.id, of[2], gen) for t in model.tasks.values() for gen, of in t.reports.items()]
        if mistake == "repeat" and reported:
            return reported[pick % len(reported)]
        if not held:
            return self.task(pick), AGENTS[pick % len(AGENTS)], 1 + pick % 3
        task = held[pick % len(held)]
        agent_id, generation = task.assigned_to or "", task.generation
        if mistake == "agent":
            agent_id = AGENTS[pick % len(AGENTS)]
        elif mistake == "generation":
            generation += pick % 3 - 2
        elif mistake == "task":
            return self.task(pick), agent_id, generation
        return task.spec.id, agent_id, generation

    def task(self, pick: int) -> str:
        names = [*self.model.tasks, "unknown"]
        return names[pick % len(names)]

    def conn(self, agent_id: str, *, current: bool = True) -> str:
        agent = self.model.agents.get(agent_id)
        return agent.conn if current and agent and agent.conn else "older"

    # -- rules ---------------------------------------------------------------------------------------------------------

    @initialize(first=capability_sets, second=capability_sets)
    def begin(self, first: tuple[str, ...], second: tuple[str, ...]) -> None:
        self._take_gateway()
        self.connect("a0", first, 0, sends_progress=False)
        self.connect("a1", second, 0, sends_progress=True)

    @rule(wanted=st.lists(new_tasks, min_size=1, max_size=3))
    def submit(self, wanted: Sequence[dict[str, Any]]) -> None:
        self.step()
        now, specs = self.model.now, []
        for fields in wanted:
            self.names += 1
            times = {name: now + fields[name] for name in ("run_at", "expires_at", "complete_by") if name in fields}
            specs.append(a_task(f"t{self.names}", **(fields | times)))
        self.both(lambda: self.model.submit(specs), self._submit(specs))

    async def _submit(self, specs: list[NewTask]) -> list[str]:
        results = await self.store.tasks.submit_many(specs)
        return [result.task_id for result in results if not isinstance(result, Exception)]

    @rule(agent_id=st.sampled_from(AGENTS), capabilities=capability_sets, pick=picks, sends_progress=st.booleans())
    def connect(self, agent_id: str, capabilities: tuple[str, ...], pick: int, *, sends_progress: bool) -> None:
        self.step()
        self.names += 1
        gateways = [*self.model.gateways] or ["unknown"]
        conn, gateway = f"c{self.names}", gateways[pick % len(gateways)]
        connection = Connection(
            agent_id=agent_id,
            conn=conn,
            gateway=gateway,
            token_digest=self.tokens[agent_id],
            name=None,
            status=None,
            capabilities=capabilities,
            features=["progress"] if sends_progress else [],
        )
        self.both(
            lambda: self.model.connect(
                agent_id, conn=conn, gateway=gateway, capabilities=capabilities, sends_progress=sends_progress
            ),
            self._connect(connection),
        )

    async def _connect(self, connection: Connection) -> tuple[str | None, bool]:
        resumption = await self.store.agents.connect(connection)
        frame = resumption.assign_frame
        return (json.loads(frame)["task_id"] if frame else None), resumption.cancel_frame is not None

    @rule(agent_id=st.sampled_from(AGENTS), current=st.sampled_from([True, True, True, False]))
    def disconnect(self, agent_id: str, current: bool) -> None:
        self.step()
        conn = self.conn(agent_id, current=current)
        call = self.store.agents.disconnect(agent_id, conn=conn, reason="closed")
        self.both(lambda: self.model.disconnect(agent_id, conn), call)

    @rule(agent_id=st.sampled_from(AGENTS))
    def heartbeat(self, agent_id: str) -> None:
        self.step()
        conn = self.conn(agent_id)

        def expected() -> int:
            self.model.heartbeat(agent_id, conn)
            return self.model.now

        self.both(expected, self.store.agents.heartbeat(agent_id, conn=conn))

    @rule(kind=frames, pick=picks, mistake=mistakes)
    def frame(self, kind: str, pick: int, mistake: str) -> None:
        """An agent says something about a task."""
        self._frame(kind, pick, mistake)

    @rule(kind=frames, pick=picks)
    def fitting_frame(self, kind: str, pick: int) -> None:
        """An agent says something about its own task, which is what mostly happens."""
        self._frame(kind, pick, "")

    def _frame(self, kind: str, pick: int, mistake: str) -> None:
        self.step()
        task_id, agent_id, generation = self.aim(pick, mistake)
        conn = self.conn(agent_id, current=mistake != "connection")
        fence = generation if pick % 3 else None
        model, store = self.model, self.store.tasks
        match kind:
            case "accept":
                call: Any = store.accept(task_id, agent_id, generation=fence)
                self.both(lambda: model.accept(task_id, agent_id, fence), call)
            case "progress":
                call = store.progress(task_id, agent_id, generation=fence, progress=pick)
                self.both(lambda: model.progress(task_id, agent_id, fence, pick), call)
            case "reject":
                call = store.reject(task_id, agent_id, generation=fence, reason="busy")
                self.both(lambda: model.reject(task_id, agent_id, fence), call)
            case "recover":
                self.both(lambda: model.recover(task_id, agent_id), store.recover(task_id, agent_id))
            case "complete":
                call = store.complete(
                    task_id, agent_id, conn=conn, generation=generation, result=b'"done"', tokens_used=7
                )
                self.both(lambda: model.report(kind, task_id, agent_id, conn, generation), call)
            case "fail":
                call = store.fail(task_id, agent_id, conn=conn, generation=generation, reason="it broke")
                self.both(lambda: model.report(kind, task_id, agent_id, conn, generation), call)
            case "cancel":
                call = store.confirm_cancel(task_id, agent_id, conn=conn, generation=generation)
                self.both(lambda: model.report(kind, task_id, agent_id, conn, generation), call)

    @rule(kind=st.sampled_from(["cancel", "cancel", "retry", "submit again"]), pick=picks)
    def call(self, kind: str, pick: int) -> None:
        """A client says something about a task."""
        self.step()
        task_id = self.task(pick)
        if kind == "cancel":
            live = [name for name, task in self.model.tasks.items() if task.status is TaskStatus.ASSIGNED]
            task_id = live[pick % len(live)] if live and pick % 3 else task_id
            call = self.store.tasks.cancel(task_id, requester="submitter", privileged=False, reason="not needed")
            self.both(lambda: self.model.cancel(task_id, "not needed"), call)
        elif kind == "retry":
            dead = [name for name, task in self.model.tasks.items() if task.status is TaskStatus.DEAD_LETTER]
            task_id = dead[pick % len(dead)] if dead else task_id
            self.both(lambda: self.model.retry(task_id), self.store.tasks.retry(task_id))
        elif task_id in self.model.tasks:
            specs = [self.model.tasks[task_id].spec]
            self.both(lambda: self.model.submit(specs), self._submit(specs))

    @rule(pick=picks)
    def gateway(self, pick: int) -> None:
        """A gateway starts, or prolongs its lease. One that lost it comes back under another name."""
        self.step()
        if len(self.model.gateways) < 2:
            self._take_gateway()
        else:
            name = [*self.model.gateways][pick % len(self.model.gateways)]
            self.both(lambda: self._renew(name), self.store.gateways.renew(name, lease_ms=LEASE_MS))

    def _take_gateway(self) -> None:
        self.names += 1
        name = f"g{self.names}"
        self.model.take_gateway(name, LEASE_MS)
        self.run(self.store.gateways.renew(name, lease_ms=LEASE_MS, first=True))

    def _renew(self, gateway: str) -> int:
        if self.model.gateways[gateway] <= self.model.now:
            raise Refused("gateway_lease_lost")
        self.model.gateways[gateway] = self.model.now + LEASE_MS
        return self.model.gateways[gateway]

    @rule(ms=waits, limit=limits)
    def sweep(self, ms: int, limit: int) -> None:
        """Time passes, and the reaper makes its round."""
        self.step(ms)
        self._sweep_tasks(limit)
        self._sweep_agents(limit)

    def _sweep_tasks(self, limit: int) -> None:
        store, model = self.store.tasks, self.model
        self.both(lambda: model.sweep("accept", limit), store.reclaim("accept", limit=limit))
        self.both(lambda: model.sweep("progress", limit), store.reclaim("progress", limit=limit))
        self.both(lambda: model.sweep("runtime", limit), store.overrun(limit=limit))
        self.both(lambda: model.sweep("cancel", limit), store.end_cancel(limit=limit))
        self.both(lambda: model.sweep("delayed", limit), store.promote(limit=limit))
        self.both(lambda: model.sweep("expires", limit), store.expire("expires", limit=limit))
        self.both(lambda: model.sweep("complete_by", limit), store.expire("complete_by", limit=limit))

    def _sweep_agents(self, limit: int) -> None:
        store, model = self.store.agents, self.model
        self.both(lambda: model.sweep("unblock", limit), store.unblock(limit=limit))
        self.both(lambda: model.sweep("grace", limit), store.expire_grace(limit=limit))
        self.both(lambda: model.evict(STALE_MS, limit), store.evict(stale_ms=STALE_MS, limit=limit))
        self.both(model.expire_gateway, self.store.gateways.expire(limit=100))

    @rule(ms=waits)
    def wait(self, ms: int) -> None:
        """Time passes, and nobody notices yet."""
        self.step(ms)

    @rule(kind=st.sampled_from(["finished", "dead"]), limit=limits)
    def prune(self, kind: Literal["finished", "dead"], limit: int) -> None:
        self.step()
        self.both(lambda: self.model.prune(kind, limit), self.store.tasks.prune(kind, limit=limit))

    @rule()
    def serve(self) -> None:
        """The scheduler catches up. At rest, no idle agent could serve a queued task."""
        self.step()
        self.both(self.model.serve, self._serve())
        assert self.model.requests == []
        waiting = [agent for agent in self.model.agents.values() if agent.state == "idle" and self.model.usable(agent)]
        for agent in waiting:
            for name in self.model.signatures():
                assert not self.model.capable(agent, name), f"{agent.id} is idle beside {name!r}"

    async def _serve(self) -> int:
        return await self.store.matching.serve(await match_requests(self.store))

    # -- after each step ----------------------------------------------------------------------------------------------

    @invariant()
    def everything_agrees(self) -> None:
        self._check_content()
        self._check_moves_of_agents()
        self._check_conservation()

    def _check_content(self) -> None:
        """The namespace holds what the model says, key by key."""
        found, wanted = stored(self.run(dump(self.store))), view(self.model)
        differing = {name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name)}
        assert {name: found.get(name) for name in differing} == {name: wanted.get(name) for name in differing}

    def _check_moves_of_agents(self) -> None:
        after = {name: AgentState(agent.state) for name, agent in self.model.agents.items()}
        for name in AGENTS:
            old, new = self.states.get(name, AgentState.OFFLINE), after.get(name, AgentState.OFFLINE)
            assert old == new or new in agents.TRANSITIONS[old], f"{name}: {old} -> {new}"
        self.states = after

    def _check_conservation(self) -> None:
        """Every task is in exactly one place."""
        counts = self.run(self.store.tasks.counts())
        assert counts.unaccounted == 0
        places = [task.status for task in self.model.tasks.values()]
        assert {status: counts.total(status) for status in TaskStatus} == {s: places.count(s) for s in TaskStatus}


def _play(redis_url: str, *, examples: int, steps: int) -> None:
    with asyncio.Runner() as runner:
        HubMachine.redis_url, HubMachine.runner = redis_url, runner
        run_state_machine_as_test(
            HubMachine,
            settings=settings(
                max_examples=examples,
                stateful_step_count=steps,
                deadline=None,
                database=None,
                phases=[Phase.generate, Phase.shrink],
                suppress_health_check=list(HealthCheck),
            ),
        )


@pytest.mark.parametrize("part", range(4))
def test_random_lives(redis_url: str, part: int) -> None:
    """In parts, so that several workers share them."""
    _play(redis_url, examples=20, steps=50)


@pytest.mark.slow
def test_many_long_random_lives(redis_url: str) -> None:
    _play(redis_url, examples=200, steps=100)
