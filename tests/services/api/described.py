"""Holding every response of a test against the OpenAPI document of the app that gave it."""

from __future__ import annotations

import re
from typing import Any

import httpx
import jsonschema_rs
from starlette.routing import BaseRoute

from agentcom.settings import Settings
from services.api.openapi import build_document
from services.api.routing import Endpoint

#: What is outside of the document: bodies that a HEAD or a broken connection leaves out.
_BODILESS = {"HEAD"}


class Described:
    """Checks the responses of one app."""

    def __init__(self, routes: list[BaseRoute]) -> None:
        self.endpoints = [route for route in routes if isinstance(route, Endpoint)]
        self._document: dict[str, Any] | None = None
        self._validators: dict[tuple[str, str, int], Any] = {}
        self._patterns = [
            (endpoint.method, endpoint.path, re.compile(re.sub(r"\{\w+\}", "[^/]+", endpoint.path) + "/?"))
            for endpoint in self.endpoints
        ]

    @property
    def document(self) -> dict[str, Any]:
        if self._document is None:
            self._document = build_document(self.endpoints, Settings())
        return self._document

    async def check(self, response: httpx.Response) -> None:
        """Raises AssertionError for a response that the document does not describe."""
        await response.aread()
        found = self._find(response.request.method, httpx.URL(response.request.url).path)
        if found is None or response.request.method in _BODILESS:
            return
        method, path = found
        operation = self.document["paths"][path][method.lower()]
        described = operation["responses"].get(str(response.status_code))
        assert described is not None, f"{method} {path} answers {response.status_code}, which is not described"
        [(media_type, content)] = described["content"].items()
        assert response.headers["content-type"].split(";")[0] == media_type.split(";")[0]
        if media_type == "application/json":
            self._validator(method, path, response.status_code, content["schema"]).validate(response.json())

    def _find(self, method: str, path: str) -> tuple[str, str] | None:
        for known, template, pattern in self._patterns:
            if known == method and pattern.fullmatch(path):
                return known, template
        return None

    def _validator(self, method: str, path: str, status: int, schema: dict[str, Any]) -> Any:
        key = (method, path, status)
        if key not in self._validators:
            whole = {**schema, "components": self.document["components"]}
            self._validators[key] = jsonschema_rs.Draft202012Validator(whole)
        return self._validators[key]
