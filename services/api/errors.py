"""What HTTP alone can get wrong. Everything else is in :mod:`agentcom.errors`."""

from __future__ import annotations

from collections.abc import Sequence

from agentcom.errors import AgentComError, RateLimited

Headers = tuple[tuple[bytes, bytes], ...]

#: How long a client should wait before it repeats a request that the hub could not serve.
RETRY_AFTER_S = 1
CLOSE = (b"connection", b"close")


class HttpError(AgentComError):
    """The request could not be served."""

    headers: Headers = ()


class RouteNotFound(HttpError):
    """There is nothing at this path and method."""

    code = "not_found"
    http_status = 404


class InvalidJson(HttpError):
    """The body is not valid JSON."""

    code = "invalid_json"
    http_status = 400


class DuplicateKey(HttpError):
    """An object in the body has the same key twice."""

    code = "duplicate_key"
    http_status = 400


class JsonTooDeep(HttpError):
    """The body is nested too deeply."""

    code = "json_too_deep"
    http_status = 400


class DuplicateHeader(HttpError):
    """The request has a header twice that may come once."""

    code = "duplicate_header"
    http_status = 400


class InvalidQuery(HttpError):
    """The query string is not valid percent-encoded UTF-8."""

    code = "invalid_query"
    http_status = 400


class BodyTimeout(HttpError):
    """The body did not arrive in time."""

    code = "body_timeout"
    http_status = 408
    retryable = True
    headers = (CLOSE,)


class BodyTooLarge(HttpError):
    """The body is too large."""

    code = "body_too_large"
    http_status = 413
    headers = (CLOSE,)


class UnsupportedMediaType(HttpError):
    """The body must be JSON: send it with content-type: application/json."""

    code = "unsupported_media_type"
    http_status = 415
    headers = ((b"accept", b"application/json"),)


class UnsupportedEncoding(HttpError):
    """The body must not be compressed: send it without content-encoding."""

    code = "unsupported_content_encoding"
    http_status = 415
    headers = ((b"accept-encoding", b"identity"),)


class Unauthorized(HttpError):
    """This needs a valid token."""

    code = "unauthorized"
    http_status = 401
    headers = ((b"www-authenticate", b'Bearer realm="agentcom"'),)

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message, hint="Send the header: Authorization: Bearer <token>")


class AdminOnly(HttpError):
    """Only the token of an admin may do this."""

    code = "admin_only"
    http_status = 403


class OperatorOnly(HttpError):
    """Only the token of an operator or admin may do this."""

    code = "operator_only"
    http_status = 403


class EnrolmentKeyRequired(HttpError):
    """Registering needs the enrolment key, in the header X-Enrolment-Key or the field enrolment_key."""

    code = "enrolment_key_required"
    http_status = 403


class EnrolmentKeyInvalid(HttpError):
    """This is not the enrolment key."""

    code = "enrolment_key_invalid"
    http_status = 403


class AgentIdTaken(HttpError):
    """A token was given out for this agent id before; use it, or ask an admin for another one."""

    code = "agent_id already registered"  # the word that clients know
    http_status = 409


class ValidationFailed(HttpError):
    """The request has fields that are missing or not as they must be."""

    code = "validation_failed"
    http_status = 422

    def __init__(self, errors: Sequence[dict[str, object]], **details: object) -> None:
        super().__init__(_summary(errors), errors=list(errors), **details)


class InvalidOverrides(HttpError):
    """These are no rate limits."""

    code = "invalid_overrides"
    http_status = 422

    def __init__(self, detail: str) -> None:
        super().__init__(detail=detail)


class InvalidWhitelist(InvalidOverrides):
    """This is no list of identities."""

    code = "invalid_whitelist"


class InvalidAgentId(InvalidOverrides):
    """This is no identity."""

    code = "invalid_agent_id"


class InvalidLevel(HttpError):
    """The hub has no such log level."""

    code = "invalid_level"
    http_status = 422


class AgentNotConnected(HttpError):
    """The agent is not connected at the moment."""

    code = "agent_not_connected"
    http_status = 404


class InternalError(HttpError):
    """Something went wrong in the hub; the request id finds it in the log."""


def _summary(errors: Sequence[dict[str, object]]) -> str:
    first = errors[0]
    where = f"tasks[{first['index']}].{first['field']}" if "index" in first else first["field"]
    others = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return f"{where}: {first['detail']}{others}"


def error_body(error: AgentComError) -> dict[str, object]:
    """The JSON body of an error: ``error`` is the machine code, ``message`` a sentence, the rest are details."""
    body = {"error": error.code, "message": error.message, **error.details}
    return {**body, "retryable": True} if error.retryable else body


def error_headers(error: AgentComError) -> Headers:
    """The headers that go with an error's status."""
    headers: Headers = error.headers if isinstance(error, HttpError) else ()
    if isinstance(error, RateLimited):
        wait_ms = error.details.get("retry_after_ms")
        seconds = max(1, wait_ms // 1_000) if isinstance(wait_ms, int) else RETRY_AFTER_S
        headers = (*headers, (b"retry-after", str(seconds).encode()))
    if error.http_status == 503:
        headers = (*headers, (b"retry-after", str(RETRY_AFTER_S).encode()))
    return headers
