"""Putting a script together from the pieces it includes.

Redis runs a script's whole chunk on every call, so each local function above the body costs a closure a call. The
linker therefore takes over only the definitions that the script reaches. An include is a list of definitions, each
beginning with ``local`` in the first column and using only what stands above it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

DEFINITION = re.compile(r"^local (?:function )?([A-Za-z_]\w*(?:, *[A-Za-z_]\w*)*)", re.MULTILINE)
IDENTIFIER = re.compile(r"[A-Za-z_]\w*")
COMMENT_LINE = re.compile(r"^\s*--.*\n?", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Definition:
    """One ``local`` of an include: the names it defines and its source without comment lines."""

    names: frozenset[str]
    source: str

    @property
    def identifiers(self) -> set[str]:
        return set(IDENTIFIER.findall(self.source))


def definitions(include: str) -> list[Definition]:
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
    return found


def link(includes: Sequence[str], body: str) -> str:
    """The body with what it needs of the includes in front of it."""
    needed = set(IDENTIFIER.findall(COMMENT_LINE.sub("", body)))
    kept: list[str] = []
    for definition in reversed([entry for include in includes for entry in definitions(include)]):
        if definition.names & needed:
            needed |= definition.identifiers
            kept.append(definition.source)
    return "\n".join([*reversed(kept), body])
