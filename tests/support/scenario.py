"""One test's share of a running hub: its agents and sidecars, its tasks, and the proof at the end."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx

from agentcom.store.store import Store
from sidecar_support.program import Program
from tests.support.agent import SocketAgent, stop_all
from tests.support.eventually import eventually
from tests.support.history import History, all_ended, prove, read_history
from tests.support.hub import HubProcesses
from tests.support.operator import Operator

SEED_VARIABLE: Final = "AGENTCOM_TEST_SEED"

#: Deadlines so short that a test can wait for them, and long enough for a machine that is busy with other tests.
QUICK: Final = {
    "accept_timeout_ms": 4_000,
    "disconnect_grace_ms": 3_000,
    "return_grace_ms": 5_000,
    "progress_timeout_ms": 6_000,
    "cancel_timeout_ms": 3_000,
    "stale_agent_ms": 12_000,
    "gateway_lease_ms": 4_000,
    "sweep_interval_ms": 100,
    "reconcile_interval_ms": 2_000,
    "default_retry_backoff_ms": 50,
    "reject_cooldown_ms": 300,
    "shutdown_timeout_ms": 5_000,
}


def seeded() -> random.Random:
    """Chance that can be repeated: the seed is printed, and taken from AGENTCOM_TEST_SEED when that is set."""
    seed = int(os.environ.get(SEED_VARIABLE) or secrets.randbelow(2**32))
    print(f"{SEED_VARIABLE}={seed}")
    return random.Random(seed)


class Scenario:
    """Agents get ids that no other test uses, and tasks a capability that only this test's agents have."""

    def __init__(self, hub: HubProcesses, store: Store, operator: Operator, *, folder: Path) -> None:
        self.hub = hub
        self.store = store
        self.operator = operator
        self.capability = f"cap-{secrets.token_hex(4)}"
        self.agents: list[SocketAgent] = []
        self.sidecars: list[Program] = []
        #: Ids of all tasks whose submission was answered.
        self.acknowledged: list[str] = []
        #: Tasks whose cancel was asked for, whatever came of it; and those that the answer said were cancelled.
        self.cancels_asked: set[str] = set()
        self.cancelled: set[str] = set()
        #: Set when the test has failed: there is nothing to prove then.
        self.failed = False
        self._folder = folder
        self._tokens: dict[str, str] = {}
        self._numbers = itertools.count(1)

    # -- agents ----------------------------------------------------------------------------------------------------

    async def token(self, agent_id: str) -> str:
        """The token of an agent; registers it the first time."""
        if agent_id not in self._tokens:
            self._tokens[agent_id] = (await self.operator.register(agent_id))["token"]
        return self._tokens[agent_id]

    async def make_agent(
        self,
        agent_id: str | None = None,
        *,
        gateway: int | None = None,
        first_gateway: int | None = None,
        also: Sequence[str] = (),
        **options: Any,
    ) -> SocketAgent:
        """An agent that has not connected yet. It tries all gateways in turn unless it has to keep to one."""
        number = next(self._numbers)
        agent_id = agent_id or f"agent-{number}-{secrets.token_hex(3)}"
        urls = self.hub.socket_urls
        first = (number if first_gateway is None else first_gateway) % len(urls)
        urls = [*urls[first:], *urls[:first]] if gateway is None else [urls[gateway]]
        options.setdefault("capabilities", [self.capability, *also])
        agent = SocketAgent(agent_id, await self.token(agent_id), urls, **options)
        self.agents.append(agent)
        return agent

    async def agent(self, agent_id: str | None = None, **options: Any) -> SocketAgent:
        """A connected agent; options as for :meth:`make_agent` and :class:`SocketAgent`."""
        return await (await self.make_agent(agent_id, **options)).start()

    async def fleet(self, count: int, **options: Any) -> list[SocketAgent]:
        """Many connected agents."""
        return list(await asyncio.gather(*[self.agent(**options) for _ in range(count)]))

    async def sidecar(
        self, wake_command: Sequence[str], *, agent_id: str | None = None, gateway: int = 0, **config: Any
    ) -> Program:
        """A real sidecar process, connected. It has a folder of its own."""
        number = next(self._numbers)
        agent_id = agent_id or f"sidecar-{number}-{secrets.token_hex(3)}"
        folder = self._folder / f"sidecar-{number}"
        folder.mkdir(parents=True)
        program = Program(
            folder,
            agent_id=agent_id,
            token=await self.token(agent_id),
            hub_url=self.hub.socket_urls[gateway],
            wake_command=list(wake_command),
            **{"capabilities": [self.capability], **config},
        )
        self.sidecars.append(program)
        await program.start()
        await eventually(
            lambda: bool(program.logged("identified")), timeout=30, message=f"{agent_id}:\n{program.console()}"
        )
        return program

    # -- tasks -----------------------------------------------------------------------------------------------------

    async def submit(self, description: str = "do it", **fields: Any) -> str:
        """Submits a task that this test's agents can do, until it is acknowledged. Returns its id."""
        fields.setdefault("needed_capabilities", [self.capability])
        task_id = await self.operator.submit_until_acknowledged(description, **fields)
        self.acknowledged.append(task_id)
        return task_id

    async def cancel_if_possible(self, task_id: str) -> None:
        """Asks once for a cancel; no answer, or a refusal because the task has ended, is nothing special."""
        self.cancels_asked.add(task_id)
        try:
            answer = await self.operator.request("POST", f"/api/tasks/{task_id}/cancel")
        except httpx.TransportError:
            return
        assert answer.status_code in {200, 409, 503}, f"cancel: {answer.status_code} {answer.text}"
        if answer.status_code == 200 and answer.json()["status"] == "cancelled":
            self.cancelled.add(task_id)

    async def completed(self, task_id: str, *, timeout: float = 30.0) -> dict[str, Any]:
        """The task, once it is completed."""
        return await self.operator.wait_for(task_id, "completed", timeout=timeout)

    async def history(self) -> History:
        return await read_history(self.store)

    @asynccontextmanager
    async def load(
        self, *, per_second: float, rng: random.Random, submitters: int = 4, fields: Callable[[], dict[str, Any]] = dict
    ) -> AsyncIterator[None]:
        """Submits tasks all the while, at random moments; ``fields`` makes those of each task."""
        stop = asyncio.Event()

        async def submit(number: int) -> None:
            for n in itertools.count():
                if stop.is_set():
                    return
                await self.submit(f"load {number}.{n}", **fields())
                await asyncio.sleep(rng.expovariate(per_second / submitters))

        submitting = [asyncio.create_task(submit(number)) for number in range(submitters)]
        try:
            yield
            stop.set()
            await asyncio.gather(*submitting)
        finally:
            for task in submitting:
                task.cancel()
            await asyncio.gather(*submitting, return_exceptions=True)

    # -- the end ---------------------------------------------------------------------------------------------------

    async def rest(self, *, timeout: float = 60.0) -> None:
        """Waits until every task has ended and every agent's reports are answered."""
        await all_ended(self.store, timeout=timeout)
        await eventually(self._reports_answered, timeout=20)

    def _reports_answered(self) -> None:
        waiting = {agent.id: list(agent.outbox) for agent in self.agents if agent.outbox and not agent.ended}
        assert not waiting, f"reports without an answer: {waiting}"

    async def prove(self, *, settle_s: float = 2.0) -> History:
        """The proof, for a hub at rest; see :func:`tests.support.history.prove`."""
        return await prove(self.store, acknowledged=self.acknowledged, agents=self.agents, settle_s=settle_s)

    async def close(self) -> None:
        """Stops agents and sidecars."""
        await stop_all(self.agents)
        for sidecar in self.sidecars:
            with contextlib.suppress(ProcessLookupError):
                await sidecar.end()


@asynccontextmanager
async def scenario_on(hub: HubProcesses, folder: Path) -> AsyncIterator[Scenario]:
    """A scenario on a running hub. Unless the test failed, everything must end, and the proof must hold."""
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(hub.store())
        operator = await stack.enter_async_context(Operator(hub.api_url, hub.admin_token))
        scenario = Scenario(hub, store, operator, folder=folder)
        stack.push_async_callback(scenario.close)
        try:
            yield scenario
            if not scenario.failed:
                await scenario.rest()
                await scenario.prove()
                defects = hub.defects()
                assert not defects, "\n".join(["the services logged defects:", *defects[:10]])
        except BaseException:
            scenario.failed = True
            raise
        finally:
            if scenario.failed:
                print(hub.logs())


@asynccontextmanager
async def hub_of_its_own(
    folder: Path, *, settings: Mapping[str, object] | None = None, **copies: int
) -> AsyncIterator[Scenario]:
    """A scenario on a hub that the test may break: one of each service unless ``copies`` says otherwise."""
    counts = {"api": 1, "ws_gateway": 1, "scheduler": 1, "reaper": 1} | copies
    hub = HubProcesses(folder / "hub", copies=counts, settings={**QUICK, **(settings or {})})
    try:
        await hub.start()
        async with scenario_on(hub, folder) as scenario:
            yield scenario
    finally:
        hub.stop()
