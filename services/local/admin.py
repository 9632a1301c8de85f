"""What an operator does to a hub's store, whether the hub runs or not."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from agentcom.domain.names import is_agent_id, is_reserved_agent_id
from agentcom.domain.tasks import Priority, TaskStatus
from agentcom.errors import StoreUnavailable
from agentcom.settings import SECOND, Settings
from agentcom.store.audit import audit
from agentcom.store.server import ServerState
from agentcom.store.services import Beat
from agentcom.store.store import Store
from agentcom.store.tasks import TaskCounts
from agentcom.store.tokens import Role, new_token
from services.local.redis_server import DataDirInUse, EmbeddedRedis
from services.local.welcome import print_text, shown
from services.runtime import StartupError
from services.stores import opened_store

ANSWER_WITHIN_S: Final = 3.0
#: Services beat every five seconds.
LIVE_WITHIN_MS: Final = 15 * SECOND
_MIB: Final = 1024 * 1024


@asynccontextmanager
async def hub_store(settings: Settings) -> AsyncIterator[Store]:
    """The store of the hub that these settings describe.

    An embedded Redis that does not run is started for the time being. Raises StartupError or StoreUnavailable.
    """
    async with (
        _hub_redis(settings) as url,
        opened_store(settings.model_copy(update={"redis_url": url})) as store,
    ):
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                await store.services.ping()
        except (TimeoutError, StoreUnavailable):
            where = "of AGENTCOM_REDIS_URL" if settings.redis_url else f"in {shown(settings.data_dir)}"
            raise StoreUnavailable(f"The Redis {where} does not answer; is it running?") from None
        yield store


@asynccontextmanager
async def _hub_redis(settings: Settings) -> AsyncIterator[str]:
    if settings.redis_url is not None:
        yield settings.redis_url
        return
    if not (settings.data_dir / "redis").exists():
        raise StartupError(
            f"there is no hub in {shown(settings.data_dir)}: start one by `agentcom up`, "
            "or say where it is by AGENTCOM_DATA_DIR or AGENTCOM_REDIS_URL."
        )
    redis = EmbeddedRedis(settings.data_dir, appendfsync=settings.appendfsync)
    try:
        await redis.start()
    except DataDirInUse:
        yield redis.url  # a running hub's
        return
    try:
        yield redis.url
    finally:
        redis.stop()


# -- tokens ------------------------------------------------------------------------------------------------------------


async def create_token(settings: Settings, *, agent_id: str, role: str, out: str | None, stdout: bool) -> int:
    if not is_agent_id(agent_id) or is_reserved_agent_id(agent_id):
        raise StartupError(f"{agent_id!r} can't be an agent id: letters, digits and ._- only, and no reserved word.")
    if role not in set(Role):
        raise StartupError(f"{role!r} is no role: it is one of {', '.join(Role)}.")
    path = Path(out) if out else settings.data_dir / f"{agent_id}.token"
    made = new_token()
    if not stdout:
        try:
            _write_private(path, made)
        except FileExistsError as error:
            raise StartupError(f"{shown(path)} exists already: name another file by --out.") from error
        except OSError as error:
            raise StartupError(f"{shown(path)} can't be written: {error.strerror or error}.") from error
    try:
        async with hub_store(settings) as store:
            await store.tokens.mint(agent_id, role=Role(role), token=made)
    except BaseException:
        if not stdout:
            path.unlink(missing_ok=True)
        raise
    print(made if stdout else f"A token of {agent_id} ({role}) is in {shown(path)}.")
    return 0


def _write_private(path: Path, text: str) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text + "\n")


# -- looking -----------------------------------------------------------------------------------------------------------


async def check(settings: Settings) -> int:
    async with hub_store(settings) as store:
        findings = await audit(store)
        tasks = (await store.tasks.counts()).submitted
    for finding in findings:
        print(finding)
    well = f"All is well: every submitted task is accounted for ({tasks} in all)."
    print(f"{len(findings)} findings" if findings else well)
    return 1 if findings else 0


async def stats(settings: Settings) -> int:
    async with hub_store(settings) as store:
        counts, connected, state, now, beats = await asyncio.gather(
            store.tasks.counts(),
            store.agents.count(),
            store.server.state(),
            store.services.now(),
            store.services.beats(live_within_ms=LIVE_WITHIN_MS),
        )
    console = Console(highlight=False)
    console.print(_task_table(counts))
    print_text(console, f"\n  agents connected  {connected}")
    print_text(console, f"  tasks submitted   {counts.submitted}, {counts.pruned} of them removed by retention")
    for line in (*_service_lines(beats, now=now), *_server_lines(state)):
        print_text(console, line)
    return 0


def _task_table(counts: TaskCounts) -> Table:
    table = Table("tasks", *(priority.label for priority in Priority), "total", box=None, pad_edge=True)
    for column in table.columns[1:]:
        column.justify = "right"
    for status in TaskStatus:
        numbers = [str(number) if number else "·" for number in counts.by_status[status]]
        table.add_row(status.value.replace("_", " "), *numbers, str(counts.total(status)))
    return table


def _service_lines(beats: list[Beat], *, now: int) -> list[str]:
    if not beats:
        return ["  services          none runs"]
    lines = []
    for beat in beats:
        state = "live" if beat.live else f"stalled: {', '.join(beat.stalled)}" if beat.stalled else "silent"
        age = f"{max(0, now - beat.at) / SECOND:.0f} s ago"
        lines.append(f"  {beat.service:<17} {state}, {age}, {escape(beat.instance)}")
    return lines


def _server_lines(state: ServerState) -> list[str]:
    limit = f" of {state.max_memory // _MIB} MiB" if state.max_memory else ""
    first = f"  Redis {state.version:<11} {state.used_memory // _MIB} MiB{limit}, append-only file "
    first += "on" if state.append_only else "off"
    return [first, *(f"  [yellow]{escape(concern.message)}[/]" for concern in state.concerns())]
