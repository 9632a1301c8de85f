"""Putting a script together from the pieces it includes.

Redis runs a script's whole chunk on every call, so each local function above the body costs a closure a call. The
linker therefore takes over only the definitions that the script reaches, and spells keys out where they are asked for
(see :mod:`agentcom.store.key_calls`). An include is a list of definitions, each beginning with ``local`` in the first
column and using only what stands above it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from agentcom.store.key_calls import KeyCalls

DEFINITION = re.compile(r"^local (?:function )?([A-Za-z_]\w*(?:, *[A-Za-z_]\w*)*)", re.MULTILINE)
IDENTIFIER = re.compile(r"[A-Za-z_]\w*")
COMMENT_LINE = re.compile(r"^\s*--.*\n?", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Definition:
    """One ``local`` of an include: the names it defines and its source without comment lines."""

    names: frozenset[str]
    source: str


@cache
def definitions(include: str) -> tuple[Definition, ...]:
    """The definitions of an include, in order."""
    source = COMMENT_LINE.sub("", include)
    starts = [match.start() for match in DEFINITION.finditer(source)]
    if source[: starts[0] if starts else None].strip():
        raise ValueError("an include must begin with a definition")
    found = []
    for start, end in zip(starts, [*starts[1:], len(source)], strict=True):
        text = source[start:end].rstrip()
        match = DEFINITION.match(text)
        names = match[1] if match else ""
        found.append(Definition(frozenset(names.replace(" ", "").split(",")), text))
    return tuple(found)


def link(includes: Sequence[str], body: str) -> str:
    """The body with what it needs of the includes in front of it."""
    available = [entry for include in includes for entry in definitions(include)]
    keys = KeyCalls([entry.source for entry in available])
    body = keys.spelled_out(COMMENT_LINE.sub("", body))
    needed = set(IDENTIFIER.findall(body))
    kept: list[str] = []
    for definition in reversed(available):
        if definition.names & needed:
            source = keys.spelled_out(definition.source)
            needed |= set(IDENTIFIER.findall(source))
            kept.append(source)
    return "\n".join([*reversed(kept), body])
