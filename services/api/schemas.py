"""Checking fields: strict types, no coercion, and every failing field reported.

A field is a class with one method that says what is wrong with a value. ``null`` in an optional field is as good as
none; unknown fields are ignored.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from agentcom.domain.names import (
    MAX_CAPABILITIES,
    MAX_CAPABILITY_LENGTH,
    has_control,
    is_agent_id,
    is_capability,
)
from agentcom.wire.fields import MAX_INTEGER, is_too_long, type_word
from agentcom.wire.json_text import encode, has_long, is_long
from services.api.errors import ValidationFailed
from services.api.request import ApiRequest

Problem = dict[str, object]

_SHOWN_CHARACTERS: Final = 50
_SHOWN_BYTES: Final = 256
_LONG_NUMBER: Final = re.compile(rb"\d{16}")
_MAX_AGENT_ID: Final = 128
_TOKEN: Final = re.compile(r"[0-9a-f]{64}")
#: Of 64 random hex digits at least so many differ, but for one case in 10^12.
_FEWEST_DIGITS: Final = 8
_WHOLE_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,19}")


class Code(StrEnum):
    """Machine codes of problems with a field."""

    REQUIRED = "required"
    WRONG_TYPE = "wrong_type"
    TOO_LONG = "too_long"
    OUT_OF_RANGE = "out_of_range"
    UNKNOWN_VALUE = "unknown_value"
    INVALID_FORMAT = "invalid_format"
    RESERVED = "reserved"
    CONFLICT = "conflict"


class Field(Protocol):
    """What a value of one field must be like."""

    def check(self, name: str, value: object) -> Problem | None:
        """What is wrong with a value other than null."""
        ...


def problem(name: str, code: Code, detail: str) -> Problem:
    return {"field": name, "error": code.value, "detail": detail}


def problem_with(name: str, code: Code, detail: str, *, value: object) -> Problem:
    """A problem that shows the value, or its beginning."""
    return {**problem(name, code, detail), "value": _shown(value)}


def wrong_type(name: str, expected: str, value: object) -> Problem:
    return problem_with(name, Code.WRONG_TYPE, f"expected {expected}, got {type_word(value)}", value=value)


def _shown(value: object) -> object:
    if isinstance(value, str):
        return value if len(value) <= _SHOWN_CHARACTERS else f"{value[:_SHOWN_CHARACTERS]}..."
    if type(value) is int and is_long(value):
        return _shown(str(value))
    if isinstance(value, list | dict):
        text = encode(value)
        shown = len(text) <= _SHOWN_BYTES and not has_long(text)
        return value if shown else f"{text[:_SHOWN_CHARACTERS].decode('utf-8', 'ignore')}..."
    return value


@dataclass(frozen=True, slots=True)
class Text:
    """A string of at most ``limit`` characters. ``secret`` values are never shown; ``filled`` ones are not blank."""

    limit: int
    secret: bool = False
    filled: bool = False

    def check(self, name: str, value: object) -> Problem | None:
        if not isinstance(value, str):
            expected = wrong_type(name, "string", value)
            return problem(name, Code.WRONG_TYPE, str(expected["detail"])) if self.secret else expected
        if is_too_long(value, self.limit):
            detail = f"must have at most {self.limit} characters"
            if self.secret:
                return problem(name, Code.TOO_LONG, detail)
            return problem_with(name, Code.TOO_LONG, detail, value=value)
        if "\x00" in value:
            return problem(name, Code.INVALID_FORMAT, "must not have a NUL character")
        if self.filled and not value.strip():
            return problem(name, Code.REQUIRED, "must not be blank")
        return None


@dataclass(frozen=True, slots=True)
class Key:
    """A string of 1 to ``limit`` visible ASCII characters or spaces."""

    limit: int

    def check(self, name: str, value: object) -> Problem | None:
        if not isinstance(value, str):
            return wrong_type(name, "string", value)
        if len(value) > self.limit:
            return problem_with(name, Code.TOO_LONG, f"must have at most {self.limit} characters", value=value)
        if not value or not value.isascii() or not value.isprintable():
            return problem(name, Code.INVALID_FORMAT, "must be 1 or more printable ASCII characters")
        return None


class TokenField:
    """A token that a client has chosen: as random as the hub's own, and never shown."""

    def check(self, name: str, value: object) -> Problem | None:
        if not isinstance(value, str):
            return problem(name, Code.WRONG_TYPE, f"expected string, got {type_word(value)}")
        if not _TOKEN.fullmatch(value):
            return problem(name, Code.INVALID_FORMAT, "must be 64 lowercase hex digits, from 32 random bytes")
        if len(set(value)) < _FEWEST_DIGITS:
            return problem(name, Code.INVALID_FORMAT, "must be random")
        return None


class AgentIdField:
    """The id of an agent."""

    def check(self, name: str, value: object) -> Problem | None:
        if not isinstance(value, str):
            return wrong_type(name, "string", value)
        if not value:
            return problem(name, Code.REQUIRED, "must not be empty")
        if len(value) > _MAX_AGENT_ID:
            return problem_with(name, Code.TOO_LONG, f"must have at most {_MAX_AGENT_ID} characters", value=value)
        if not is_agent_id(value):
            detail = "must be letters, digits, dots, underscores and hyphens, and begin with a letter or a digit"
            return problem_with(name, Code.INVALID_FORMAT, detail, value=value)
        return None


@dataclass(frozen=True, slots=True)
class Integer:
    """An integer from ``low`` to ``high``."""

    low: int = -MAX_INTEGER
    high: int = MAX_INTEGER

    def check(self, name: str, value: object) -> Problem | None:
        if isinstance(value, float) and value.is_integer() and abs(value) >= MAX_INTEGER:
            # The JSON reader turns integers past 64 bits into floats.
            return self._out_of_range(name, value)
        if isinstance(value, bool) or not isinstance(value, int):
            return wrong_type(name, "integer", value)
        if not self.low <= value <= self.high:
            return self._out_of_range(name, value)
        return None

    def _out_of_range(self, name: str, value: float) -> Problem:
        return problem_with(name, Code.OUT_OF_RANGE, f"must be from {self.low} to {self.high}", value=value)


class Flag:
    """True or false."""

    def check(self, name: str, value: object) -> Problem | None:
        return None if isinstance(value, bool) else wrong_type(name, "boolean", value)


@dataclass(frozen=True, slots=True)
class Number:
    """A number from ``low`` to ``high``, whole or not."""

    low: float
    high: float

    def check(self, name: str, value: object) -> Problem | None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return wrong_type(name, "number", value)
        if not self.low <= value <= self.high:
            return problem_with(name, Code.OUT_OF_RANGE, f"must be from {self.low} to {self.high}", value=value)
        return None


@dataclass(frozen=True, slots=True)
class Nested:
    """An object with a schema of its own; of its problems the first is reported."""

    schema: Schema

    def check(self, name: str, value: object) -> Problem | None:
        if not isinstance(value, dict):
            return wrong_type(name, "object", value)
        found = self.schema.check(value)
        return {**found[0], "field": f"{name}.{found[0]['field']}"} if found else None


@dataclass(frozen=True, slots=True)
class Word:
    """One of a few words."""

    words: Sequence[str]

    def check(self, name: str, value: object) -> Problem | None:
        if not isinstance(value, str):
            return wrong_type(name, "string", value)
        if value not in self.words:
            return problem_with(name, Code.UNKNOWN_VALUE, f"must be one of {', '.join(self.words)}", value=value)
        return None


class Capabilities:
    """A list of capability names. Only the first bad one is reported."""

    def check(self, name: str, value: object) -> Problem | None:
        if not isinstance(value, list):
            return wrong_type(name, "array<string>", value)
        if len(value) > MAX_CAPABILITIES:
            return problem(name, Code.TOO_LONG, f"must have at most {MAX_CAPABILITIES} entries")
        for index, item in enumerate(value):
            entry = f"{name}[{index}]"
            if not isinstance(item, str):
                return wrong_type(entry, "string", item)
            if not is_capability(item):
                return self._not_a_capability(entry, item)
        return None

    @staticmethod
    def _not_a_capability(name: str, value: str) -> Problem:
        if len(value) > MAX_CAPABILITY_LENGTH:
            detail = f"must have at most {MAX_CAPABILITY_LENGTH} characters"
            return problem_with(name, Code.TOO_LONG, detail, value=value)
        detail = "must not have control characters" if has_control(value) else "must not be empty"
        return problem(name, Code.INVALID_FORMAT, detail)


@dataclass(frozen=True, slots=True)
class JsonObject:
    """An object of at most ``max_bytes`` of compact JSON, without NUL characters and inexact integers."""

    max_bytes: int

    def check(self, name: str, value: object) -> Problem | None:
        if not isinstance(value, dict):
            return wrong_type(name, "object", value)
        if not value:
            return None
        text = encode(value)
        if len(text) > self.max_bytes:
            return problem(name, Code.TOO_LONG, f"must have at most {self.max_bytes} bytes as compact JSON")
        if rb"\u0000" in text or _LONG_NUMBER.search(text):
            return next(_doubtful(name, value), None)
        return None


def _doubtful(name: str, value: object) -> Iterator[Problem]:
    """NUL characters and integers past 2^53, anywhere in a value."""
    match value:
        case str():
            if "\x00" in value:
                yield problem(name, Code.INVALID_FORMAT, "must not have a NUL character")
        case bool():
            return
        case int():
            if abs(value) > MAX_INTEGER:
                detail = "integers past 2^53 are not kept exactly everywhere: send it as a string"
                yield problem_with(name, Code.OUT_OF_RANGE, detail, value=value)
        case list():
            for index, item in enumerate(value):
                yield from _doubtful(f"{name}[{index}]", item)
        case dict():
            for key, item in value.items():
                yield from _doubtful(name, key)
                yield from _doubtful(f"{name}.{key[:_SHOWN_CHARACTERS]}", item)


class Schema:
    """The fields of an object. Others are ignored, or refused if it is ``closed``."""

    def __init__(
        self, *, required: Mapping[str, Field] | None = None, optional: Mapping[str, Field], closed: bool = False
    ) -> None:
        self.closed = closed
        self.required = dict(sorted((required or {}).items()))
        self.optional = dict(sorted(optional.items()))

    def check(self, body: Mapping[str, object]) -> list[Problem]:
        """Every problem: required fields first, each group in alphabetical order."""
        problems = []
        for name, field in self.required.items():
            value = body.get(name)
            if value is None:
                problems.append(problem(name, Code.REQUIRED, "is required"))
            elif (found := field.check(name, value)) is not None:
                problems.append(found)
        for name, field in self.optional.items():
            value = body.get(name)
            if value is not None and (found := field.check(name, value)) is not None:
                problems.append(found)
        if self.closed:
            known = self.required.keys() | self.optional.keys()
            problems += [
                problem(name[:_SHOWN_CHARACTERS], Code.UNKNOWN_VALUE, f"is none of {', '.join(sorted(known))}")
                for name in body
                if name not in known
            ]
        return problems

    def require(self, request: ApiRequest) -> None:
        """Raises ValidationFailed if the request's body has a problem."""
        problems = self.check(request.body)
        if problems:
            raise invalid(request, problems)


def invalid(request: ApiRequest, problems: Sequence[Problem]) -> ValidationFailed:
    """The error for these problems with a request's body."""
    if request.body_ignored:
        return ValidationFailed(problems, hint="The body was not read: send it with content-type: application/json")
    return ValidationFailed(problems)


def query_integer(request: ApiRequest, name: str, *, default: int, low: int, high: int) -> int:
    """A whole number from the query string. Raises ValidationFailed."""
    text = request.query.get(name)
    if text is None:
        return default
    if _WHOLE_NUMBER.fullmatch(text) is None:
        raise ValidationFailed([problem_with(name, Code.WRONG_TYPE, "expected integer, got string", value=text)])
    number = int(text)
    if not low <= number <= high:
        detail = f"must be from {low} to {high}"
        raise ValidationFailed([problem_with(name, Code.OUT_OF_RANGE, detail, value=text)])
    return number


def query_field(request: ApiRequest, name: str, field: Field) -> str | None:
    """A text from the query string that must be as the field says. Raises ValidationFailed."""
    text = request.query.get(name)
    if text is None:
        return None
    found = field.check(name, text)
    if found is not None:
        raise ValidationFailed([found])
    return text
