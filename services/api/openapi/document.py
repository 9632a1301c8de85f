"""The OpenAPI document of an app's endpoints."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Final

from pydantic import TypeAdapter

from agentcom import __version__
from agentcom.settings import Settings
from services.api.auth import Access
from services.api.openapi import models
from services.api.openapi.operations import OPERATIONS, UNDESCRIBED, Operation
from services.api.openapi.requests import body_schemas, composite_bodies, json_schema
from services.api.routing import Endpoint

Document = dict[str, Any]

_REF: Final = "#/components/schemas/{model}"
_PARAMETER: Final = re.compile(r"\{(\w+)\}")
_MEANINGS: Final[Mapping[int, str]] = {
    200: "Done",
    201: "Made",
    400: "The request can't be read",
    401: "A valid token is needed",
    403: "Not allowed",
    404: "Not found",
    408: "The body did not arrive in time",
    409: "It contradicts what is there",
    413: "The body is too large",
    415: "The body must be JSON",
    422: "A field is missing or not as it must be",
    429: "Too many requests",
    500: "Something went wrong in the hub",
    503: "The store can't be reached at the moment",
}
_WHO: Final[Mapping[Access, str]] = {
    Access.OPEN: "Open to everybody.",
    Access.LOCAL: "Needs a token unless the hub listens on loopback or reads are public.",
    Access.TOKEN: "Needs a token.",
    Access.OPERATOR: "Needs the token of an operator or admin.",
    Access.ADMIN: "Needs the token of an admin.",
}


def build_document(endpoints: Iterable[Endpoint], settings: Settings) -> Document:
    """OpenAPI 3.1. An endpoint that has no entry in the table of operations is described by what it has of its own."""
    schemas: Document = {key: json_schema(schema) for key, schema in body_schemas(settings).items()}
    schemas |= composite_bodies()
    paths: Document = {}
    for endpoint in endpoints:
        operation = OPERATIONS.get(f"{endpoint.method} {endpoint.path}", UNDESCRIBED)
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint, operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "AgentCom",
            "version": __version__,
            "description": "A hub that hands tasks to autonomous agents. Times are milliseconds since 1970.",
        },
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(endpoint: Endpoint, operation: Operation, schemas: Document) -> Document:
    described: Document = {
        "operationId": _operation_id(endpoint),
        "summary": operation.summary,
        "description": _WHO[endpoint.access],
        "tags": [operation.tag],
        "responses": _responses(endpoint, operation, schemas),
    }
    if endpoint.access is not Access.OPEN:
        described["security"] = [{"token": []}] if endpoint.access is not Access.LOCAL else [{}, {"token": []}]
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in _PARAMETER.findall(endpoint.path)
    ]
    parameters += [
        {"name": name, "in": "query", "required": False, "schema": schema} for name, schema in operation.query.items()
    ]
    if parameters:
        described["parameters"] = parameters
    if operation.body is not None:
        reference = {"$ref": _REF.format(model=operation.body)}
        required = bool(schemas[operation.body].get("required"))
        described["requestBody"] = {"required": required, "content": {"application/json": {"schema": reference}}}
    if endpoint.tier is not None:
        described["x-rate-limit"] = endpoint.tier.value
    return described


def _responses(endpoint: Endpoint, operation: Operation, schemas: Document) -> Document:
    media_type = operation.media_type
    responses: Document = {
        str(status): _response(status, _schema(model, schemas), media_type)
        for status, model in operation.answers.items()
    }
    error = _schema(models.Error, schemas)
    for status in sorted(_errors(endpoint, operation) - operation.answers.keys()):
        responses[str(status)] = _response(status, error, "application/json")
    return responses


def _errors(endpoint: Endpoint, operation: Operation) -> set[int]:
    """What can go wrong here, the kind of route considered."""
    found = {*operation.errors, 400, 500, 503}
    if endpoint.access is not Access.OPEN:
        found.add(401)
    if endpoint.access in {Access.OPERATOR, Access.ADMIN}:
        found.add(403)
    if endpoint.tier is not None:
        found.add(429)
    if endpoint.method in {"POST", "PUT", "DELETE"}:
        found |= {401, 408, 413, 415}
    if "{" in endpoint.path:
        found.add(404)  # a segment may decode to a slash, which makes it another path
    return found


def _response(status: int, schema: Document, media_type: str) -> Document:
    return {"description": _MEANINGS[status], "content": {media_type: {"schema": schema}}}


def _schema(model: Any, schemas: Document) -> Document:
    """A reference to the model, which is added to the schemas with all that it refers to."""
    described = dict(_schema_of(model))
    schemas |= described.pop("$defs", {})
    name = getattr(model, "__name__", "")
    if "properties" not in described or not name:
        return described
    schemas[name] = described
    return {"$ref": _REF.format(model=name)}


@cache
def _schema_of(model: Any) -> Mapping[str, Any]:
    """The schema of a model, which many answers share; not to be changed."""
    return TypeAdapter(model).json_schema(ref_template=_REF, mode="serialization")


def _operation_id(endpoint: Endpoint) -> str:
    words = re.split(r"\W+", endpoint.path.replace("{", "by_").strip("/}"))
    return "_".join([endpoint.method.lower(), *(word for word in words if word)])
