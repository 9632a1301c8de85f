"""JSON whose integers stay what they were: the fast reader makes floats of those past 64 bits, without a word."""

from __future__ import annotations

import json
import re
from typing import Final

import orjson

#: Levels of nesting that are written.
MAX_DEPTH: Final = 254

_LONG: Final = re.compile(rb"\d{19}")
_LOW, _HIGH = -(2**63), 2**64 - 1
_TOO_LONG: Final = "Integer exceeds 64-bit range"


class NumberTooLong(ValueError):
    """A number has more digits than are read."""


def decode(text: bytes) -> object:
    """The value of a JSON text.

    Raises :class:`orjson.JSONDecodeError`, :class:`NumberTooLong` (4,300 digits), or :class:`RecursionError`.
    """
    value: object = orjson.loads(text)
    if not has_long(text):
        return value
    try:
        return json.loads(text)
    except ValueError as error:
        raise NumberTooLong(NumberTooLong.__doc__) from error


def encode(value: object) -> bytes:
    """A value as compact JSON. Raises :class:`TypeError` if it is nested too deeply."""
    try:
        return orjson.dumps(value)
    except TypeError as error:
        if str(error) != _TOO_LONG or deeper_than(value, MAX_DEPTH):
            raise
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def deeper_than(value: object, depth: int) -> bool:
    """Whether arrays and objects are nested more than so many levels deep."""
    level = [value]
    for _ in range(depth):
        level = [
            child
            for node in level
            if isinstance(node, dict | list)
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, dict | list)
        ]
        if not level:
            return False
    return True


def has_long(text: bytes) -> bool:
    """Whether a JSON text may have a number of more than 64 bits."""
    return _LONG.search(text) is not None


def is_long(value: int) -> bool:
    """Whether an integer has more than 64 bits."""
    return not _LOW <= value <= _HIGH
