"""Reading a JSON body: bounded in size, time and depth, and without doubtful pieces."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Final

import orjson
from starlette.types import Message, Receive

from agentcom.wire.json_text import NumberTooLong, decode, deeper_than, encode
from services.api.errors import (
    BodyTimeout,
    BodyTooLarge,
    DuplicateKey,
    InvalidJson,
    JsonTooDeep,
    UnsupportedEncoding,
    UnsupportedMediaType,
)

#: Deepest nesting of objects and arrays in a body.
MAX_DEPTH: Final = 64
BODY_TIMEOUT_S: Final = 30.0
#: A body that is too large is read and thrown away up to here, so that its sender gets to read the answer.
_DRAIN_FACTOR: Final = 4
_DRAIN_TIMEOUT_S: Final = 5.0


class ClientGone(Exception):
    """The client closed the connection before its request was complete."""


async def read_body(headers: dict[bytes, bytes], receive: Receive, *, limit: int) -> bytes:
    """The whole body. Raises BodyTooLarge past ``limit`` bytes, BodyTimeout, ClientGone."""
    declared = headers.get(b"content-length", b"0")
    if declared.isdigit() and int(declared) > limit:
        await discard_body(headers, receive, limit=limit)
        raise _too_large(limit)
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            message = await _next(receive)
            body: bytes = message.get("body", b"")
            if not message.get("more_body", False):
                if len(body) > limit:
                    raise _too_large(limit)
                return body
            pieces, size = [body], len(body)
            while message.get("more_body", False):
                message = await _next(receive)
                piece = message.get("body", b"")
                pieces.append(piece)
                size += len(piece)
                if size > limit:
                    if message.get("more_body", False):
                        await discard_body(headers, receive, limit=limit)
                    raise _too_large(limit)
            return b"".join(pieces)
    except TimeoutError as error:
        raise BodyTimeout(f"The body did not arrive within {BODY_TIMEOUT_S:g} seconds.") from error


async def _next(receive: Receive) -> Message:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGone
    return message


async def discard_body(headers: dict[bytes, bytes], receive: Receive, *, limit: int) -> None:
    """Reads what is left of a body that is not wanted, within reason: a client that is still writing does not read.

    A client that waits for leave to send its body is not given it. The connection must be closed afterwards.
    """
    if headers.get(b"expect", b"").lower() == b"100-continue":
        return
    size, more = 0, True
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_TIMEOUT_S):
            while more and size <= limit * _DRAIN_FACTOR:
                message = await _next(receive)
                size += len(message.get("body", b""))
                more = message.get("more_body", False)


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"The body is larger than {limit} bytes.", max_bytes=limit)


def is_json(content_type: bytes) -> bool:
    """Whether the media type is ``application/json`` or ends in ``+json``."""
    if content_type == b"application/json":
        return True
    media_type = content_type.partition(b";")[0].strip().lower()
    return media_type == b"application/json" or (b"/" in media_type and media_type.endswith(b"+json"))


def parse_body(headers: dict[bytes, bytes], raw: bytes) -> dict[str, object]:
    """The body as an object.

    An empty body is ``{}``, and so is one without a content type; one that is not an object is found under ``_json``.
    """
    content_type = headers.get(b"content-type")
    if not raw or content_type is None:
        return {}
    if not is_json(content_type):
        raise UnsupportedMediaType
    if headers.get(b"content-encoding", b"identity").strip().lower() not in {b"identity", b""}:
        raise UnsupportedEncoding
    value = parse_json(raw)
    return value if isinstance(value, dict) else {"_json": value}


def parse_json(raw: bytes) -> object:
    """Strict JSON. Raises InvalidJson, JsonTooDeep, DuplicateKey."""
    try:
        value = decode(raw)
    except orjson.JSONDecodeError as error:
        message = f"The body is not valid JSON: {error.msg} (line {error.lineno}, column {error.colno})."
        raise InvalidJson(message, line=error.lineno, column=error.colno) from error
    except NumberTooLong as error:
        raise InvalidJson("The body is not valid JSON: a number has too many digits.", line=1, column=1) from error
    except RecursionError:
        raise _too_deep() from None
    if raw.count(b"{") + raw.count(b"[") > MAX_DEPTH and deeper_than(value, MAX_DEPTH):
        raise _too_deep()
    # A key that came twice was dropped, and its colon with it. Only an escaped colon could make up for that.
    if raw.count(b":") != encode(value).count(b":") or rb"\u003" in raw:
        json.loads(raw, object_pairs_hook=_unique_keys, parse_int=str)
    return value


def _too_deep() -> JsonTooDeep:
    return JsonTooDeep(f"The body is nested more than {MAX_DEPTH} levels deep.", max_depth=MAX_DEPTH)


def _unique_keys(pairs: list[tuple[str, object]]) -> None:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise DuplicateKey(f"An object in the body has the key {key[:64]!r} twice.", key=key[:64])
        seen.add(key)
