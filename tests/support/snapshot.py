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
``(event, timestamp, details)``, frames in an outbox are decoded, and kept answers are without the id of their call.
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


#: Every key under a pattern with its type, its time to live and its content.
_DUMP: Final = """#!lua flags=no-writes
local read = {
  string = function(key) return redis.call('GET', key) end,
  hash = function(key) return redis.call('HGETALL', key) end,
  list = function(key) return redis.call('LRANGE', key, 0, -1) end,
  set = function(key) return redis.call('SMEMBERS', key) end,
  zset = function(key) return redis.call('ZRANGE', key, 0, -1, 'WITHSCORES') end,
  stream = function(key) return redis.call('XRANGE', key, '-', '+') end,
}
local found, cursor = {}, '0'
repeat
  local page = redis.call('SCAN', cursor, 'MATCH', ARGV[1], 'COUNT', 10000)
  cursor = page[1]
  for _, key in ipairs(page[2]) do
    local kind = redis.call('TYPE', key).ok
    found[#found + 1] = {key, kind, redis.call('PTTL', key), read[kind](key)}
  end
until cursor == '0'
return found
"""


async def dump(store: Store) -> Dump:
    """Everything in the store's namespace at one moment, but for the clock's shift and the counters by the hour."""
    root = store.keys.root
    apart = (store.keys.clock_shift(), store.keys.known_agents(), store.keys.stats(""))
    pattern = _GLOB.sub(r"\\\1", root) + "*"
    content: Dump = {}
    for entry in as_list(await store.link.call("EVAL", _DUMP, 1, root, pattern)):
        raw_name, raw_kind, ttl, reply = as_list(entry)
        name, kind = as_bytes(raw_name).decode(), as_bytes(raw_kind).decode()
        if name.startswith(apart):
            continue
        short = name.removeprefix(root)
        content[short] = _decode(short, kind, reply)
        if (left := as_int(ttl)) >= 0:
            content[f"{short} ttl"] = math.ceil(left / 1_000)
    return dict(sorted(content.items()))


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


def _decode(name: str, kind: str, reply: RedisValue) -> Any:
    if kind == "hash":
        return {
            field.decode(): _value(value.partition(b":")[2] if field == b"answered" else value)
            for field, value in as_pairs(reply)
        }
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
