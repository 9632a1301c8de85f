"""A request as handlers see it."""

from __future__ import annotations

import re
from functools import cached_property
from typing import Final
from urllib.parse import parse_qsl

from starlette.types import Scope

from agentcom.store.tokens import Principal
from services.api.errors import InvalidQuery, Unauthorized

_MAX_QUERY_BYTES: Final = 16 * 1024
_MAX_QUERY_FIELDS: Final = 64
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
        """Query parameters; of a repeated one the last. Raises InvalidQuery."""
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
        return dict(pairs)
