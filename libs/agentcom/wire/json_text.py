"""JSON whose integers stay what they were: the fast reader makes floats of those past 64 bits, without a word."""

from __future__ import annotations

import json
import re
from typing import Final

import orjson

_LONG: Final = re.compile(rb"\d{19}")
_LOW, _HIGH = -(2**63), 2**64 - 1
_TOO_LONG: Final = "Integer exceeds 64-bit range"


class NumberTooLong(ValueError):
    """A number has more digits than are read."""


def decode(text: bytes) -> object:
    """The value of a JSON text. Raises :class:`orjson.JSONDecodeError`, or :class:`NumberTooLong` (4,300 digits)."""
    value: object = orjson.loads(text)
    if not has_long(text):
        return value
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise NumberTooLong(NumberTooLong.__doc__) from error


def encode(value: object) -> bytes:
    """A value as compact JSON. Raises :class:`TypeError` if it is nested too deeply."""
    try:
        return orjson.dumps(value)
    except TypeError as error:
        if str(error) != _TOO_LONG:
            raise
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def has_long(text: bytes) -> bool:
    """Whether a JSON text may have a number of more than 64 bits."""
    return _LONG.search(text) is not None


def is_long(value: int) -> bool:
    """Whether an integer has more than 64 bits."""
    return not _LOW <= value <= _HIGH
