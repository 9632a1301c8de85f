"""Small things that people get wrong. Each gets a status, a code and a sentence; none makes the hub stumble."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest

from tests.services.api.harness import Api, field_codes, refused

JSON = {"content-type": "application/json"}
TASKS = "/api/tasks"
DEEP = b'{"description":"x","metadata":' + b'{"a":' * 100 + b"1" + b"}" * 100 + b"}"
DEEP_AND_LONG = b"[" * 1_000 + b"123456789012345678901" + b"]" * 1_000
DEEPER = b"[" * 5_000 + b"]" * 5_000


@dataclass(frozen=True)
class Mistake:
    """A request and what it is answered with."""

    name: str
    status: int
    code: str
    method: str = "GET"
    path: str = TASKS
    content: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    token: str | None = None


def body(name: str, content: bytes, code: str = "invalid_json", status: int = 400, **headers: str) -> Mistake:
    return Mistake(name, status, code, "POST", content=content, headers={**JSON, **headers})


REQUESTS = [
    # The body.
    body("cut short", b'{"description": "x"'),
    body("not JSON", b"description=x"),
    body("single quotes", b"{'description': 'x'}"),
    body("trailing comma", b'{"description": "x",}'),
    body("two documents", b'{"description":"x"}{"description":"y"}'),
    body("byte order mark", b"\xef\xbb\xbf{}"),
    body("UTF-16", '{"description":"x"}'.encode("utf-16")),
    body("Latin-1", '{"description":"é"}'.encode("latin-1")),
    body("NaN", b'{"description":"x","metadata":{"a":NaN}}'),
    body("Infinity", b'{"description":"x","max_retries":Infinity}'),
    body("a number that is infinite", b'{"description":"x","metadata":{"a":1e999}}'),
    body("a lone surrogate", b'{"description":"\\ud800"}'),
    body("a raw control character", b'{"description":"a\x01b"}'),
    body("a comment", b'{"description":"x"} // mine'),
    body("nested too deeply", DEEP, "json_too_deep"),
    body("nested too deeply, with a large number", DEEP_AND_LONG, "json_too_deep"),
    body("nested far too deeply", DEEPER),
    body("a key twice", b'{"description":"x","description":"y"}', "duplicate_key"),
    body("a key twice, inside", b'{"description":"x","metadata":{"a":1,"b":{"c":1, "c" :2}}}', "duplicate_key"),
    body("a key twice, with a colon", b'{"description":"\\u003a","description" :"y"}', "duplicate_key"),
    body("a key twice, escaped", b'{"description":"x","metadata":{"a":1,"\\u0061":2}}', "duplicate_key"),
    body("gzip", gzip.compress(b"{}"), "unsupported_content_encoding", 415, **{"content-encoding": "gzip"}),
    body(
        "a form",
        b"description=x",
        "unsupported_media_type",
        415,
        **{"content-type": "application/x-www-form-urlencoded"},
    ),
    body("plain text", b'{"description":"x"}', "unsupported_media_type", 415, **{"content-type": "text/plain"}),
    body("a type that is none", b'{"description":"x"}', "unsupported_media_type", 415, **{"content-type": "json"}),
    body("8 MB and more", b'{"description":"' + b"x" * 8_000_000 + b'"}', "body_too_large", 413),
    # Who asks.
    Mistake("no token", 401, "unauthorized", headers={"authorization": ""}),
    Mistake("the bare token", 401, "unauthorized", headers={"authorization": "a" * 64}),
    Mistake("Basic", 401, "unauthorized", headers={"authorization": "Basic dTpw"}),
    Mistake("an unknown token", 401, "unauthorized", token="f" * 64),
    Mistake("an empty token", 401, "unauthorized", headers={"authorization": "Bearer "}),
    Mistake("an endless token", 401, "unauthorized", token="f" * 5_000),
    Mistake("a token in the query", 401, "unauthorized", path=f"{TASKS}?token=abc", headers={"authorization": ""}),
    Mistake("an agent among admins", 403, "admin_only", "POST", "/admin/tokens", b'{"agent_id":"x"}', JSON),
    Mistake("an agent revokes", 403, "admin_only", "DELETE", "/admin/tokens/w2"),
    # Paths and methods.
    Mistake("an unknown path", 404, "not_found", path="/api/nothing"),
    Mistake("the root", 404, "not_found", path="/"),
    Mistake("an unknown method", 404, "not_found", "PATCH"),
    Mistake("OPTIONS", 404, "not_found", "OPTIONS"),
    Mistake("GET where POST is", 404, "not_found", path="/api/onboard/register"),
    Mistake("a path in capitals", 404, "not_found", path="/API/TASKS"),
    Mistake("a double slash", 404, "not_found", path="//api/tasks"),
    Mistake("a slash in an id", 404, "not_found", path=f"{TASKS}/a%2Fb"),
    Mistake("an unknown task", 404, "task_not_found", path=f"{TASKS}/task-0123456789abcdef"),
    Mistake("a broken escape in an id", 404, "task_not_found", path=f"{TASKS}/%zz"),
    Mistake("invalid UTF-8 in an id", 404, "task_not_found", path=f"{TASKS}/%ff%fe"),
    Mistake("a colon in an id", 404, "task_not_found", path=f"{TASKS}/task-1:history"),
    Mistake("a NUL in an id", 404, "task_not_found", path=f"{TASKS}/task-%00"),
    Mistake("an endless id", 404, "task_not_found", path=f"{TASKS}/{'x' * 5_000}"),
    Mistake("retry of an unknown task", 404, "task_not_found", "POST", f"{TASKS}/task-0/retry"),
    Mistake("cancel of an unknown task", 404, "task_not_found", "POST", f"{TASKS}/task-0/cancel"),
    Mistake("an unknown agent", 404, "agent_not_found", path="/api/agents/nobody/state"),
    Mistake("an agent id that is none", 404, "agent_not_found", path="/api/agents/a:b/state"),
    # The query.
    Mistake("a cursor of one's own", 422, "invalid_cursor", path=f"{TASKS}?cursor=2"),
    Mistake("a cursor that is no base64", 422, "invalid_cursor", path=f"{TASKS}?cursor=%C3%A9%C3%A9"),
    Mistake("an empty cursor", 422, "invalid_cursor", path=f"{TASKS}?cursor="),
    Mistake("an endless cursor", 422, "invalid_cursor", path=f"{TASKS}/dead-letter?cursor={'QQ' * 900}"),
    Mistake("a cursor for agents", 422, "invalid_cursor", path="/api/agents?cursor=%20"),
    Mistake("a broken escape in the query", 400, "invalid_query", path=f"{TASKS}?status=%zz"),
    Mistake("invalid UTF-8 in the query", 400, "invalid_query", path=f"{TASKS}?status=%ff"),
    Mistake("a hundred parameters", 400, "invalid_query", path=f"{TASKS}?{'a=1&' * 100}"),
    Mistake("an endless query", 400, "invalid_query", path=f"{TASKS}?a={'x' * 20_000}"),
    Mistake("a parameter twice", 400, "invalid_query", path=f"{TASKS}?limit=1&limit=2"),
    Mistake("a parameter twice, the same", 400, "invalid_query", path=f"{TASKS}?limit=1&status=queued&li%6dit=1"),
]


@pytest.mark.parametrize("mistake", REQUESTS, ids=lambda mistake: mistake.name)
async def test_a_request_gone_wrong(api: Api, mistake: Mistake) -> None:
    response = await api(
        mistake.method, mistake.path, token=mistake.token, content=mistake.content, headers=dict(mistake.headers)
    )
    answer = refused(response, mistake.status, mistake.code)
    if mistake.status == 401:
        assert answer["hint"]
        assert response.headers["www-authenticate"].startswith("Bearer")
    if mistake.status == 413:
        assert response.headers["connection"] == "close"


@pytest.mark.parametrize("name", ["Idempotency-Key", "Authorization", "Content-Type", "X-Enrolment-Key"])
@pytest.mark.parametrize("second", ["same", "other"])
async def test_a_header_twice(api: Api, name: str, second: str) -> None:
    headers = {"authorization": f"Bearer {api.agent}", "content-type": "application/json"}
    first = headers.pop(name.lower(), "same")
    repeated = [*headers.items(), (name, first), (name.lower(), first if second == "same" else second)]
    response = await api.client.post(TASKS, content=b'{"description":"x"}', headers=repeated)
    assert refused(response, 400, "duplicate_header")["header"] == name.lower()
    assert (await api("GET", TASKS)).json()["count"] == 0


async def test_other_headers_may_come_twice(api: Api) -> None:
    twice = [("authorization", f"Bearer {api.agent}"), ("accept", "a/b"), ("accept", "c/d")]
    assert (await api.client.get(TASKS, headers=twice)).status_code == 200


FIELDS: list[tuple[str, dict[str, Any], dict[str, str]]] = [
    ("nothing", {}, {"description": "required"}),
    ("null", {"description": None}, {"description": "required"}),
    ("a number for a text", {"description": 5}, {"description": "wrong_type"}),
    ("a list for a text", {"description": ["x"]}, {"description": "wrong_type"}),
    ("a long text", {"description": "x" * 10_001}, {"description": "too_long"}),
    ("an empty text", {"description": ""}, {"description": "required"}),
    ("a blank text", {"description": " \t\n\u3000"}, {"description": "required"}),
    ("a NUL", {"description": "a\x00b"}, {"description": "invalid_format"}),
    ("no end of accents", {"description": "a" + "\u0301" * 400_000}, {"description": "too_long"}),
    ("a priority of one's own", {"priority": "asap"}, {"priority": "unknown_value"}),
    ("a priority in capitals", {"priority": "HIGH"}, {"priority": "unknown_value"}),
    ("a priority as number", {"priority": 1}, {"priority": "wrong_type"}),
    ("an empty priority", {"priority": ""}, {"priority": "unknown_value"}),
    ("negative retries", {"max_retries": -1}, {"max_retries": "out_of_range"}),
    ("many retries", {"max_retries": 101}, {"max_retries": "out_of_range"}),
    ("retries as text", {"max_retries": "3"}, {"max_retries": "wrong_type"}),
    ("retries as float", {"max_retries": 3.0}, {"max_retries": "wrong_type"}),
    ("retries as boolean", {"max_retries": True}, {"max_retries": "wrong_type"}),
    ("retries past 2^53", {"max_retries": 2**60}, {"max_retries": "out_of_range"}),
    ("no deliveries", {"max_deliveries": 0}, {"max_deliveries": "out_of_range"}),
    ("a negative back-off", {"retry_backoff_ms": -5}, {"retry_backoff_ms": "out_of_range"}),
    ("a back-off of a year", {"retry_backoff_ms": 31_536_000_000}, {"retry_backoff_ms": "out_of_range"}),
    ("a negative run time", {"max_runtime_ms": -1}, {"max_runtime_ms": "out_of_range"}),
    ("a deadline in the past", {"complete_by": 1_000_000_000_000}, {"complete_by": "out_of_range"}),
    ("a deadline in seconds", {"complete_by": 1_900_000_000}, {"complete_by": "out_of_range"}),
    ("a deadline in microseconds", {"complete_by": 1_900_000_000_000_000}, {"complete_by": "out_of_range"}),
    ("a deadline before Christ", {"expires_at": -62_200_000_000_000}, {"expires_at": "out_of_range"}),
    ("a deadline as text", {"expires_at": "2030-01-01"}, {"expires_at": "wrong_type"}),
    ("a start in 1970", {"run_at": 0}, {"run_at": "out_of_range"}),
    ("metadata as list", {"metadata": [1]}, {"metadata": "wrong_type"}),
    ("metadata as text", {"metadata": "{}"}, {"metadata": "wrong_type"}),
    ("much metadata", {"metadata": {"a": "x" * 262_144}}, {"metadata": "too_long"}),
    ("a NUL in metadata", {"metadata": {"a": ["b\x00"]}}, {"metadata.a[0]": "invalid_format"}),
    ("a NUL in a key", {"metadata": {"a": {"b\x00": 1}}}, {"metadata.a": "invalid_format"}),
    ("a huge number in metadata", {"metadata": {"a": {"b": 2**63}}}, {"metadata.a.b": "out_of_range"}),
    ("capabilities as text", {"needed_capabilities": "code"}, {"needed_capabilities": "wrong_type"}),
    ("a capability as number", {"needed_capabilities": ["a", 1]}, {"needed_capabilities[1]": "wrong_type"}),
    ("an empty capability", {"needed_capabilities": [""]}, {"needed_capabilities[0]": "invalid_format"}),
    ("a line break in one", {"needed_capabilities": ["a\nb"]}, {"needed_capabilities[0]": "invalid_format"}),
    ("a long capability", {"needed_capabilities": ["x" * 129]}, {"needed_capabilities[0]": "too_long"}),
    ("many capabilities", {"needed_capabilities": ["x"] * 65}, {"needed_capabilities": "too_long"}),
    ("a target that is no id", {"target_agent": "a b"}, {"target_agent": "invalid_format"}),
    ("a target in metadata", {"metadata": {"target_agent": 5}}, {"metadata.target_agent": "invalid_format"}),
    (
        "two targets",
        {"target_agent": "a", "metadata": {"target_agent": "b"}},
        {"metadata.target_agent": "conflict"},
    ),
    ("an empty key", {"idempotency_key": ""}, {"idempotency_key": "invalid_format"}),
    ("a long key", {"idempotency_key": "k" * 256}, {"idempotency_key": "too_long"}),
    ("a key with a line break", {"idempotency_key": "a\r\nx: y"}, {"idempotency_key": "invalid_format"}),
]


@pytest.mark.parametrize(("fields", "expected"), [case[1:] for case in FIELDS], ids=[case[0] for case in FIELDS])
async def test_a_field_gone_wrong(api: Api, fields: dict[str, Any], expected: dict[str, str]) -> None:
    complete = fields if not fields or "description" in fields else {"description": "x", **fields}
    response = await api("POST", TASKS, complete)
    assert field_codes(response) == expected
    assert len(response.content) < 2_000
    assert (await api("GET", TASKS)).json()["count"] == 0


QUERIES = [
    (f"{TASKS}?status=running", "status", "unknown_value"),
    (f"{TASKS}?status=", "status", "unknown_value"),
    (f"{TASKS}?priority=2", "priority", "unknown_value"),
    (f"{TASKS}?assigned_to=a%20b", "assigned_to", "invalid_format"),
    (f"{TASKS}?limit=ten", "limit", "wrong_type"),
    (f"{TASKS}?limit=1.5", "limit", "wrong_type"),
    (f"{TASKS}?limit=%D9%A3", "limit", "wrong_type"),
    (f"{TASKS}?limit={'9' * 5_000}", "limit", "wrong_type"),
    (f"{TASKS}?limit=0", "limit", "out_of_range"),
    (f"{TASKS}?limit=-1", "limit", "out_of_range"),
    (f"{TASKS}?limit=1001", "limit", "out_of_range"),
    (f"{TASKS}/dead-letter?priority=all", "priority", "unknown_value"),
    ("/api/agents?limit=-5", "limit", "out_of_range"),
]


@pytest.mark.parametrize(("path", "name", "code"), QUERIES, ids=[case[0][:40] for case in QUERIES])
async def test_a_query_gone_wrong(api: Api, path: str, name: str, code: str) -> None:
    assert field_codes(await api("GET", path)) == {name: code}


@pytest.mark.parametrize("key", [b"", b"k" * 256, b"\xe9"])
async def test_an_idempotency_header_gone_wrong(api: Api, key: bytes) -> None:
    headers = {"idempotency-key": key}
    response = await api("POST", TASKS, {"description": "x"}, headers=headers)
    assert list(field_codes(response)) == ["Idempotency-Key"]


async def test_two_idempotency_keys(api: Api) -> None:
    response = await api("POST", TASKS, {"description": "x", "idempotency_key": "a"}, headers={"idempotency-key": "b"})
    assert field_codes(response) == {"idempotency_key": "conflict"}


async def test_deadlines_before_the_start(api: Api) -> None:
    now = await api.store.services.now()
    times = {"run_at": now + 9_000, "expires_at": now + 8_000, "complete_by": now + 9_000}
    response = await api("POST", TASKS, {"description": "x", **times})
    assert field_codes(response) == {"complete_by": "out_of_range", "expires_at": "out_of_range"}


async def test_all_failing_fields_are_named_required_ones_first(api: Api) -> None:
    response = await api("POST", TASKS, {"priority": 1, "metadata": [], "max_retries": "x", "unknown": 1})
    assert list(field_codes(response).items()) == [
        ("description", "required"),
        ("max_retries", "wrong_type"),
        ("metadata", "wrong_type"),
        ("priority", "wrong_type"),
    ]
    errors = response.json()["errors"]
    assert "value" not in errors[0]
    assert (errors[3]["value"], "integer" in errors[3]["detail"]) == (1, True)


async def test_a_long_value_is_shown_by_its_beginning(api: Api) -> None:
    response = await api("POST", TASKS, {"description": "ab" * 6_000})
    assert response.json()["errors"][0]["value"] == "ab" * 25 + "..."


@pytest.mark.parametrize("content", [b"[1]", b"null", b"5", b'"text"'])
async def test_a_body_that_is_no_object_lacks_its_fields(api: Api, content: bytes) -> None:
    assert field_codes(await api("POST", TASKS, content=content, headers=JSON)) == {"description": "required"}


async def test_a_body_without_a_type_is_not_read_and_the_answer_says_so(api: Api) -> None:
    response = await api("POST", TASKS, content=b'{"description":"x"}')
    assert field_codes(response) == {"description": "required"}
    assert "application/json" in response.json()["hint"]


async def test_a_bad_body_comes_before_a_bad_token(api: Api) -> None:
    response = await api("POST", TASKS, content=b"{", headers=JSON, token="f" * 64)
    refused(response, 400, "invalid_json")


async def test_a_large_body_is_not_read_from_strangers(api: Api) -> None:
    response = await api("POST", TASKS, content=b"{" * 100_000, headers=JSON, token="f" * 64)
    refused(response, 401, "unauthorized")


HUGE = [
    (b'{"description":"x","metadata":{"n":123456789012345678901234567890}}', {"metadata.n": "out_of_range"}),
    (b'{"description":"x","metadata":{"a":[-18446744073709551616]}}', {"metadata.a[0]": "out_of_range"}),
    (b'{"description":"x","max_retries":123456789012345678901234567890}', {"max_retries": "out_of_range"}),
    (b'{"description":123456789012345678901234567890}', {"description": "wrong_type"}),
    (b'{"description":[123456789012345678901234567890]}', {"description": "wrong_type"}),
]


@pytest.mark.parametrize(("content", "expected"), HUGE)
async def test_numbers_of_more_than_64_bits_are_refused(api: Api, content: bytes, expected: dict[str, str]) -> None:
    """Read as floats they would be other numbers."""
    assert field_codes(await api("POST", TASKS, content=content, headers=JSON)) == expected


async def test_a_number_without_end_is_refused(api: Api) -> None:
    content = b'{"description":"x","metadata":{"n":%b}}' % (b"7" * 5_000)
    refused(await api("POST", TASKS, content=content, headers=JSON), 400, "invalid_json")


@pytest.mark.parametrize(
    "content",
    [
        orjson.dumps({"description": 'a":"b', "metadata": {'k":': 'v":'}}),
        b'{ "description" : "x" , "metadata" : { "\\u0022:" : "\\":" , "a" : {"a" : 1} } }',
        b'{"description":"x","metadata":{"big":9007199254740992,"neg":-9007199254740992,"f":1e300}}',
    ],
    ids=["quotes", "spaces and escapes", "exact numbers"],
)
async def test_odd_but_right_bodies_are_taken(api: Api, content: bytes) -> None:
    response = await api(
        "POST", TASKS, content=content, headers={"content-type": "application/vnd.x+json; charset=utf-8"}
    )
    assert response.status_code == 201, response.text
    stored = (await api("GET", f"{TASKS}/{response.json()['task_id']}")).json()
    sent = orjson.loads(content)
    assert (stored["description"], stored["metadata"]) == (sent["description"], sent["metadata"])


async def test_ten_thousand_characters_of_any_length_fit(api: Api) -> None:
    family = "👩‍👩‍👧"
    await api.submit(description=family * 10_000, metadata={})
    response = await api("POST", TASKS, {"description": family * 10_001})
    assert field_codes(response) == {"description": "too_long"}


async def test_sixty_four_levels_fit(api: Api) -> None:
    nested: Any = 1
    for _ in range(63):
        nested = {"a": nested}
    task_id = await api.submit(metadata=nested)
    assert (await api("GET", f"{TASKS}/{task_id}")).json()["metadata"] == nested


async def test_a_request_id_of_the_client_is_kept_if_it_is_a_plain_word(api: Api) -> None:
    kept = await api("GET", TASKS, headers={"x-request-id": "trace-1.a_B"})
    assert kept.headers["x-request-id"] == "trace-1.a_B"
    for bad in ("a b", "x" * 129, "a\tb", "<script>", ""):
        replaced = await api("GET", TASKS, headers={"x-request-id": bad})
        assert replaced.headers["x-request-id"] not in (bad, "")


async def test_a_slash_at_the_end_does_not_matter(api: Api) -> None:
    task_id = await api.submit()
    for path in (f"{TASKS}/", f"{TASKS}/stats/", f"{TASKS}/{task_id}/", "/health/"):
        assert (await api("GET", path)).status_code == 200
