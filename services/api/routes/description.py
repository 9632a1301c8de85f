"""What the API says of itself: its OpenAPI document, the same to read, and the fields of frames and bodies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Final

import orjson

from agentcom.settings import Settings
from agentcom.wire.frames import FIELDS, FrameKind
from services.api.answer import Answer, answer
from services.api.auth import Access, Gate
from services.api.openapi import build_document
from services.api.openapi.page import render_page
from services.api.openapi.requests import FRAME_TYPES, body_schemas, type_word
from services.api.request import ApiRequest
from services.api.routing import Endpoint, Handler

VERSION: Final = "1.0"
_HTML: Final = b"text/html; charset=utf-8"
_POLICY: Final = (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'")


class DescriptionRoutes:
    """``/openapi.json``, ``/docs`` and ``/api/schemas``"""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._described: Sequence[Endpoint] = ()

    def endpoints(self, gate: Gate) -> list[Endpoint]:
        def route(path: str, handler: Handler) -> Endpoint:
            return Endpoint("GET", path, handler, gate=gate, access=Access.OPEN, max_body_bytes=0)

        return [
            route("/openapi.json", self.document),
            route("/docs", self.page),
            route("/api/schemas", self.schemas),
        ]

    def describe(self, endpoints: Iterable[Endpoint]) -> None:
        """These are all there are, this one's own included."""
        self._described = tuple(endpoints)

    async def document(self, _request: ApiRequest) -> Answer:
        return Answer(200, self._document)

    async def page(self, _request: ApiRequest) -> Answer:
        return Answer(200, self._page, headers=(_POLICY,), media_type=_HTML)

    async def schemas(self, _request: ApiRequest) -> Answer:
        return answer(self._schemas)

    @cached_property
    def _document(self) -> bytes:
        return orjson.dumps(build_document(self._described, self._settings))

    @cached_property
    def _page(self) -> bytes:
        return render_page(orjson.loads(self._document)).encode()

    @cached_property
    def _schemas(self) -> dict[str, object]:
        frames = [
            {
                "type": kind.value,
                "description": _sentence(kind),
                "required_fields": [{"name": "type", "type": "string"}, *_frame_fields(kind, required=True)],
                "optional_fields": _frame_fields(kind, required=False),
            }
            for kind in FIELDS
        ]
        bodies = [
            {
                "key": key,
                "description": key.replace("_", " ", 1),
                "required_fields": [
                    {"name": name, "type": type_word(field)} for name, field in schema.required.items()
                ],
                "optional_fields": [
                    {"name": name, "type": type_word(field)} for name, field in schema.optional.items()
                ],
            }
            for key, schema in body_schemas(self._settings).items()
        ]
        return {"version": VERSION, "schemas": {"version": VERSION, "websocket": frames, "http": bodies}}


def _sentence(kind: FrameKind) -> str:
    return f"The frame {kind.value}, sent by an agent."


def _frame_fields(kind: FrameKind, *, required: bool) -> list[dict[str, str]]:
    return [
        {"name": field.name, "type": FRAME_TYPES[field.kind]} for field in FIELDS[kind] if field.required is required
    ]
