"""``agentcom demo``: a hub, three sidecars with a real agent each, and a batch of tasks, all on this machine.

Everything is a process of its own and talks as it would anywhere: HTTP to the hub, WebSockets from the sidecars.
"""

from __future__ import annotations

import asyncio
import fcntl
import importlib.util
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.markup import escape

from agentcom.settings import Settings
from agentcom_client import AsyncClient, HubError, HubUnreachable, Registration
from services.api.bootstrap import ADMIN_FILE
from services.local.children import Children
from services.local.demo_tasks import AGENTS, NEXT_TASK, DemoAgent, bulk, singles
from services.local.demo_view import Moment, View, completion_line
from services.local.welcome import hub_url, print_command, print_onboarding, print_text, shown, submit_command
from services.runtime import StartupError

_AGENT: Final = Path(__file__).with_name("demo_agent.py")
_POLL_S: Final = 0.4
_START_S: Final = 60.0
_PATIENCE_S: Final = 180.0  #: for the whole batch; it takes about ten seconds on a laptop


def run_demo(settings: Settings, *, leave: bool) -> int:
    """Runs until Ctrl-C, or with ``leave`` until the batch is over. Returns 0, or 1 if a task did not complete.

    Raises StartupError.
    """
    if importlib.util.find_spec("agentcom_sidecar") is None:
        raise StartupError("the demo needs the package agentcom-sidecar: pip install it (in a checkout: ./sidecar).")
    settings = settings.model_copy(
        update={"data_dir": settings.data_dir / "demo", "host": "127.0.0.1", "public_url": None, "admin_token": None}
    )
    with _fresh(settings.data_dir):
        return asyncio.run(_Demo(settings, leave=leave).run())


@contextmanager
def _fresh(folder: Path) -> Iterator[None]:
    """An empty folder that no other demo uses meanwhile."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StartupError(f"another demo runs in {shown(folder)}: stop that one first.") from None
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        yield


class _Demo:
    def __init__(self, settings: Settings, *, leave: bool) -> None:
        self._settings = settings
        self._leave = leave
        self._folder = settings.data_dir.absolute()
        self._url = hub_url(settings)
        self._console = Console(highlight=False)
        self._children = Children()
        self._stop = asyncio.Event()

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(signum, self._on_signal)
        playing = asyncio.create_task(self._play())
        stopping = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({playing, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if playing.done():
                return await playing
            playing.cancel()
            await asyncio.wait({playing})
            self._say("\nstopping ...")
            return 0
        finally:
            stopping.cancel()
            await self._children.stop()

    def _on_signal(self) -> None:
        if self._stop.is_set():
            self._children.kill()
        self._stop.set()

    def _say(self, text: str) -> None:
        print_text(self._console, text)

    async def _play(self) -> int:
        self._say(f"starting a hub at {escape(self._url)} and {len(AGENTS)} agents ...")
        self._start_hub()
        try:
            async with self._client() as stranger:
                await self._until_ready(stranger)
                for agent in AGENTS:
                    self._start_sidecar(agent, await stranger.register(agent.id))
            token = (self._folder / ADMIN_FILE).read_text(encoding="ascii").strip()
            async with self._client(token) as hub:
                await self._until_connected(hub)
                ids = await self._submit(hub)
                last = await self._watch(hub, ids)
                completed = last.count("completed") == len(ids)
                self._sum_up(last, completed=completed)
                if self._leave:
                    return 0 if completed else 1
                await self._stay(hub, seen=set(ids))
        except (HubError, HubUnreachable) as error:
            self._children.check()
            raise StartupError(f"the demo's hub does not do its part: {error} See {self._log('hub')}.") from error
        return 0

    def _client(self, token: str | None = None) -> AsyncClient:
        return AsyncClient(self._url, token=token, timeout=10, trust_env=False)

    # -- processes -------------------------------------------------------------------------------------------------

    def _log(self, name: str) -> Path:
        return self._folder / f"{name}.log"

    def _start_hub(self) -> None:
        # What is configured for a real hub must not reach this one.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AGENTCOM_")}
        environment |= {
            "AGENTCOM_DATA_DIR": str(self._folder),
            "AGENTCOM_HOST": self._settings.host,
            "AGENTCOM_PORT": str(self._settings.port),
            "AGENTCOM_LOG_FORMAT": "json",
        }
        command = [sys.executable, "-m", "services.local", "up"]
        self._children.start("the hub", command, environment=environment, log=self._log("hub"))

    def _start_sidecar(self, agent: DemoAgent, registered: Registration) -> None:
        home = self._folder / agent.id
        home.mkdir(mode=0o700)
        config = home / "config.json"
        config.touch(mode=0o600)
        config.write_text(
            json.dumps(
                {
                    "agent_id": agent.id,
                    "token": registered["token"],
                    "hub_url": registered["hub_ws_url"],
                    "hub_api_url": registered["hub_api_url"],
                    "capabilities": agent.capabilities,
                    "wake_command": [sys.executable, str(_AGENT)],
                },
                indent=2,
            )
        )
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AGENTCOM_")}
        command = [sys.executable, "-m", "agentcom_sidecar", "run", "--config", str(config)]
        self._children.start(agent.id, command, environment=environment, log=self._log(agent.id))

    # -- the hub's side ----------------------------------------------------------------------------------------------

    async def _until_ready(self, hub: AsyncClient) -> None:
        """Another hub may answer on that port; ours has taken the port when it writes its token."""
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            self._children.check()
            if (self._folder / ADMIN_FILE).exists():
                with suppress(HubError, HubUnreachable):
                    await hub.ready()
                    return
            await asyncio.sleep(0.1)
        raise StartupError(f"the demo's hub did not get ready in {_START_S:g} s: see {shown(self._log('hub'))}.")

    async def _until_connected(self, hub: AsyncClient) -> None:
        deadline = time.monotonic() + _START_S
        while len(await hub.agent_states()) < len(AGENTS):
            self._children.check()
            if time.monotonic() > deadline:
                raise StartupError(f"the demo's agents did not connect: see the logs in {shown(self._folder)}.")
            await asyncio.sleep(0.05)

    async def _submit(self, hub: AsyncClient) -> list[str]:
        batch = await hub.submit_many(bulk())
        rest = singles(now=batch[0]["created_at"])
        return [task["task_id"] for task in batch] + [await hub.submit(**task) for task in rest]

    async def _moment(self, hub: AsyncClient, started: float) -> Moment:
        tasks, dead, agents = await asyncio.gather(hub.tasks(), hub.tasks(status="dead_letter"), hub.agent_states())
        return Moment(tasks=[*tasks["tasks"], *dead["tasks"]], agents=agents, elapsed=time.monotonic() - started)

    async def _watch(self, hub: AsyncClient, ids: list[str]) -> Moment:
        """Shows the batch until it is over, or has taken too long."""
        started = time.monotonic()
        with View(self._console, title=f"AgentCom demo   {self._url}") as view:
            while True:
                self._children.check()
                moment = await self._moment(hub, started)
                view.show(moment)
                over = moment.count("completed") + moment.count("dead_letter") >= len(ids)
                if over or moment.elapsed > _PATIENCE_S:
                    return moment
                await asyncio.sleep(_POLL_S)

    # -- afterwards --------------------------------------------------------------------------------------------------

    def _sum_up(self, last: Moment, *, completed: bool) -> None:
        count = last.count("completed")
        if not completed:
            self._say(f"\n[bold red]{count} of {len(last.tasks)} tasks completed[/]: see {shown(self._folder)}.")
            return
        again = f", {last.retried} of them at the second attempt" if last.retried else ""
        self._say(f"\n[bold green]All {count} tasks completed[/] in {last.elapsed:.1f} s{again}.")

    async def _stay(self, hub: AsyncClient, *, seen: set[str]) -> None:
        token_file = self._folder / ADMIN_FILE
        self._say(f"\nThe hub and its agents stay up at [bold]{escape(self._url)}[/] until Ctrl-C.")
        self._say(f"The admin token and all logs are in {escape(shown(self._folder))}.\n")
        self._say("[bold]Submit a task[/] (what completes is shown below)")
        print_command(self._console, submit_command(self._url, token_file, NEXT_TASK))
        print_onboarding(self._console, self._url)
        started = time.monotonic()
        while True:
            self._children.check()
            for task in reversed((await self._moment(hub, started)).completions):
                if task["id"] not in seen:
                    seen.add(task["id"])
                    self._say(escape(completion_line(task)))
            await asyncio.sleep(1.0)
