"""Loading and calling the Lua scripts.

A script's header is its contract and is parsed: ``ARGV`` names the arguments (one ending in ``...`` takes the rest),
``ITEMS`` the fields of a repeated group after them, ``INCLUDE`` the shared pieces, ``RETURNS`` the codes. The loader
puts the included pieces and the binding of the names in front of the body, and a call with a missing or unknown
argument fails before the network.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import TypeAlias

from agentcom.store.guard import claim
from agentcom.store.link import CommandError, Link, RedisValue
from agentcom.store.linker import link
from agentcom.store.replies import as_bytes, as_int, as_list

HEADER_FIELD = re.compile(r"^-- (ARGV|ITEMS|RETURNS|EVENTS|INCLUDE): (.*)$")
RETURN_CODE = re.compile(r"(?:^|\|)\s*([A-Z_]+)")

#: What a guarded variant needs besides the script's own includes, in order, and its first arguments.
GUARD_INCLUDES = ("keys", "clock", "stats", "rate")
GUARD_ARGUMENTS = 5

Argument: TypeAlias = str | bytes | int | float


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """One transition: its contract and its complete source."""

    name: str
    arguments: tuple[str, ...]
    rest: str | None
    item_fields: tuple[str, ...]
    returns: frozenset[str]
    events: tuple[str, ...]
    includes: tuple[str, ...]
    source: str
    sha: str

    def bind(
        self, arguments: Mapping[str, Argument], *, items: Sequence[Mapping[str, Argument]], rest: Sequence[Argument]
    ) -> list[Argument]:
        """The argument list for Redis. Raises :class:`TypeError` if the names are not exactly the header's."""
        try:
            bound: list[Argument] = [arguments[name] for name in self.arguments]
        except KeyError:
            bound = []
        if len(arguments) != len(self.arguments) or len(bound) != len(arguments):
            raise TypeError(f"{self.name} takes {self.arguments}, not {tuple(arguments)}")
        if (items and not self.item_fields) or (rest and not self.rest):
            raise TypeError(f"{self.name} takes no items")
        for item in items:
            if len(item) != len(self.item_fields):
                raise TypeError(f"{self.name} items have {self.item_fields}, not {tuple(item)}")
            bound += [item[name] for name in self.item_fields]
        bound += rest
        return bound


@dataclass(frozen=True, slots=True)
class Reply:
    """What a script answered: a code of its header and the fields that go with it."""

    code: str
    fields: list[RedisValue]

    def text(self, index: int) -> str:
        value = self.fields[index]
        return value.decode() if isinstance(value, bytes) else str(value)

    def number(self, index: int) -> int:
        return as_int(self.fields[index])

    def raw(self, index: int) -> bytes:
        return as_bytes(self.fields[index])


def _lua(folder: Traversable, name: str) -> str:
    return folder.joinpath(*f"{name}.lua".split("/")).read_text(encoding="utf-8")


def _header(source: str) -> dict[str, str]:
    return {match[1]: match[2].strip() for line in source.splitlines() if (match := HEADER_FIELD.match(line))}


def _prelude(arguments: Sequence[str], rest: str | None, item_fields: Sequence[str], *, skip: int = 0) -> str:
    """Binds the names of the header; ``skip`` arguments come before them."""
    lines = [f"local {name} = ARGV[{index}]" for index, name in enumerate(arguments, start=1 + skip)]
    after = len(arguments) + 1 + skip
    if rest:
        lines += [f"local {rest} = {{}}", f"for i = {after}, #ARGV do {rest}[#{rest} + 1] = ARGV[i] end"]
    if item_fields:
        fields = ", ".join(f"{name} = ARGV[i + {offset}]" for offset, name in enumerate(item_fields))
        lines += [
            "local items = {}",
            f"for i = {after}, #ARGV, {len(item_fields)} do items[#items + 1] = {{{fields}}} end",
        ]
    return "\n".join(lines)


def parse(name: str, *, guarded: bool = False, shifted_clock: bool = False) -> Script:
    """Reads one script and puts it together; ``guarded`` gives the variant that takes a token first."""
    folder = files("agentcom.store").joinpath("lua")
    body = _lua(folder, name)
    header = _header(body)
    shebang, _, body = body.partition("\n")
    if not shebang.startswith("#!lua"):
        raise ValueError(f"{name}: the first line must be a shebang")
    names = header.get("ARGV", "").split()
    rest = names.pop()[:-3] if names and names[-1].endswith("...") else None
    item_fields = tuple(header.get("ITEMS", "").split())
    includes = tuple(header.get("INCLUDE", "").split())
    pieces = includes
    body = "\n".join([_prelude(names, rest, item_fields, skip=GUARD_ARGUMENTS if guarded else 0), body])
    if guarded:
        pieces = (*GUARD_INCLUDES, *(piece for piece in includes if piece not in GUARD_INCLUDES))
        shebang = shebang.replace("no-writes", "allow-oom")
        body = _guarded(body)
    sources = [_lua(folder, f"include/{_variant(piece, shifted_clock=shifted_clock)}") for piece in pieces]
    source = "\n".join([shebang, link(sources, body)])
    return Script(
        name=name,
        arguments=tuple(names),
        rest=rest,
        item_fields=item_fields,
        returns=frozenset(RETURN_CODE.findall(header.get("RETURNS", ""))),
        events=tuple(header.get("EVENTS", "").split()),
        includes=includes,
        source=source,
        sha=hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest(),
    )


def _variant(include: str, *, shifted_clock: bool) -> str:
    return "clock_shifted" if include == "clock" and shifted_clock else include


def _guarded(body: str) -> str:
    """The same work behind a token bucket: without a token nothing of it is done."""
    return f"""local function run()
{body}
end
local verdict, left, limit = take_token(ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5])
if verdict == 'deny' then return {{verdict, left, limit}} end
return {{verdict, left, limit, run()}}"""


def names() -> list[str]:
    """Every script, as ``folder/name``."""
    folder = files("agentcom.store").joinpath("lua")
    found: list[str] = []
    for entry in folder.iterdir():
        if entry.is_dir() and entry.name != "include":
            found += [f"{entry.name}/{file.name[:-4]}" for file in entry.iterdir() if file.name.endswith(".lua")]
        elif entry.name.endswith(".lua"):
            found.append(entry.name[:-4])
    return sorted(found)


@cache
def load(name: str, *, guarded: bool = False, shifted_clock: bool = False) -> Script:
    """As :func:`parse`, once per process."""
    return parse(name, guarded=guarded, shifted_clock=shifted_clock)


def new_call_id() -> str:
    """An id for one call, the same however often the link sends it."""
    return secrets.token_hex(8)


class Scripts:
    """Calls scripts for one namespace over one :class:`Link`.

    A script is loaded into Redis ahead of its first call, on the same connection, and by :meth:`greeting` on every
    later one: so EVALSHA finds it and calls keep their order. What a process never calls costs neither it nor Redis
    anything.
    """

    def __init__(self, link: Link, *, root: str, shifted_clock: bool = False) -> None:
        self._link = link
        self._root = root
        self._shifted_clock = shifted_clock
        self._loaded: dict[str, Script] = {}

    def greeting(self) -> list[tuple[bytes, ...]]:
        """What a new connection sends first, so that EVALSHA finds every script called so far."""
        return [(b"SCRIPT", b"LOAD", script.source.encode()) for script in self._loaded.values()]

    async def call(
        self,
        name: str,
        /,
        *,
        items: Sequence[Mapping[str, Argument]] = (),
        rest: Sequence[Argument] = (),
        **arguments: Argument,
    ) -> Reply:
        """Runs a script and returns its reply, whatever its code.

        Raises
        ------
        StoreUnavailable
            No answer came in time; the script may or may not have run, and may be called again.
        StoreFull
            Redis is out of memory and the script may not add to it.
        RateLimited
            The request's guard has no token left; the script did nothing.
        """
        guard = claim()
        script = load(name, guarded=guard is not None, shifted_clock=self._shifted_clock)
        bound = script.bind(arguments, items=items, rest=rest)
        if guard is None:
            reply = await self._run(script, bound)
        else:
            guarded = as_list(await self._run(script, [*guard.arguments, *bound]))
            guard.settle(as_bytes(guarded[0]).decode(), left=as_int(guarded[1]), limit=as_int(guarded[2]))
            reply = guarded[3]
        code_name, *fields = as_list(reply)
        code = as_bytes(code_name).decode()
        if code not in script.returns:
            raise ValueError(f"{name} answered {code}, which its header does not name")
        return Reply(code, fields)

    async def _run(self, script: Script, bound: Sequence[Argument]) -> RedisValue:
        if script.sha not in self._loaded:
            self._loaded[script.sha] = script
            self._link.call("SCRIPT", "LOAD", script.source).add_done_callback(_disregard)
        try:
            return await self._link.call("EVALSHA", script.sha, 1, self._root, *bound)
        except CommandError as error:
            if not str(error).startswith("NOSCRIPT"):
                raise
            return await self._link.call("EVAL", script.source, 1, self._root, *bound)


def _disregard(loading: asyncio.Future[RedisValue]) -> None:
    """Whatever became of it, the call behind it has the same fate or loads the script itself."""
    if not loading.cancelled():
        loading.exception()
