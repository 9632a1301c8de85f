"""Checking the fields of a JSON object: strict types, required before optional, every failure named.

Unknown fields are ignored, an explicit ``null`` counts as absent, booleans are not integers, and lengths are counted in
grapheme clusters, which is what people see as characters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson
import regex

from agentcom.wire.json_text import is_long

#: Longest excerpt of an offending value in an error, in characters.
EXCERPT = 50
#: Integers up to here are kept exactly by every JSON reader.
MAX_INTEGER = 2**53
#: A text this many times longer than its limit is too long however few clusters it makes.
CODE_POINTS_PER_CLUSTER = 10

_CLUSTER = regex.compile(r"\X")
_TYPE_WORDS: Mapping[type, str] = {
    str: "string",
    int: "integer",
    float: "float",
    bool: "boolean",
    dict: "object",
    list: "array",
    type(None): "null",
}


class Kind(StrEnum):
    """What a field may hold."""

    STRING = "string"
    INTEGER = "integer"
    OBJECT = "object"
    STRINGS = "array of strings"


_PYTHON_TYPES: Mapping[Kind, type] = {Kind.STRING: str, Kind.INTEGER: int, Kind.OBJECT: dict, Kind.STRINGS: list}


@dataclass(frozen=True, slots=True)
class Field:
    """One field. ``limit`` is grapheme clusters of a string, or of each item; ``max_items`` bounds an array.

    ``plain``: the items of an array must not be empty or contain control characters.
    """

    name: str
    kind: Kind
    required: bool = False
    limit: int | None = None
    max_items: int | None = None
    plain: bool = False


def ordered(fields: Iterable[Field]) -> tuple[Field, ...]:
    """The order in which failures are reported: required fields first, each group by name."""
    return tuple(sorted(fields, key=lambda field: (not field.required, field.name)))


def check(fields: Iterable[Field], data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What is wrong with an object, as the ``errors`` of a validation failure. Empty if nothing is."""
    errors: list[dict[str, Any]] = []
    for field in fields:
        value: Any = data.get(field.name)
        if value is None:
            if field.required:
                detail = f"{field.name} is required and must be {_article(field.kind)}"
                errors.append({"field": field.name, "error": "required", "detail": detail})
        elif (error := _check_value(field, value)) is not None:
            errors.append(error)
    return errors


def _check_value(field: Field, value: Any) -> dict[str, Any] | None:
    if not _is_a(field.kind, value):
        return wrong_type(field.name, field.kind, value)
    if field.kind is Kind.INTEGER and abs(value) > MAX_INTEGER:
        detail = f"{field.name} must be from -{MAX_INTEGER} to {MAX_INTEGER}"
        return {"field": field.name, "error": "out_of_range", "detail": detail}
    if field.kind is Kind.STRING and field.limit is not None and is_too_long(value, field.limit):
        return _too_long(field.name, value, field.limit)
    return _check_items(field, value) if field.kind is Kind.STRINGS else None


def _is_a(kind: Kind, value: object) -> bool:
    # Exact types: the decoder makes no others, and a boolean would pass for an integer.
    return type(value) is _PYTHON_TYPES[kind]


def wrong_type(name: str, expected: str, value: object) -> dict[str, Any]:
    """The error for a value of the wrong type; a large value is left out of it."""
    detail = f"{name} must be {_article(expected)}, not {_article(type_word(value))}"
    error: dict[str, Any] = {"field": name, "error": "wrong_type", "detail": detail}
    shown, fits = _excerpt(value)
    if fits:
        error["value"] = shown
    return error


def is_too_long(text: str, limit: int) -> bool:
    """Whether a text has more than ``limit`` grapheme clusters."""
    if len(text) <= limit:
        return False
    return len(text) > limit * CODE_POINTS_PER_CLUSTER or len(_CLUSTER.findall(text)) > limit


def type_word(value: object) -> str:
    """What JSON calls the type of a decoded value."""
    return _TYPE_WORDS.get(type(value), "value")


def _check_items(field: Field, items: list[Any]) -> dict[str, Any] | None:
    """The first bad item, or None."""
    if field.max_items is not None and len(items) > field.max_items:
        detail = f"{field.name} may have {field.max_items} items, not {len(items)}"
        return {"field": field.name, "error": "too_long", "detail": detail}
    for index, item in enumerate(items):
        name = f"{field.name}[{index}]"
        if type(item) is not str:
            return wrong_type(name, Kind.STRING, item)
        if field.limit is not None and is_too_long(item, field.limit):
            return _too_long(name, item, field.limit)
        if field.plain and (not item or any(ord(character) < 0x20 or character == "\x7f" for character in item)):
            detail = f"{name} must not be empty or contain control characters"
            return {"field": name, "error": "invalid", "detail": detail, "value": item[:EXCERPT]}
    return None


def _too_long(name: str, text: str, limit: int) -> dict[str, Any]:
    return {
        "field": name,
        "error": "too_long",
        "detail": f"{name} may have {limit} characters",
        "value": f"{text[:EXCERPT]}...",
    }


def _excerpt(value: object) -> tuple[object, bool]:
    if isinstance(value, str):
        return (value if len(value) <= EXCERPT else f"{value[:EXCERPT]}..."), True
    if type(value) is int and is_long(value):
        return str(value)[:EXCERPT], True
    if isinstance(value, dict | list):
        try:
            return value, len(orjson.dumps(value)) <= EXCERPT
        except TypeError:  # nested deeper than the encoder goes
            return None, False
    return value, True


def _article(word: str) -> str:
    if word == "null":
        return word
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"
