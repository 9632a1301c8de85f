"""Walking through a namespace page by page, and looking at what seems wrong once more."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final, Literal

from agentcom.store.keys import Keys
from agentcom.store.link import Link, RedisValue
from agentcom.store.replies import as_bytes, as_list, as_pairs
from agentcom.store.scripts import Scripts
from agentcom.store.store import Store

PAGE: Final = 200

Findings = dict[str, list[str]]
"""By subject, so that the second look can be compared with the first."""

Check = Callable[[Sequence[str]], Awaitable[Findings]]
Index = Literal["queue", "idle", "filed", "gateway", "subscribers", "replies"]
Scan = Literal["ZSCAN", "SSCAN", "HSCAN"]


class Walk:
    """One walk, and what it met that has to be looked at again."""

    def __init__(self, store: Store) -> None:
        self._link: Link = store.link
        self._scripts: Scripts = store.scripts
        self._keys: Keys = store.keys
        self._suspects: list[tuple[Check, Findings]] = []

    @property
    def has_suspects(self) -> bool:
        return bool(self._suspects)

    async def names(self) -> AsyncIterator[Mapping[str, list[str]]]:
        """Every key of the namespace: what follows its kind, by kind."""
        root, cursor = self._keys.root, b"0"
        while True:
            reply = as_list(await self._link.call("SCAN", cursor, "MATCH", f"{root}*", "COUNT", PAGE))
            cursor = as_bytes(reply[0])
            names: dict[str, list[str]] = defaultdict(list)
            for key in as_list(reply[1]):
                kind, _, name = as_bytes(key).decode().removeprefix(root).partition(":")
                names[kind].append(name)
            yield names
            if cursor == b"0":
                return

    async def members(self, key: str, *, command: Scan = "ZSCAN") -> AsyncIterator[list[str]]:
        """The members of a collection, or the fields of a hash."""
        cursor = b"0"
        while True:
            reply = as_list(await self._link.call(command, key, cursor, "COUNT", PAGE))
            cursor = as_bytes(reply[0])
            if command == "SSCAN":
                names = [as_bytes(member) for member in as_list(reply[1])]
            else:
                names = [name for name, _ in as_pairs(reply[1])]
            # A small collection is answered whole, whatever COUNT says.
            for start in range(0, len(names), PAGE):
                yield [name.decode() for name in names[start : start + PAGE]]
            if cursor == b"0":
                return

    async def look(self, check: Check, pages: AsyncIterator[list[str]]) -> None:
        """The first look; what it finds is looked at again at the end."""
        async for page in pages:
            if found := await check(page):
                self._suspects.append((check, found))

    async def look_again(self) -> list[str]:
        """What is still as it was at the first look."""
        findings: list[str] = []
        for check, first in self._suspects:
            second = await check(list(first))
            findings += [text for subject in first for text in second.get(subject, []) if text in first[subject]]
        return findings

    def membership(self, kind: Index, index: str) -> Check:
        """Whether the members of an index belong there; see ``audit/members``."""

        async def check(names: Sequence[str]) -> Findings:
            reply = await self._scripts.call("audit/members", kind=kind, index=index, rest=names)
            verdicts = [as_bytes(verdict).decode() for verdict in reply.fields]
            return {
                name: [f"{name!r} is in {kind} {index!r} but does not belong there: {verdict}"]
                for name, verdict in zip(names, verdicts, strict=True)
                if verdict
            }

        return check


async def once(names: Iterable[str]) -> AsyncIterator[list[str]]:
    """Names that are known already, as a page; none if there are none."""
    if page := list(names):
        yield page


def found(findings: Iterable[tuple[str, Iterable[str]]]) -> Findings:
    """Sentences by subject, without the subjects of which there is nothing to say."""
    return {subject: texts for subject, lines in findings if (texts := list(lines))}


def as_text(value: RedisValue) -> str | None:
    return None if value is None else as_bytes(value).decode()


def as_number(value: RedisValue) -> float | None:
    """None for what is not there, also where that is told by an empty text."""
    return None if value in {None, b""} else float(as_bytes(value))
