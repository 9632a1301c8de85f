"""The documentation page: the OpenAPI document as HTML, without anything from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import Any, Final

from agentcom.wire.fields import MAX_INTEGER

Document = dict[str, Any]

_STYLE: Final = """
:root{color-scheme:light dark;--line:#8884;--get:#2a7d4f;--post:#2563b8;--put:#a15c00;--delete:#b3261e}
@media (prefers-color-scheme:dark){:root{--get:#6cc391;--post:#82b1f0;--put:#e0a458;--delete:#f0857d}}
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
code{font:13px/1.45 ui-monospace,monospace;overflow-wrap:anywhere}
nav a{margin-right:1rem}
details{border:1px solid var(--line);border-radius:6px;margin:.4rem 0;padding:.1rem .75rem}
details[open]{padding-bottom:.5rem}
summary{cursor:pointer;padding:.4rem 0}
.m{display:inline-block;min-width:4.5rem;font-weight:700}
.get{color:var(--get)}.post{color:var(--post)}.put{color:var(--put)}.delete{color:var(--delete)}
.s{opacity:.75;margin-left:.75rem}
.t{overflow-x:auto}
h4{margin:.75rem 0 .25rem}
p{margin:.4rem 0}
table{border-collapse:collapse;width:100%}
td,th{border-bottom:1px solid var(--line);text-align:left;vertical-align:top;padding:.25rem .75rem .25rem 0}
[id]{scroll-margin-top:4rem}
"""
_INTRO: Final = (
    "Send a token as <code>Authorization: Bearer …</code>, and bodies as <code>application/json</code>. A refusal is "
    "an <a href='#Error'>Error</a>: its <code>error</code> is for programs, its <code>message</code> for people."
)


def render_page(document: Document) -> str:
    """The whole page."""
    info = document["info"]
    by_tag: dict[str, list[str]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            by_tag.setdefault(operation["tags"][0], []).append(_operation(method, path, operation))
    return "".join(
        [
            "<!doctype html><html lang=en><meta charset=utf-8>",
            "<meta name=viewport content='width=device-width,initial-scale=1'>",
            f"<title>{escape(info['title'])} API</title><style>{_STYLE}</style>",
            f"<h1>{escape(info['title'])} API <small>{escape(info['version'])}</small></h1>",
            f"<p>{escape(info['description'])} For programs: <a href='openapi.json'>openapi.json</a>.</p>",
            f"<p>{_INTRO}</p><nav>",
            *(f"<a href='#tag-{escape(tag)}'>{escape(tag.capitalize())}</a> " for tag in by_tag),
            "<a href='#shapes'>Shapes</a></nav>",
            *(_section(tag, operations) for tag, operations in by_tag.items()),
            "<h2 id=shapes>Shapes</h2>",
            *(_shape(name, schema) for name, schema in document["components"]["schemas"].items()),
            "</html>",
        ]
    )


def _section(tag: str, operations: Iterable[str]) -> str:
    return f"<h2 id='tag-{escape(tag)}'>{escape(tag.capitalize())}</h2>{''.join(operations)}"


def _operation(method: str, path: str, operation: Document) -> str:
    parameters = [
        (f"<code>{escape(found['name'])}</code>", found["in"], _described(found["schema"]))
        for found in operation.get("parameters", [])
    ]
    done = {status: answer for status, answer in operation["responses"].items() if int(status) < 300}
    refused = [
        f"{status} <span class=s>{escape(answer['description'])}</span>"
        for status, answer in operation["responses"].items()
        if status not in done
    ]
    body = operation.get("requestBody")
    limit = f" Rate limit: {escape(operation['x-rate-limit'])}." if "x-rate-limit" in operation else ""
    return "".join(
        [
            f"<details><summary><span class='m {method}'>{method.upper()}</span><code>{escape(path)}</code>",
            f"<span class=s>{escape(operation['summary'])}</span></summary>",
            f"<div id='{escape(operation['operationId'])}'><p>{escape(operation['description'])}{limit}</p>",
            _table(("parameter", "in", "type"), parameters),
            f"<p>Body: {_content(body['content'])}</p>" if body else "",
            *(f"<p>{status}: {_content(answer['content'])}</p>" for status, answer in done.items()),
            f"<p>Refusals:<br>{'<br>'.join(refused)}</p></div></details>",
        ]
    )


def _content(content: Document) -> str:
    [(media_type, described)] = content.items()
    return _type(described["schema"]) if media_type == "application/json" else escape(media_type)


def _shape(name: str, schema: Document) -> str:
    required = schema.get("required", ())
    fields = [
        (f"<code>{escape(field)}</code>", "" if field in required else "may be left out", _described(described))
        for field, described in schema.get("properties", {}).items()
    ]
    inside = f"<p>{escape(schema['description'])}</p>" if "description" in schema and fields else ""
    inside += _table(("field", "", "type"), fields) if fields else f"<p>{_described(schema)}</p>"
    name = escape(name)
    # Browsers open what is closed around the target of a link, so that is inside.
    return f"<details><summary><code>{name}</code></summary><div id='{name}'>{inside}</div></details>"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    lines = "".join(f"<tr><td>{'<td>'.join(row)}" for row in rows)
    return f"<div class=t><table><tr><th>{'<th>'.join(head)}{lines}</table></div>"


def _described(schema: Document) -> str:
    """Its type, what bounds it, and what it means."""
    words = [_type(schema), *map(escape, _bounds(schema))]
    if "description" in schema and "properties" not in schema:
        words.append(escape(schema["description"]))
    return ", ".join(words)


def _type(schema: Document) -> str:
    match schema:
        case {"$ref": reference}:
            name = escape(reference.rpartition("/")[2])
            return f"<a href='#{name}'>{name}</a>"
        case {"anyOf": choices}:
            return " or ".join(map(_type, choices))
        case {"const": value}:
            return f"<code>{escape(str(value))}</code>"
        case {"enum": values}:
            return " | ".join(f"<code>{'null' if value is None else escape(str(value))}</code>" for value in values)
        case {"type": "array", "items": items}:
            return f"list of {_type(items)}"
        case {"type": ["array", "null"], "items": items}:
            return f"list of {_type(items)} or null"
        case {"type": "object", "additionalProperties": dict(values)}:
            return f"object of {_type(values)}"
        case {"type": [*kinds]}:
            return escape(" or ".join(kinds))
    return escape(schema.get("type", "anything"))


def _bounds(schema: Document) -> Iterator[str]:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and low > -MAX_INTEGER:
        yield f"from {low:,}" if high is None or high >= MAX_INTEGER else f"from {low:,} to {high:,}"
    elif high is not None and high < MAX_INTEGER:
        yield f"to {high:,}"
    if "maxLength" in schema:
        yield f"up to {schema['maxLength']:,} characters"
    if "maxItems" in schema:
        yield f"up to {schema['maxItems']:,}"
    if "pattern" in schema:
        yield f"matching {schema['pattern']}"
