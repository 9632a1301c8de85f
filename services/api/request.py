"""A request as handlers see it."""

from __future__ import annotations

import re
from functools import cached_property
from typing import Final
from urllib.parse import parse_qsl

from starlette.types import Scope

from agentcom.store.tokens import Principal
from services.api.errors import DuplicateHeader, InvalidQuery, Unauthorized

_MAX_QUERY_BYTES: Final = 16 * 1024
_MAX_QUERY_FIELDS: Final = 64
_SHOWN_CHARACTERS: Final = 64
#: Headers of which a request has one or none: which of two would count is anybody's guess.
_SINGLE: Final = frozenset(
    {b"authorization", b"content-encoding", b"content-type", b"idempotency-key", b"x-enrolment-key"}
)
_BROKEN_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")


class ApiRequest:
    """One request. ``body`` is the parsed JSON object, ``{}`` where a method or the client has none.

    ``principal`` is whose token came with it, None on routes that are open to everybody.
    """

    def __init__(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        self.scope = scope
        self.headers = headers
        self.params: dict[str, str] = scope["path_params"]
        self.body: dict[str, object] = {}
        self.body_ignored = False
        self.principal: Principal | None = None

    @property
    def caller(self) -> Principal:
        """Who asks. Raises Unauthorized if nobody said."""
        if self.principal is None:
            raise Unauthorized
        return self.principal

    def header(self, name: bytes) -> str | None:
        """A header's value; ``name`` is in lower case."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1").strip()

    @cached_property
    def query(self) -> dict[str, str]:
        """Query parameters. Raises InvalidQuery, also for one that comes twice."""
        raw: bytes = self.scope["query_string"]
        if not raw:
            return {}
        if len(raw) > _MAX_QUERY_BYTES:
            raise InvalidQuery(f"The query string is longer than {_MAX_QUERY_BYTES} bytes.")
        if _BROKEN_ESCAPE.search(raw):
            raise InvalidQuery("The query string has a % that does not begin an escape like %20.")
        try:
            pairs = parse_qsl(
                raw.decode("utf-8"), keep_blank_values=True, errors="strict", max_num_fields=_MAX_QUERY_FIELDS
            )
        except UnicodeDecodeError as error:
            raise InvalidQuery from error
        except ValueError as error:
            raise InvalidQuery(f"The query string has more than {_MAX_QUERY_FIELDS} parameters.") from error
        query = dict(pairs)
        if len(query) < len(pairs):
            raise InvalidQuery(f"The query string has the parameter {_first_repeated(pairs)!r} twice.")
        return query


def headers_of(scope: Scope) -> dict[bytes, bytes]:
    """A request's headers; of a repeated one the last. Raises DuplicateHeader for one that may come once."""
    pairs: list[tuple[bytes, bytes]] = scope["headers"]
    headers = dict(pairs)
    if len(headers) < len(pairs):
        names = [name for name, _ in pairs if name in _SINGLE]
        if len(names) > len(set(names)):
            name = next(name for name in names if names.count(name) > 1).decode()
            raise DuplicateHeader(f"The request has the header {name} twice.", header=name)
    return headers


def _first_repeated(pairs: list[tuple[str, str]]) -> str:
    names = [name for name, _ in pairs]
    return next(name for name in names if names.count(name) > 1)[:_SHOWN_CHARACTERS]
