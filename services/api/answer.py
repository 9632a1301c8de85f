"""What a handler returns: a status and a body, which is JSON unless it says otherwise."""

from __future__ import annotations

import asyncio
import re
import zlib
from dataclasses import dataclass
from typing import Final

import orjson
from starlette.types import Send

from services.api.errors import Headers

#: Smaller bodies are not worth the time; larger ones than the second bound are compressed off the event loop.
COMPRESS_FROM: Final = 4 * 1024
COMPRESS_ASIDE_FROM: Final = 128 * 1024
_GZIP: Final = 16 + zlib.MAX_WBITS
_FAST: Final = 1

JSON: Final = b"application/json; charset=utf-8"
_REFUSES: Final = re.compile(rb"q=0(\.0*)?")


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete response."""

    status: int
    body: bytes
    headers: Headers = ()
    media_type: bytes = JSON

    async def send(self, send: Send, *, accept_encoding: bytes) -> None:
        """Writes the response, compressed if it is long and the client takes gzip."""
        body, headers = self.body, [(b"content-type", self.media_type), *self.headers]
        if len(body) >= COMPRESS_FROM and accepts_gzip(accept_encoding):
            aside = len(body) >= COMPRESS_ASIDE_FROM
            body = await asyncio.to_thread(_gzip, body) if aside else _gzip(body)
            headers.append((b"content-encoding", b"gzip"))
        headers.append((b"content-length", b"%d" % len(body)))
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def answer(body: object, *, status: int = 200, headers: Headers = ()) -> Answer:
    """A response with this body, encoded."""
    return Answer(status, orjson.dumps(body), headers)


def accepts_gzip(accept_encoding: bytes) -> bool:
    """Whether an ``Accept-Encoding`` header names gzip with a quality above 0."""
    for entry in accept_encoding.lower().split(b","):
        coding, _, quality = entry.partition(b";")
        if coding.strip() == b"gzip":
            return _REFUSES.fullmatch(quality.replace(b" ", b"")) is None
    return False


def _gzip(body: bytes) -> bytes:
    packer = zlib.compressobj(_FAST, zlib.DEFLATED, _GZIP)
    return packer.compress(body) + packer.flush()
