"""A whole namespace as plain data, and what a call changed in it.

A dump maps each key, without the namespace's root, to its content:

======  ==============================================================================================
string  its value
hash    field -> value
list    list of values
set     member -> ``HERE``
zset    member -> score
stream  entry id -> fields
======  ==============================================================================================

Integers are ints, other text is str, times to live are under ``<key> ttl`` in whole seconds. History entries are
``(event, timestamp, details)``, and frames in an outbox are decoded.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Awaitable, Mapping
from typing import Any, Final, TypeAlias

from agentcom.store.link import Link, RedisValue
from agentcom.store.replies import as_bytes, as_int, as_list, as_pairs
from agentcom.store.store import Store

Dump: TypeAlias = dict[str, Any]
Changes: TypeAlias = dict[str, Any]

#: In a diff: this field, member or entry is gone.
GONE: Final = "<gone>"
#: The value of a set's member.
HERE: Final = "<here>"

_INTEGER: Final = re.compile(r"-?(?:0|[1-9]\d{0,17})")
_GLOB: Final = re.compile(r"([*?\[\]\\])")


async def dump(store: Store) -> Dump:
    """Everything in the store's namespace, except what tests set to move its clock."""
    root = store.keys.root
    names = sorted(name for name in await _scan(store.link, root) if name != store.keys.clock_shift())
    types = [store.link.call("TYPE", name) for name in names]
    ttls = [store.link.call("PTTL", name) for name in names]
    calls = [
        store.link.call(*_READ[as_bytes(await kind).decode()](name)) for name, kind in zip(names, types, strict=True)
    ]
    content: Dump = {}
    for name, kind, ttl, call in zip(names, types, ttls, calls, strict=True):
        short = name.removeprefix(root)
        content[short] = _decode(short, as_bytes(await kind).decode(), await call)
        if (left := as_int(await ttl)) >= 0:
            content[f"{short} ttl"] = math.ceil(left / 1_000)
    return content


async def wipe(store: Store) -> None:
    """Removes everything in the store's namespace."""
    names = await _scan(store.link, store.keys.root)
    if names:
        await store.link.call("UNLINK", *names)


async def changes(store: Store, call: Awaitable[object]) -> Changes:
    """What a call changed in the whole namespace; see :func:`diff`."""
    before = await dump(store)
    await call
    return diff(before, await dump(store))


def diff(before: Dump, after: Dump) -> Changes:
    """The keys whose content differs, each with what differs.

    Of hashes, sets and zsets the new values of changed fields or members, ``GONE`` for those that are not there any
    more. Of streams the list of the entries added, and ``GONE`` for each one removed. Of lists the entries put in
    front. Of strings the new value.
    """
    found: Changes = {}
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        if old != new:
            found[name] = _difference(old, new)
    return found


def _difference(old: Any, new: Any) -> Any:
    if isinstance(old, _Stream) or isinstance(new, _Stream):
        old, new = old or {}, new or {}
        return [new[entry] for entry in new if entry not in old] + [GONE for entry in old if entry not in new]
    if isinstance(old, Mapping) or isinstance(new, Mapping):
        old, new = old or {}, new or {}
        changed = {name: value for name, value in new.items() if name not in old or old[name] != value}
        return changed | dict.fromkeys((name for name in old if name not in new), GONE)
    if isinstance(old, list) or isinstance(new, list):
        if new is None:
            return GONE
        old = old or []
        for added in range(len(new) + 1):
            if new[added:] == old[: len(new) - added]:
                return new[:added]
        return new
    return GONE if new is None else new


class _Stream(dict[str, Any]):
    """Entry id -> fields."""


async def _scan(link: Link, root: str) -> list[str]:
    names: set[str] = set()
    cursor = b"0"
    while True:
        reply = as_list(await link.call("SCAN", cursor, "MATCH", _GLOB.sub(r"\\\1", root) + "*", "COUNT", 10_000))
        cursor = as_bytes(reply[0])
        names |= {as_bytes(name).decode() for name in as_list(reply[1])}
        if cursor == b"0":
            return list(names)


_READ: Final = {
    "string": lambda name: ("GET", name),
    "hash": lambda name: ("HGETALL", name),
    "list": lambda name: ("LRANGE", name, 0, -1),
    "set": lambda name: ("SMEMBERS", name),
    "zset": lambda name: ("ZRANGE", name, 0, -1, "WITHSCORES"),
    "stream": lambda name: ("XRANGE", name, "-", "+"),
    "none": lambda name: ("GET", name),
}


def _decode(name: str, kind: str, reply: RedisValue) -> Any:
    if kind == "hash":
        return {field.decode(): _value(value) for field, value in as_pairs(reply)}
    if kind == "zset":
        return {member.decode(): _score(score) for member, score in as_pairs(reply)}
    if kind == "set":
        return {as_bytes(member).decode(): HERE for member in as_list(reply)}
    if kind == "list":
        entries = [as_bytes(entry) for entry in as_list(reply)]
        return [_history(entry) if name.startswith("history:") else _value(entry) for entry in entries]
    if kind == "stream":
        return _Stream(
            (as_bytes(entry_id).decode(), _entry(name, dict(as_pairs(fields))))
            for entry_id, fields in (as_list(entry) for entry in as_list(reply))
        )
    return _value(as_bytes(reply))


def _value(raw: bytes) -> int | str:
    text = raw.decode()
    return int(text) if _INTEGER.fullmatch(text) else text


def _score(raw: bytes) -> int | float:
    score = float(raw)
    return int(score) if score.is_integer() else score


def _history(raw: bytes) -> tuple[str, int, Any]:
    entry = json.loads(raw)
    return entry["event"], entry["timestamp"], entry["details"]


def _entry(name: str, fields: Mapping[bytes, bytes]) -> dict[str, Any]:
    entry: dict[str, Any] = {field.decode(): _value(value) for field, value in fields.items()}
    if name.startswith("out:") and fields[b"kind"] in {b"assign", b"cancel"}:
        entry["frame"] = json.loads(fields[b"frame"])
    return entry
