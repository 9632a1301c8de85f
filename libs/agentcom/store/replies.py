"""Narrowing what Redis answers to the type a command is known to answer with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from agentcom.store.link import RedisValue


def as_list(value: RedisValue) -> list[RedisValue]:
    return cast("list[RedisValue]", value)


def as_bytes(value: RedisValue) -> bytes:
    return cast("bytes", value)


def as_int(value: RedisValue) -> int:
    return int(cast("bytes | int", value))


def as_pairs(value: RedisValue) -> Iterator[tuple[bytes, bytes]]:
    """The pairs of a flat reply: HGETALL's fields and values, members and scores."""
    flat = iter(cast("list[bytes]", value))
    return zip(flat, flat, strict=True)
