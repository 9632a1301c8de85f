"""The supervisor inside one event loop: restarts, liveness, order, beats."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import httpx
import pytest

from services.runtime import (
    Backoff,
    BaseComponent,
    HttpServer,
    Phase,
    StartupError,
    Supervisor,
    health_app,
    pause,
)
from tests.support.eventually import eventually

QUICK = Backoff(first=0.001, cap=0.01)


class Loop(BaseComponent):
    """Touches, calls ``turn``, pauses; notes when it started and stopped."""

    def __init__(
        self, name: str, *, turn: Callable[[], None] = lambda: None, log: list[str] | None = None, silence: float = 30.0
    ) -> None:
        super().__init__(name, max_silence=silence)
        self.turn = turn
        self.log = log if log is not None else []
        self.runs = 0

    async def run(self, stop: asyncio.Event) -> None:
        self.runs += 1
        self.log.append(f"start {self.name}")
        while not stop.is_set():
            self.turn()
            self.touch()
            await pause(stop, 0.005)
        self.log.append(f"stop {self.name}")


class Stuck(BaseComponent):
    """Hangs without progress in its first runs."""

    def __init__(self, *, hang_in: int) -> None:
        super().__init__("stuck", max_silence=0.1)
        self.hang_in = hang_in
        self.runs = 0

    async def run(self, stop: asyncio.Event) -> None:
        self.runs += 1
        self.touch()
        if self.runs <= self.hang_in:
            await asyncio.Event().wait()
        while not await pause(stop, 0.005):
            self.touch()


@asynccontextmanager
async def running(supervisor: Supervisor) -> AsyncIterator[Supervisor]:
    task = asyncio.create_task(supervisor.run())
    try:
        yield supervisor
    finally:
        supervisor.request_stop("test is over")
        async with asyncio.timeout(15):
            await task


async def test_phases() -> None:
    gate = asyncio.Event()

    class Gated(BaseComponent):
        async def run(self, stop: asyncio.Event) -> None:
            await gate.wait()
            self.touch()
            await stop.wait()

    seen: list[str] = []
    supervisor = Supervisor("s", [Loop("a"), Gated("b")], on_ready=lambda: seen.append("ready"))
    async with running(supervisor):
        await eventually(lambda: supervisor.health().components["a"].ready)
        assert supervisor.health().phase is Phase.STARTING
        assert not supervisor.health().ready
        assert seen == []
        gate.set()
        await supervisor.wait_ready()
        assert supervisor.health().ready
        assert seen == ["ready"]
    assert supervisor.health().phase is Phase.STOPPED
    assert not supervisor.health().ready


async def test_a_crashed_component_runs_again_and_the_others_do_not_notice() -> None:
    failures = iter([RuntimeError("one"), RuntimeError("two")])

    def turn() -> None:
        if error := next(failures, None):
            raise error

    steady, flaky = Loop("steady"), Loop("flaky", turn=turn)
    async with running(Supervisor("s", [steady, flaky], backoff=QUICK)) as supervisor:
        await supervisor.wait_ready()
        assert flaky.runs == 3
        assert steady.runs == 1
        assert supervisor.health().components["flaky"].restarts == 2


async def test_a_component_that_returns_unasked_runs_again() -> None:
    class Short(BaseComponent):
        runs = 0

        async def run(self, stop: asyncio.Event) -> None:
            self.touch()
            self.runs += 1
            if self.runs == 3:
                await stop.wait()

    short = Short("short")
    async with running(Supervisor("s", [short], backoff=QUICK)):
        await eventually(lambda: short.runs == 3)


async def test_a_stalled_component_is_cancelled_and_runs_again() -> None:
    stuck = Stuck(hang_in=2)
    async with running(Supervisor("s", [stuck], backoff=QUICK)) as supervisor:
        await eventually(lambda: stuck.runs == 3)
        await eventually(lambda: supervisor.health().live)
        assert supervisor.health().components["stuck"].restarts == 2


async def test_a_process_that_stood_still_does_not_count_it_against_its_components() -> None:
    class Waiting(BaseComponent):
        runs = 0

        async def run(self, stop: asyncio.Event) -> None:
            self.runs += 1
            self.touch()
            while not await pause(stop, 1.5):
                self.touch()

    waiting = Waiting("waiting", max_silence=2.0)
    async with running(Supervisor("s", [waiting], backoff=QUICK)) as supervisor:
        await supervisor.wait_ready()
        time.sleep(3)  # noqa: ASYNC251 - the whole loop stands still, as under SIGSTOP
        before = waiting.last_progress
        assert time.monotonic() - before > waiting.max_silence
        await eventually(lambda: waiting.last_progress > before)
        assert supervisor.health().live
        assert waiting.runs == 1


async def test_liveness_fails_without_progress_and_says_which_component() -> None:
    class Failing(BaseComponent):
        async def run(self, stop: asyncio.Event) -> None:
            raise RuntimeError("never gets anywhere")

    failing = Failing("failing", max_silence=0.05)
    supervisor = Supervisor("s", [Loop("fine"), failing], backoff=QUICK)
    server = HttpServer(health_app(supervisor), host="127.0.0.1", port=0)
    supervisor.add(server)
    server.bind()
    async with running(supervisor), httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as client:

        async def dead() -> None:
            response = await client.get("/health/live")
            assert response.status_code == 503
            assert response.headers["cache-control"] == "no-store"
            components = response.json()["components"]
            assert not components["failing"]["live"]
            assert components["fine"]["live"]

        await eventually(dead)
        assert (await client.get("/health/ready")).status_code == 503


async def test_components_stop_in_the_opposite_order() -> None:
    log: list[str] = []
    async with running(Supervisor("s", [Loop(name, log=log) for name in ("lease", "reader", "http")])) as supervisor:
        await supervisor.wait_ready()
    assert log == ["start lease", "start reader", "start http", "stop http", "stop reader", "stop lease"]


async def test_a_component_that_cannot_start_ends_the_service() -> None:
    def turn() -> None:
        raise StartupError("the moon is not full")

    log: list[str] = []
    supervisor = Supervisor("s", [Loop("fine", log=log), Loop("choosy", turn=turn)])
    with pytest.raises(StartupError, match="moon"):
        await supervisor.run()
    assert log[-1] == "stop fine"


async def test_beats_go_on_through_failures_and_the_drain() -> None:
    beats: list[Mapping[str, object]] = []

    async def beat(service: str, instance: str, detail: Mapping[str, object]) -> None:
        beats.append({"service": service, "instance": instance, **detail})
        if len(beats) == 2:
            raise ConnectionError("no store")

    class Lingering(BaseComponent):
        async def run(self, stop: asyncio.Event) -> None:
            self.touch()
            await stop.wait()
            await eventually(lambda: beats[-1]["phase"] == "draining")

    supervisor = Supervisor("reaper", [Lingering("lingering")], beat=beat, beat_interval=0.02)
    async with running(supervisor):
        await eventually(lambda: len(beats) > 3 and beats[-1]["phase"] == "ready")
    assert {entry["service"] for entry in beats} == {"reaper"}
    assert {entry["instance"] for entry in beats} == {supervisor.instance}


async def test_the_server_says_goodbye_before_it_stops_serving() -> None:
    answers: list[int] = []
    supervisor = Supervisor("s")

    async def goodbye() -> None:
        async with httpx.AsyncClient() as client:
            answers.append((await client.get(f"http://127.0.0.1:{server.port}/health/live")).status_code)

    server = HttpServer(health_app(supervisor), host="127.0.0.1", port=0, on_drain=goodbye)
    supervisor.add(server)
    async with running(supervisor):
        await supervisor.wait_ready()
    assert answers == [200]


async def test_a_crashed_server_comes_back_on_the_same_port() -> None:
    supervisor = Supervisor("s", backoff=QUICK)
    server = HttpServer(health_app(supervisor), host="127.0.0.1", port=0)
    server.max_silence = 0.0  # every look of the supervisor finds it stalled
    supervisor.add(server)
    async with running(supervisor):
        await eventually(lambda: supervisor.health().components["http"].restarts == 1)
        server.max_silence = 30.0
        port = server.port
        async with httpx.AsyncClient() as client:

            async def answers() -> bool:
                try:
                    return (await client.get(f"http://127.0.0.1:{port}/health/live")).status_code == 200
                except httpx.TransportError:
                    return False

            await eventually(answers)


def test_two_components_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="twin"):
        Supervisor("s", [Loop("twin"), Loop("twin")])


@pytest.mark.parametrize(("crashes", "longest"), [(1, 1.0), (2, 2.0), (3, 4.0), (10, 8.0), (10_000, 8.0)])
def test_backoff_doubles_up_to_its_cap(crashes: int, longest: float) -> None:
    delays = [Backoff(first=1.0, cap=8.0).delay(crashes) for _ in range(50)]
    assert all(longest / 2 <= delay <= longest for delay in delays)
    assert len(set(delays)) > 1
