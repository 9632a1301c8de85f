"""What the Redis server says of itself, and what of it endangers the hub's promises."""

from __future__ import annotations

from dataclasses import dataclass

from agentcom.store.link import Link
from agentcom.store.replies import as_bytes

#: Of maxmemory; above it there is little time left before new work is refused.
MEMORY_HIGH = 0.9


@dataclass(frozen=True, slots=True)
class Concern:
    """Something an operator should change. ``code`` is stable, ``message`` is one sentence."""

    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerState:
    """Sizes are bytes; ``max_memory`` 0 is no limit."""

    version: str
    eviction_policy: str
    append_only: bool
    append_only_ok: bool
    snapshot_ok: bool
    used_memory: int
    max_memory: int

    def concerns(self) -> list[Concern]:
        found = []
        if self.eviction_policy != "noeviction":
            found.append(
                Concern(
                    "evicts_keys",
                    f"Redis has maxmemory-policy {self.eviction_policy}: when it is full it deletes tasks and tokens; "
                    "set it to noeviction.",
                )
            )
        if not self.append_only:
            found.append(
                Concern(
                    "append_only_off",
                    "Redis keeps no append-only file: acknowledged tasks are lost when it ends; set appendonly to yes.",
                )
            )
        if self.append_only and not self.append_only_ok:
            found.append(
                Concern(
                    "append_only_failing",
                    "Redis could not write its append-only file: look at its log and at the free space of its disk.",
                )
            )
        if not self.snapshot_ok:
            found.append(
                Concern(
                    "snapshot_failing",
                    "Redis could not save its last snapshot: look at its log and at the free space of its disk.",
                )
            )
        if self.max_memory and self.used_memory > MEMORY_HIGH * self.max_memory:
            percent = round(100 * self.used_memory / self.max_memory)
            found.append(
                Concern(
                    "memory_high",
                    f"Redis uses {percent} % of its maxmemory: when it is full no new task is admitted; raise it.",
                )
            )
        return found


class ServerStore:
    """Reads the server's state. INFO is all it takes: managed servers refuse CONFIG."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def state(self) -> ServerState:
        """Raises :class:`StoreUnavailable`."""
        replies = [self._link.call("INFO", section) for section in ("server", "memory", "persistence")]
        info: dict[str, str] = {}
        for reply in replies:
            for line in as_bytes(await reply).decode().splitlines():
                name, separator, value = line.partition(":")
                if separator:
                    info[name] = value
        return ServerState(
            version=info.get("redis_version", "unknown"),
            eviction_policy=info.get("maxmemory_policy", "noeviction"),
            append_only=info.get("aof_enabled", "0") == "1",
            append_only_ok=info.get("aof_last_write_status", "ok") == "ok",
            snapshot_ok=info.get("rdb_last_bgsave_status", "ok") == "ok",
            used_memory=int(info.get("used_memory", 0)),
            max_memory=int(info.get("maxmemory", 0)),
        )
